"""A Raspberry Pi's firmware by vcgencmd: throttling where sysfs does not tell it, and the Pi 5's power chip.

``pmic_read_adc`` gives a current and a voltage for each output of the Pi 5's power chip, and for the 5 V input a
voltage alone: what USB, NVMe, the fan and the header take is in none of them, nor what the chip itself loses.
"""

import re

from melt.telemetry.kinds.base import SLOW_MS, Found
from melt.telemetry.source import Inventory, Probe, Quantity, Site, Source

POWER, THROTTLED = "vcgencmd pmic_read_adc", "vcgencmd get_throttled"
THROTTLED_FILE = "/sys/devices/platform/soc*/*firmware/get_throttled"
COMMANDS = {name: f"if command -v vcgencmd >/dev/null; then {name}; fi" for name in (POWER, THROTTLED)}
_SHORTEST_MS = 250  # every reading starts a program and asks the firmware, for some 15 to 25 ms
_LINE = re.compile(
    r"^[ \t]{0,40}(\w{1,40})_(A|V) (?:current|volt)\([0-9]{1,3}\)=(-?[0-9]{1,9}(?:\.[0-9]{1,12})?)(?:A|V)[ \t]{0,40}$",
    re.M,
)
_NO_RAILS = "It needs the group video there: sudo usermod -aG video USER. The Pi 5 alone has a power chip that tells."


def rails(text: str) -> dict[str, float]:
    """Watts by output, of those whose current and voltage are both there."""
    found: dict[str, dict[str, float]] = {}
    for name, unit, value in _LINE.findall(text):
        found.setdefault(name, {})[unit] = float(value)
    return {name: one["A"] * one["V"] for name, one in found.items() if len(one) == 2}


def rail_w(text: str, key: str) -> float | None:
    """One output's watts."""
    return rails(text).get(key)


def total(sources: list[Source]) -> list[str]:
    """Every output of the power chip."""
    return [s.name for s in sources if s.probe == POWER]


def find(inventory: Inventory, period_ms: int) -> Found:
    """What the firmware tells that the kernel's files do not."""
    found = Found()
    for rail in rails(inventory.text(POWER) or ""):
        source = _source(f"pmic:{rail}", POWER, "pmic_rail_w", "power_w", "soc_rail", "Raspberry Pi 5 power chip")
        found.sources.append(source.model_copy(update={"key": rail, "rail": rail, "sign": "load_positive"}))
    if found.sources:
        period_ms = max(period_ms, _SHORTEST_MS)
        found.probes.append(Probe(name=POWER, exec=tuple(POWER.split()), period_ms=period_ms))
    elif "Raspberry Pi 5" in (inventory.text("/proc/device-tree/model") or ""):
        found.miss(POWER, inventory.text(POWER) or "vcgencmd gives no rails", _NO_RAILS)
    if not inventory.matching(THROTTLED_FILE) and (inventory.text(THROTTLED) or "").startswith("throttled="):
        throttled = _source("firmware:throttled", THROTTLED, "throttled_bits", "throttled", "cpu", "firmware")
        found.sources.append(throttled)
        found.probes.append(Probe(name=THROTTLED, exec=tuple(THROTTLED.split()), period_ms=SLOW_MS))
    return found


def _source(name: str, probe: str, parser: str, quantity: Quantity, site: Site, sensor: str) -> Source:
    return Source(
        name=name,
        probe=probe,
        parser=parser,
        quantity=quantity,
        site=site,
        sensor=sensor,
        native_period_s=_SHORTEST_MS * 1e-3,
    )
