"""Temperatures by the kernel's thermal zones, and by hwmon for AMD and Intel processors without a zone."""

import re
from collections.abc import Sequence

from melt.spec.profile import Sensors
from melt.telemetry.bounds import BOUNDS
from melt.telemetry.kinds.base import SLOW_MS, Findings, Precedence, SensorKind, why
from melt.telemetry.source import Inventory, Site, Source

_ZONE, _CHIP = "/sys/class/thermal/thermal_zone*", "/sys/class/hwmon/hwmon*"
_CHIP_FILES = tuple(f"temp{n}_{what}" for n in "12" for what in ("input", "label"))
MAX_ZONES = 32
CONSTANT_ZONES = ("PMIC-Die",)  # of Jetsons
CPU_TEMPERATURE_CHIPS = ("k10temp", "coretemp", "zenpower")
PACKAGE_ZONE = "x86_pkg_temp"
_COLDEST_C, _HOTTEST_C = BOUNDS["temperature_c"]
# Of phones: the state of charge, the battery's current and voltage, and limits of them, all by way of thermal zones.
_NO_TEMPERATURE = re.compile(r"soc|.*([iv]bat|vph|bcl).*", re.I)
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
            if inventory.error(temp) == "EAGAIN":  # a part that is off now may be on when the model runs
                findings.add(_source(name, zone), temp, SLOW_MS)
            continue
        unit = _unit_millidegrees(inventory.number(temp) or 0.0)
        if unit is None or _NO_TEMPERATURE.fullmatch(zone):
            of_battery = "its name is of a battery's charge, current or voltage"
            reason = f"it says {inventory.text(temp)}: {'no temperature in any unit' if unit is None else of_battery}"
            findings.miss(name, reason, quantity="temperature_c")
            continue
        findings.add(_source(name, zone, unit), temp, SLOW_MS)
    for path in inventory.matching(f"{_CHIP}/name"):
        chip, temp = inventory.text(path) or "", _chip_temperature(inventory, path.removesuffix("/name"))
        is_told = f"thermal:{PACKAGE_ZONE}" in taken
        if chip in CPU_TEMPERATURE_CHIPS and inventory.number(temp) is not None and not is_told:
            findings.add(_source(f"thermal:{chip}", chip), temp, SLOW_MS)
    return findings


def _unit_millidegrees(raw: float) -> int | None:
    """Thousandths of a degree in the unit of a zone that says this now; None where no unit makes it a temperature.

    By the book a zone's unit is a thousandth of a degree, and some makers' are tenths or whole degrees. A device
    that is switched on is no colder than 1.5 degrees where its zone says a small number.
    """
    if raw == 0 or raw < -100_000:  # not fitted, or off: what Tegra's zones say of a part without power
        return 1
    if 5 <= raw <= 1500:
        return 1000 if raw <= 150 else 100
    return 1 if _COLDEST_C * 1000 <= raw < 0 or 1500 < raw <= _HOTTEST_C * 1000 else None


def _chip_temperature(inventory: Inventory, folder: str) -> str:
    """The file of a chip's temperature: Tdie, where it is told apart from Tctl, which on some of AMD's processors is 10
    to 27 degrees higher to steer the fans (kernel: Documentation/hwmon/k10temp.rst); else the first."""
    labels = {inventory.text(f"{folder}/temp{n}_label"): f"{folder}/temp{n}_input" for n in "12"}
    return labels.get("Tdie", f"{folder}/temp1_input")


def _source(name: str, zone: str, unit_millidegrees: int = 1) -> Source:
    return Source(
        name=name,
        parser="millidegrees",
        key="" if unit_millidegrees == 1 else str(unit_millidegrees),
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


def millidegrees(raw: str, key: str) -> float | None:
    """A thermal zone, whose unit is a thousandth of a degree or as many of them as ``key`` says; Tegra's say -256
    degrees for a part that is off."""
    value = float(raw) * (int(key) if key else 1)
    return value if -100_000 < value < 300_000 else None


KIND = SensorKind(
    find,
    Precedence.KERNEL,
    globs=(*(f"{_ZONE}/{f}" for f in ("type", "temp")), *(f"{_CHIP}/{f}" for f in ("name", *_CHIP_FILES))),
    parsers={"millidegrees": millidegrees},
)
