"""Clock and load of a board's GPU by the kernel's devfreq class, as Jetsons and Raspberry Pis have it."""

from collections.abc import Sequence
from functools import partial

from melt.spec.profile import Sensors
from melt.telemetry.kinds.base import SLOW_MS, Findings, Precedence, SensorKind
from melt.telemetry.source import Inventory, Source

_FOLDERS = "/sys/class/devfreq/*"
GPU_NODES = ("gv11b", "ga10b", "gb10b", "gpu", "v3d", "mali")
_Source = partial(Source, sensor="kernel", site="gpu", native_period_s=0.01)


def find(inventory: Inventory, _sensors: Sensors, _earlier: Sequence[Source]) -> Findings:
    """Of those clocks that are a GPU's."""
    findings = Findings()
    for path in inventory.matching(f"{_FOLDERS}/cur_freq"):
        folder = path.rsplit("/", 1)[0]
        node = devfreq_node(inventory, folder)
        if not node.startswith(GPU_NODES):
            continue
        findings.add(_Source(name=f"gpu:{node}:frequency", quantity="frequency_hz"), path, SLOW_MS)
        if inventory.number(f"{folder}/device/load") is not None:
            load = _Source(name=f"gpu:{node}:load", quantity="utilisation", scale=1e-3)
            findings.add(load, f"{folder}/device/load", SLOW_MS)
    return findings


def devfreq_node(inventory: Inventory, folder: str) -> str:
    """What a scaled clock is of, by the device tree; by its own name on a Thor, whose GPU is on PCIe."""
    return inventory.text(f"{folder}/device/of_node/name") or folder.rsplit("/", 1)[1]


KIND = SensorKind(
    find,
    Precedence.KERNEL,
    globs=tuple(f"{_FOLDERS}/{f}" for f in ("cur_freq", "device/load", "device/of_node/name")),
)
