"""What all programs hold of a Jetson's one memory for its GPU, of which their resident sets tell nothing."""

import re
from collections.abc import Sequence
from functools import partial

from melt.spec.profile import Sensors
from melt.telemetry.kinds.base import SLOW_MS, Findings, Precedence, SensorKind, why
from melt.telemetry.parsers import apply
from melt.telemetry.source import Inventory, Source

_CLIENTS, _MEMINFO, _TREE = "/sys/kernel/debug/nvmap/iovmm/clients", "/proc/meminfo", "/proc/device-tree/compatible"
_Source = partial(
    Source,
    name="gpu:memory",
    quantity="memory_bytes",
    memory="allocated",
    scale=1024,
    sensor="kernel",
    site="gpu",
    native_period_s=0.01,
)
_HINT = "Kernels that do not say it in /proc/meminfo tell root alone. See the memory available to the board."


def find(inventory: Inventory, _sensors: Sensors, _earlier: Sequence[Source]) -> Findings:
    """By /proc/meminfo where the kernel says it there, else by nvmap's own file."""
    findings = Findings()
    if "NvMapMemUsed:" in (inventory.text(_MEMINFO) or ""):
        findings.add(_Source(parser="named", key="NvMapMemUsed"), _MEMINFO, SLOW_MS, ("NvMapMemUsed:",))
    elif apply(nvmap_total, inventory.text(_CLIENTS) or "") is not None:
        findings.add(_Source(parser="nvmap_total"), _CLIENTS, SLOW_MS, ("total ",))
    elif "tegra" in (inventory.text(_TREE) or ""):
        findings.miss("gpu:memory", why(inventory, _CLIENTS), _HINT, "memory_bytes")
    return findings


def nvmap_total(raw: str, _key: str) -> float | None:
    """KiB, from the last line of nvmap's clients."""
    match = re.search(r"^total\s+([0-9]+)K\s*$", raw, re.M)
    return float(match[1]) if match else None


KIND = SensorKind(find, Precedence.KERNEL, globs=(_CLIENTS, _MEMINFO, _TREE), parsers={"nvmap_total": nvmap_total})
