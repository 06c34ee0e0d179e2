"""A Raspberry Pi's firmware: whether it throttles, and by vcgencmd the Pi 5's power chip.

``pmic_read_adc`` gives a current and a voltage for each output of the Pi 5's power chip, and for the 5 V input a
voltage alone: what USB, NVMe, the fan and the header take is in none of them, nor what the chip itself loses.
"""

import re
from collections.abc import Sequence
from functools import partial

from melt.spec.profile import Sensors
from melt.telemetry.kinds.base import LINUX, SLOW_MS, Findings, Precedence, SensorKind
from melt.telemetry.source import Inventory, Probe, Source

POWER, THROTTLED = "vcgencmd pmic_read_adc", "vcgencmd get_throttled"
THROTTLED_FILE = "/sys/devices/platform/soc*/*firmware/get_throttled"
_MODEL = "/proc/device-tree/model"
COMMANDS = {name: f"if command -v vcgencmd >/dev/null; then {name}; fi" for name in (POWER, THROTTLED)}
_SHORTEST_MS = 250  # every reading starts a program and asks the firmware, for some 15 to 25 ms
_LINE = re.compile(
    r"^[ \t]{0,40}(\w{1,40})_(A|V) (?:current|volt)\([0-9]{1,3}\)=(-?[0-9]{1,9}(?:\.[0-9]{1,12})?)(?:A|V)[ \t]{0,40}$",
    re.M,
)
_NO_RAILS = "It needs the group video there: sudo usermod -aG video USER. The Pi 5 alone has a power chip that tells."


def rails(text: str) -> dict[str, float]:
    """Watts by output, of those whose current and voltage are both there."""
    outputs: dict[str, dict[str, float]] = {}
    for name, unit, value in _LINE.findall(text):
        outputs.setdefault(name, {})[unit] = float(value)
    return {name: one["A"] * one["V"] for name, one in outputs.items() if len(one) == 2}


def rail_w(text: str, key: str) -> float | None:
    """One output's watts."""
    return rails(text).get(key)


def total(sources: Sequence[Source]) -> list[str]:
    """Every output of the power chip."""
    return [s.name for s in sources if s.quantity == "power_w"]


def find(inventory: Inventory, sensors: Sensors, _earlier: Sequence[Source]) -> Findings:
    """The rails, and throttling: by the kernel's file, else by the firmware's program."""
    findings = Findings()
    period_ms = max(sensors.period_ms, _SHORTEST_MS)
    for rail in rails(inventory.text(POWER) or ""):
        findings.sources.append(
            Source(
                name=f"pmic:{rail}",
                probe=POWER,
                parser="pmic_rail_w",
                key=rail,
                quantity="power_w",
                sensor="Raspberry Pi 5 power chip",
                site="soc_rail",
                rail=rail,
                sign="load_positive",
                native_period_s=_SHORTEST_MS * 1e-3,
            )
        )
    if findings.sources:
        findings.probes.append(Probe(name=POWER, exec=tuple(POWER.split()), period_ms=period_ms))
    elif "Raspberry Pi 5" in (inventory.text(_MODEL) or ""):
        findings.miss(POWER, inventory.text(POWER) or "vcgencmd gives no rails", _NO_RAILS, "power_w")
    _find_throttled(findings, inventory)
    return findings


def _find_throttled(findings: Findings, inventory: Inventory) -> None:
    throttled = partial(Source, name="firmware:throttled", parser="throttled_bits", quantity="throttled", site="cpu")
    files = inventory.matching(THROTTLED_FILE)
    for path in files[:1]:
        findings.add(throttled(sensor="kernel", native_period_s=0.01), path, SLOW_MS)
    if not files and (inventory.text(THROTTLED) or "").startswith("throttled="):
        native_s = _SHORTEST_MS * 1e-3
        findings.sources.append(throttled(probe=THROTTLED, sensor="firmware", native_period_s=native_s))
        findings.probes.append(Probe(name=THROTTLED, exec=tuple(THROTTLED.split()), period_ms=SLOW_MS))


def throttled_bits(raw: str, _key: str) -> float:
    """Whether the firmware caps the clock (bits 1 to 3 of get_throttled, hexadecimal)."""
    return 1.0 if int(raw.strip().removeprefix("throttled="), 16) & 0b1110 else 0.0


KIND = SensorKind(
    find,
    Precedence.BOARD_PROGRAM,
    platforms=(LINUX,),
    globs=(THROTTLED_FILE, _MODEL),
    commands=COMMANDS,
    parsers={"pmic_rail_w": rail_w, "throttled_bits": throttled_bits},
    total=total,
)
