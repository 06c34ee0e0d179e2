"""Batteries by the kernel's power_supply class (Documentation/ABI/testing/sysfs-class-power): uA, uV, uW, uAh, uWh.

Laptops give the size of the current and let ``status`` tell its direction; others sign it. So the size is
taken, and it is the load only while the status says Discharging.
"""

from collections.abc import Sequence
from functools import partial

from melt.spec.profile import Sensors
from melt.telemetry.kinds.base import LINUX, SLOW_MS, Findings, Precedence, SensorKind, why
from melt.telemetry.source import Inventory, Source

_FILES = (
    *("type", "scope", "status", "present", "capacity", "temp"),
    *("current_now", "voltage_now", "power_now", "charge_now", "energy_now"),
    *("charge_full", "charge_full_design", "energy_full", "energy_full_design", "voltage_min_design"),
)
GLOBS = tuple(f"/sys/class/power_supply/*/{f}" for f in _FILES)
COULOMB_PER_UAH = 3.6e-3
JOULE_PER_UWH = 3.6e-3
STATE_MS = 5000  # how full and how warm it is moves slowly
# The kernel's ACPI driver caches a battery's figures this long (cache_time), and gauges are no faster.
NATIVE_PERIOD_S = 1.0
_Source = partial(Source, sensor="fuel gauge", site="battery", sign="unsigned", native_period_s=NATIVE_PERIOD_S)
NO_GAUGE_HINT = "Without current or power in the gauge only an external meter gives the device's energy."


def batteries(inventory: Inventory) -> list[str]:
    """The folders of the batteries that feed the device itself; a mouse's is not one."""
    folders = [p.rsplit("/", 1)[0] for p in inventory.matching("/sys/class/power_supply/*/type")]
    return [
        f
        for f in folders
        if inventory.text(f"{f}/type") == "Battery"
        and inventory.text(f"{f}/scope") != "Device"
        and inventory.text(f"{f}/present") != "0"
    ]


def find(inventory: Inventory, sensors: Sensors, _earlier: Sequence[Source]) -> Findings:
    """Every battery that feeds the device."""
    folders = batteries(inventory)
    findings = find_in(inventory, sensors.period_ms, folders)
    if not folders:
        findings.miss("battery", "the machine has no battery", quantity="power_w")
    return findings


def find_in(inventory: Inventory, period_ms: int, folders: Sequence[str]) -> Findings:
    """Per battery its voltage, whether it is charging, and one figure of power or energy: the quickest it has."""
    findings = Findings()
    for folder in folders:
        name = folder.rsplit("/", 1)[1]
        source = partial(_Source, rail=name)
        if inventory.text(f"{folder}/status") is not None:
            charging = source(name=f"battery:{name}:charging", parser="charging_status", quantity="charging")
            findings.add(charging, f"{folder}/status", SLOW_MS)
        else:
            findings.miss(f"battery:{name}:charging", why(inventory, f"{folder}/status"), quantity="charging")
        _find_state(findings, inventory, folder, source)
        if _has(inventory, folder, "voltage_now"):
            voltage = source(name=f"battery:{name}:voltage", quantity="voltage_v", scale=1e-6)
            findings.add(voltage, f"{folder}/voltage_now", max(period_ms, SLOW_MS))
        energy, file = _energy(inventory, folder, name)
        if energy is None:
            findings.miss(f"battery:{name}:power", why(inventory, f"{folder}/{file}"), NO_GAUGE_HINT, "power_w")
        else:
            findings.add(energy, f"{folder}/{file}", period_ms)
    return findings


def _find_state(findings: Findings, inventory: Inventory, folder: str, source: "partial[Source]") -> None:
    """How full it is, in percent, and how warm, in tenths of a degree."""
    name = folder.rsplit("/", 1)[1]
    if _has(inventory, folder, "capacity"):
        level = source(name=f"battery:{name}:level", quantity="battery_level", scale=0.01)
        findings.add(level, f"{folder}/capacity", STATE_MS)
    if _has(inventory, folder, "temp"):
        heat = source(name=f"battery:{name}:temperature", quantity="temperature_c", scale=0.1)
        findings.add(heat, f"{folder}/temp", STATE_MS)


def _energy(inventory: Inventory, folder: str, name: str) -> tuple[Source | None, str]:
    """The figure of power or energy, and the file that gives it. What is left falls as energy is spent: the sign
    turns it into what was spent."""
    voltage = f"battery:{name}:voltage"
    has_voltage = _has(inventory, folder, "voltage_now")
    power = partial(_Source, name=f"battery:{name}:power", rail=name, quantity="power_w", scale=1e-6)
    left = partial(_Source, name=f"battery:{name}:energy", rail=name, quantity="energy_j", sign="load_negative")
    if _has(inventory, folder, "power_now"):
        return power(), "power_now"
    if _has(inventory, folder, "current_now") and has_voltage:
        return power(times=voltage), "current_now"
    if _has(inventory, folder, "energy_now"):
        return left(scale=JOULE_PER_UWH), "energy_now"
    if _has(inventory, folder, "charge_now") and has_voltage:
        return left(scale=COULOMB_PER_UAH, times=voltage), "charge_now"
    return None, "power_now"


def total(sources: Sequence[Source]) -> list[str]:
    """Every battery's one figure; a device may have two batteries."""
    return [s.name for s in sources if s.is_of_energy]


def capacity_j(inventory: Inventory) -> float | None:
    """What the full batteries hold now, or None where none says so."""
    held = [c for f in batteries(inventory) if (c := _one_capacity_j(inventory, f)) is not None]
    return sum(held) if held else None


def health(inventory: Inventory) -> str | None:
    """Full charge against the design's, in whole percent, "92 %"; None where a battery does not say."""
    for folder in batteries(inventory):
        for kind in ("energy", "charge"):
            full, design = (inventory.number(f"{folder}/{kind}_{w}") for w in ("full", "full_design"))
            if full and design:
                return f"{100 * full / design:.0f} %"
    return None


def _one_capacity_j(inventory: Inventory, folder: str) -> float | None:
    energy = inventory.number(f"{folder}/energy_full")
    if energy is not None:
        return energy * JOULE_PER_UWH
    charge, volts = inventory.number(f"{folder}/charge_full"), inventory.number(f"{folder}/voltage_min_design")
    if charge is None or volts is None:
        return None
    return charge * COULOMB_PER_UAH * volts * 1e-6


def _has(inventory: Inventory, folder: str, file: str) -> bool:
    return inventory.number(f"{folder}/{file}") is not None


def charging_status(raw: str, _key: str) -> float | None:
    """0 while the battery feeds the device, 1 while something else does, None where it does not know."""
    return {"Discharging": 0.0, "Charging": 1.0, "Full": 1.0, "Not charging": 1.0}.get(raw.strip())


KIND = SensorKind(
    find,
    Precedence.BATTERY,
    platforms=(LINUX,),
    globs=GLOBS,
    parsers={"charging_status": charging_status},
    total=total,
    unplug_hint="Take the cable out.",
)
