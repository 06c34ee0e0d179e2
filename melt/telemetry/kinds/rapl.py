"""Energy counters of x86 processors by powercap RAPL.

Zones (kernel: Documentation/power/powercap): ``package-N`` holds ``core`` and ``uncore``; ``dram`` lies beside
the package's own figure although it is filed under it; ``psys`` is the whole platform and holds them all. Zones
``package-N-die-M`` are a counter a die on some processors, and one counter told M times on others (AMD's first two
generations of EPYC and Threadripper).
"""

from collections.abc import Sequence
from functools import partial

from melt.spec.profile import Sensors
from melt.telemetry.kinds.base import LINUX, Findings, Precedence, SensorKind, why
from melt.telemetry.source import Inventory, Source

GLOBS = tuple(f"/sys/class/powercap/*/{f}" for f in ("name", "energy_uj", "max_energy_range_uj"))
COUNTER_STATES = 2**32  # the hardware counter has 32 bits, whatever its unit is worth
NATIVE_PERIOD_S = 0.001
_DIE = "-die-"
# Read within some milliseconds one counter moves by less than this; two that count apart are this close by chance once
# in ten thousand times.
_SAME_COUNTER = 1e-4
_Source = partial(
    Source,
    quantity="energy_j",
    scale=1e-6,
    sensor="RAPL",
    sign="load_positive",
    native_period_s=NATIVE_PERIOD_S,
)
DENIED_HINT = (
    "Since CVE-2020-8694 only root may read it. On that machine: sudo chmod a+r /sys/class/powercap/*/energy_uj, which "
    "lasts until its next boot; or measure as root there."
)
NONE_HINT = "No RAPL: not an x86 processor of the last ten years, a virtual machine, or `modprobe intel_rapl_msr`."


def find(inventory: Inventory, sensors: Sensors, _earlier: Sequence[Source]) -> Findings:
    """Every RAPL zone; those of the memory-mapped twin interface are passed over, as they say the same."""
    findings = Findings()
    names: set[str] = set()
    zones = [p.rsplit("/", 1)[0] for p in inventory.matching("/sys/class/powercap/*/name")]
    for zone in zones:
        folder = zone.rsplit("/", 1)[1]
        kind = inventory.text(f"{zone}/name") or ""
        if "mmio" in folder or folder.count(":") == 0:
            continue
        name = f"rapl:{kind}" if folder.count(":") == 1 else f"rapl:{_package(inventory, folder)}:{kind}"
        if name in names:
            name = f"{name}@{folder}"
        names.add(name)
        if inventory.number(f"{zone}/energy_uj") is None:
            denied = inventory.error(f"{zone}/energy_uj") in ("EACCES", "EPERM")
            findings.miss(name, why(inventory, f"{zone}/energy_uj"), DENIED_HINT if denied else "", "energy_j")
            continue
        twin = _twin(inventory, zones[: zones.index(zone)], zone)
        if twin:
            findings.miss(name, f"it says the same as {twin}: one counter, told twice", quantity="energy_j")
            continue
        if inventory.number(f"{zone}/energy_uj") == 0:
            findings.miss(name, "it says 0: this processor does not count it", quantity="energy_j")
            continue
        range_uj = inventory.number(f"{zone}/max_energy_range_uj")
        source = _Source(
            name=name,
            site="system" if kind == "psys" else "cpu_package",
            rail=kind,
            inside=_holders(inventory, zone, kind),
            wrap_at=range_uj * 1e-6 if range_uj else None,
            resolution=range_uj * 1e-6 / COUNTER_STATES if range_uj else None,
        )
        findings.add(source, f"{zone}/energy_uj", sensors.period_ms)
    if not names:
        findings.miss("rapl", "the machine has no powercap zones", NONE_HINT, "energy_j")
    return findings


def total(sources: Sequence[Source]) -> list[str]:
    """The zones that together are all that RAPL knows of, each joule once."""
    platform = [s.name for s in sources if s.rail == "psys"]
    return platform or [s.name for s in sources if s.rail.startswith("package") or s.rail == "dram"]


def _twin(inventory: Inventory, earlier: Sequence[str], zone: str) -> str:
    """The name of an earlier die of the same package whose counter is the same one; empty where there is none."""
    package, is_die, _ = (inventory.text(f"{zone}/name") or "").partition(_DIE)
    for other in earlier if is_die else ():
        name = inventory.text(f"{other}/name") or ""
        counts = [inventory.number(f"{z}/energy_uj") or 0.0 for z in (zone, other)]
        if name.startswith(package + _DIE) and abs(counts[0] - counts[1]) <= _SAME_COUNTER * max(counts):
            return name
    return ""


def _holders(inventory: Inventory, zone: str, kind: str) -> tuple[str, ...]:
    """The names of the zones that count what this one counts."""
    folder = zone.rsplit("/", 1)[1]
    package = (f"rapl:{_package(inventory, folder)}",) if folder.count(":") == 2 and kind != "dram" else ()
    kinds = {inventory.text(p) for p in inventory.matching("/sys/class/powercap/*/name")}
    return package + (("rapl:psys",) if "psys" in kinds and kind != "psys" else ())


def _package(inventory: Inventory, folder: str) -> str:
    return inventory.text(f"/sys/class/powercap/{folder.rsplit(':', 1)[0]}/name") or folder


KIND = SensorKind(find, Precedence.CHIP, platforms=(LINUX,), globs=GLOBS, total=total)
