"""Temperatures by the kernel's thermal zones, and by hwmon for AMD and Intel processors without a zone."""

from collections.abc import Sequence

from melt.spec.profile import Sensors
from melt.telemetry.kinds.base import SLOW_MS, Findings, Precedence, SensorKind, why
from melt.telemetry.source import Inventory, Site, Source

_ZONE, _CHIP = "/sys/class/thermal/thermal_zone*", "/sys/class/hwmon/hwmon*"
MAX_ZONES = 32
CONSTANT_ZONES = ("PMIC-Die",)  # of Jetsons
CPU_TEMPERATURE_CHIPS = ("k10temp", "coretemp", "zenpower")
PACKAGE_ZONE = "x86_pkg_temp"
_PROCESSOR_WORDS = ("cpu", "x86_pkg", "soc", "tj", *CPU_TEMPERATURE_CHIPS, "package")


def find(inventory: Inventory, _sensors: Sensors, _earlier: Sequence[Source]) -> Findings:
    """Every zone that can be read, now or later."""
    findings = Findings()
    taken: set[str] = set()
    for path in inventory.matching(f"{_ZONE}/type")[:MAX_ZONES]:
        zone = inventory.text(path) or path.split("/")[-2]
        temp = path.removesuffix("type") + "temp"
        name = f"thermal:{zone}" if f"thermal:{zone}" not in taken else f"thermal:{zone}@{path.split('/')[-2]}"
        taken.add(name)
        if zone in CONSTANT_ZONES:
            findings.miss(name, "it always says the same: 50 degrees, or 100", quantity="temperature_c")
            continue
        if inventory.number(temp) is None:
            findings.miss(name, why(inventory, temp), quantity="temperature_c")
            if inventory.error(temp) != "EAGAIN":  # a part that is off now may be on when the model runs
                continue
        findings.add(_source(name, zone), temp, SLOW_MS)
    for path in inventory.matching(f"{_CHIP}/name"):
        chip, temp = inventory.text(path) or "", path.removesuffix("name") + "temp1_input"
        is_told = f"thermal:{PACKAGE_ZONE}" in taken
        if chip in CPU_TEMPERATURE_CHIPS and inventory.number(temp) is not None and not is_told:
            findings.add(_source(f"thermal:{chip}", chip), temp, SLOW_MS)
    return findings


def _source(name: str, zone: str) -> Source:
    return Source(
        name=name,
        parser="millidegrees",
        quantity="temperature_c",
        scale=1e-3,
        sensor="kernel",
        site=_site(zone.lower()),
        rail=zone,
        native_period_s=SLOW_MS / 1000,
    )


def _site(zone: str) -> Site:
    """Where a zone is, by the name that the device's maker gave it."""
    if "gpu" in zone:
        return "gpu"
    if "skin" in zone:
        return "skin"
    return "cpu" if any(word in zone for word in _PROCESSOR_WORDS) else "system"


def millidegrees(raw: str, _key: str) -> float | None:
    """A thermal zone; Tegra's say -256 degrees for a part that is off."""
    value = float(raw)
    return value if -100_000 < value < 300_000 else None


KIND = SensorKind(
    find,
    Precedence.KERNEL,
    globs=(*(f"{_ZONE}/{f}" for f in ("type", "temp")), *(f"{_CHIP}/{f}" for f in ("name", "temp1_input"))),
    parsers={"millidegrees": millidegrees},
)
