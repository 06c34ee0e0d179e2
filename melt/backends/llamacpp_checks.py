"""Whether llama.cpp's two runners can be had on this machine, for ``melt doctor``."""

import importlib.util
from importlib.metadata import version

from melt.errors import MeltError
from melt.spec.check import Check
from melt.toolchain.compilers import identity, program
from melt.toolchain.targets import TARGETS

_MODULE, _DISTRIBUTION = "llama_cpp", "llama-cpp-python"


def host_checks() -> tuple[Check, ...]:
    """The Python runner's package, and what compiles the native one."""
    return _python_runner(), _native_runner()


def _python_runner() -> Check:
    if importlib.util.find_spec(_MODULE) is None:
        fix = "pip install 'melt-bench[local]' (it compiles for some minutes); not needed to measure other devices."
        return Check(_DISTRIBUTION, "warning", "not installed, so this machine itself cannot be measured", fix)
    return Check(_DISTRIBUTION, "ok", version(_DISTRIBUTION))


def _native_runner() -> Check:
    missing: dict[str, str] = {}
    for name in ("host", "linux-aarch64-musl"):
        try:
            identity(TARGETS[name])
        except MeltError as e:
            missing[e.message] = e.hint
    for tool in ("cmake", "ninja"):
        try:
            program(tool)
        except MeltError as e:
            missing[e.message] = e.hint
    if not missing:
        return Check("native runner", "ok", "can be built: melt runner list")
    problem = f"cannot be built for everything: {'; '.join(missing)}"
    return Check("native runner", "warning", problem, " ".join(dict.fromkeys(missing.values())))
