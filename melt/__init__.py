"""melt: language models measured on the devices they will run on.

    import melt

    melt.run(melt.Plan(devices=("local",), models=("pypi:smollm2-135m",), context=(128, 512)))
    results = melt.load("results/")
    results.cells  # a pandas frame: medians over sessions, with confidence intervals

Nothing heavy is imported until it is used.
"""

from melt.version import __version__

TYPE_CHECKING = False  # as typing has it, which would be most of what this file brings: Ctrl-C is not held yet
if TYPE_CHECKING:
    from typing import Any

    from melt.analysis.frames import Results, load
    from melt.drivers.profiles import load_profile
    from melt.errors import MeltError
    from melt.execution.plan import run
    from melt.spec.cell import Cell
    from melt.spec.plan import Plan, load_plan
    from melt.spec.profile import DeviceProfile

_HOMES = {
    "Results": "melt.analysis.frames",
    "load": "melt.analysis.frames",
    "MeltError": "melt.errors",
    "Cell": "melt.spec.cell",
    "Plan": "melt.spec.plan",
    "load_plan": "melt.spec.plan",
    "DeviceProfile": "melt.spec.profile",
    "load_profile": "melt.drivers.profiles",
    "run": "melt.execution.plan",
}

__all__ = [
    "Cell",
    "DeviceProfile",
    "MeltError",
    "Plan",
    "Results",
    "__version__",
    "load",
    "load_plan",
    "load_profile",
    "run",
]


def __getattr__(name: str) -> "Any":
    if name not in _HOMES:
        raise AttributeError(f"module 'melt' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
