"""Batteries by the kernel's power_supply class (Documentation/ABI/testing/sysfs-class-power): uA, uV, uW, uAh, uWh.

Laptops give the size of the current and let ``status`` tell its direction; others sign it. So the size is
taken, and it is the load only while the status says Discharging.
"""

from collections.abc import Sequence

from melt.telemetry.kinds.base import SLOW_MS, Found, why
from melt.telemetry.source import Inventory, Source

_FILES = (
    *("type", "scope", "status", "present", "current_now", "voltage_now", "power_now", "charge_now", "energy_now"),
    *("charge_full", "charge_full_design", "energy_full", "energy_full_design", "voltage_min_design"),
)
GLOBS = tuple(f"/sys/class/power_supply/*/{f}" for f in _FILES)
COULOMB_PER_UAH = 3.6e-3
JOULE_PER_UWH = 3.6e-3
# The kernel's ACPI driver caches a battery's figures this long (cache_time), and gauges are no faster.
NATIVE_PERIOD_S = 1.0
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


def find(inventory: Inventory, period_ms: int, folders: Sequence[str] | None = None) -> Found:
    """Per battery its voltage, whether it is charging, and one figure of power or energy: the quickest it has."""
    found = Found()
    for folder in batteries(inventory) if folders is None else folders:
        name = folder.rsplit("/", 1)[1]
        if inventory.text(f"{folder}/status") is not None:
            found.add(_source(name, "charging", "charging_status", "charging"), f"{folder}/status", SLOW_MS)
        else:
            found.miss(f"battery:{name}:charging", why(inventory, f"{folder}/status"))
        if _has(inventory, folder, "voltage_now"):
            source = _source(name, "voltage", "number", "voltage_v", 1e-6)
            found.add(source, f"{folder}/voltage_now", max(period_ms, SLOW_MS))
        _find_energy(found, inventory, folder, name, period_ms)
    if folders is None and not batteries(inventory):
        found.miss("battery", "the machine has no battery")
    return found


def _find_energy(found: Found, inventory: Inventory, folder: str, name: str, period_ms: int) -> None:
    voltage = f"battery:{name}:voltage"
    has_voltage = _has(inventory, folder, "voltage_now")
    if _has(inventory, folder, "power_now"):
        source, file = _source(name, "power", "number", "power_w", 1e-6), "power_now"
    elif _has(inventory, folder, "current_now") and has_voltage:
        source, file = _source(name, "power", "number", "power_w", 1e-6, times=voltage), "current_now"
    elif _has(inventory, folder, "energy_now"):
        source, file = _level(name, JOULE_PER_UWH, ""), "energy_now"
    elif _has(inventory, folder, "charge_now") and has_voltage:
        source, file = _level(name, COULOMB_PER_UAH, voltage), "charge_now"
    else:
        found.miss(f"battery:{name}:power", why(inventory, f"{folder}/power_now"), NO_GAUGE_HINT)
        return
    found.add(source, f"{folder}/{file}", period_ms)


def total(sources: list[Source]) -> list[str]:
    """Every battery's one figure; a device may have two batteries."""
    return [s.name for s in sources if s.name.startswith("battery:") and s.quantity in ("power_w", "energy_j")]


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


def _source(battery: str, what: str, parser: str, quantity: str, scale: float = 1.0, times: str = "") -> Source:
    return Source.model_validate(
        {
            "name": f"battery:{battery}:{what}",
            "probe": f"battery:{battery}:{what}",
            "parser": parser,
            "quantity": quantity,
            "scale": scale,
            "times": times,
            "sensor": "fuel gauge",
            "site": "battery",
            "rail": battery,
            "sign": "unsigned",
            "native_period_s": NATIVE_PERIOD_S,
        }
    )


def _level(battery: str, scale: float, times: str) -> Source:
    """What is left, which falls as energy is spent: the sign turns it into what was spent."""
    level = _source(battery, "energy", "number", "energy_j", scale, times)
    return level.model_copy(update={"sign": "load_negative"})
