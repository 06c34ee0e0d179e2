"""Raw text to one number, by name; every parser returns None for text that it does not understand."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from melt.telemetry.kinds.raspberry import rail_w
from melt.telemetry.kinds.tegrastats import gpu_mhz, gpu_percent, rail_mw
from melt.telemetry.source import Source

BATTERY_SERVICE, THERMAL_SERVICE = "dumpsys battery", "dumpsys thermalservice"
FROZEN = "(UPDATES STOPPED"  # dumpsys battery says so after "unplug" or "set"
HAL_TEMPERATURES = "hal_temperature"
SKIN = 3
Parser = Callable[[str, str], float | None]
MAX_CHARS = 65536


def parse(source: Source, raw: str) -> float | None:
    """The number that a source's parser finds in the text, before ``scale`` and sign; never raises."""
    parser = PARSERS.get(source.parser)
    if parser is None or len(raw) > MAX_CHARS:
        return None
    try:
        value = parser(raw, source.key)
    except (ValueError, IndexError, OverflowError, RecursionError):
        return None
    return value if value is not None and math.isfinite(value) else None


def _number(raw: str, _key: str) -> float:
    return float(raw)


def _millidegrees(raw: str, _key: str) -> float | None:
    """A thermal zone; Tegra's say -256 degrees for a part that is off."""
    value = float(raw)
    return value if -100_000 < value < 300_000 else None


def _field(raw: str, key: str) -> float:
    """The field of that index among those between blanks, as in /proc/PID/statm."""
    return float(raw.split()[int(key)])


def _named(raw: str, key: str) -> float | None:
    """The number after a name, as in /proc/meminfo and /proc/vmstat."""
    for line in raw.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0].rstrip(":") == key:
            return float(words[1])
    return None


def _busy_ticks(raw: str, _key: str) -> float | None:
    """Ticks in which a processor was not idle: all of /proc/stat's but idle and iowait (and guests, held in user)."""
    words = raw.split("\n", 1)[0].split()
    if len(words) < 5 or words[0] != "cpu":
        return None
    ticks = [float(w) for w in words[1:9]]
    return sum(ticks) - sum(ticks[3:5])


def _process_ticks(raw: str, _key: str) -> float:
    """Ticks that a process ran: utime and stime of /proc/PID/stat, whose name in brackets may hold anything."""
    words = raw.rsplit(")", 1)[1].split()
    return float(words[11]) + float(words[12])


def _charging_status(raw: str, _key: str) -> float | None:
    """0 while the battery feeds the device, 1 while something else does, None where it does not know."""
    return {"Discharging": 0.0, "Charging": 1.0, "Full": 1.0, "Not charging": 1.0}.get(raw.strip())


def _throttled_bits(raw: str, _key: str) -> float:
    """Whether the Raspberry Pi's firmware caps the clock (bits 1 to 3 of get_throttled, hexadecimal)."""
    return 1.0 if int(raw.strip().removeprefix("throttled="), 16) & 0b1110 else 0.0


def _labelled(raw: str, key: str) -> float | None:
    """The number after a name of several words and a colon, as in ``dumpsys battery``."""
    for line in raw.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == key:
            return float(value)
    return None


def _battery_service(raw: str, key: str) -> float | None:
    """A number of ``dumpsys battery``; none while somebody has frozen what it says."""
    return None if FROZEN in raw else _labelled(raw, key)


def _battery_service_charging(raw: str, _key: str) -> float | None:
    """Whether a source is plugged in, which feeds the phone whatever the status says. Without one only status 2,
    charging, contradicts: phones say 4, not charging, and 5, full, with the cable out."""
    if FROZEN in raw:
        return None
    if re.search(r"^  \w[\w ]* powered: true", raw, re.M):
        return 1.0
    return {2.0: 1.0, 3.0: 0.0, 4.0: 0.0, 5.0: 0.0}.get(_labelled(raw, "status") or 0.0)


def _thermal_status(raw: str, _key: str) -> float | None:
    """Android's thermal status: 0 none; from 1, light, on it holds something back. Phones leave it at 0 while their
    skin sensor's own status says more."""
    status = _labelled(raw, "Thermal Status")
    if status is None:
        return None
    skin = [t.status for t in hal_temperatures(raw) if t.kind == SKIN]
    return float(max(status, *skin, 0) >= 1)


@dataclass(frozen=True)
class HalTemperature:
    """One line of ``dumpsys thermalservice``; ``kind`` is android.hardware.thermal's TemperatureType."""

    name: str
    kind: int
    value: float
    status: int


def hal_temperatures(text: str) -> list[HalTemperature]:
    """What the sensors say now; what Android remembers from before, in a block of its own, is left out."""
    _, _, after = text.partition("Current temperatures from HAL:\n")
    block = re.split(r"^(?![ \t])", after, maxsplit=1, flags=re.M)[0] if after[:1] in (" ", "\t") else ""
    number = r"-?[0-9]+(?:\.[0-9]+)?(?:E-?[0-9]+)?"
    rows = re.findall(
        rf"Temperature\{{mValue=({number}), mType=(-?[0-9]+), mName=([^,}}\n]{{1,64}}), mStatus=([0-9])\}}", block
    )
    return [HalTemperature(name, int(kind), float(value), int(status)) for value, kind, name, status in rows]


def _hal_temperature(raw: str, key: str) -> float | None:
    """The temperature of this name."""
    return next((t.value for t in hal_temperatures(raw) if t.name == key and -100 < t.value < 300), None)


def _busy_of_total(raw: str, _key: str) -> float | None:
    """Adreno's gpubusy: ticks busy and ticks in all since the last reading; both zero while it is off."""
    busy, total = map(float, raw.split()[:2])
    return busy / total if total > 0 else 0.0


def _nvmap_total(raw: str, _key: str) -> float | None:
    """KiB that all programs hold of a Jetson's memory for its GPU, from the last line of nvmap's clients."""
    found = re.search(r"^total\s+([0-9]+)K\s*$", raw, re.M)
    return float(found[1]) if found else None


def _json_number(raw: str, key: str) -> float | None:
    """A number, or a yes or no, of a JSON object."""
    value = json.loads(raw).get(key) if raw.startswith("{") else None
    return float(value) if isinstance(value, bool | int | float) else None


PARSERS: dict[str, Parser] = {
    "number": _number,
    "millidegrees": _millidegrees,
    "field": _field,
    "named": _named,
    "busy_ticks": _busy_ticks,
    "process_ticks": _process_ticks,
    "charging_status": _charging_status,
    "throttled_bits": _throttled_bits,
    "labelled": _labelled,
    "battery_service": _battery_service,
    "battery_service_charging": _battery_service_charging,
    "thermal_status": _thermal_status,
    HAL_TEMPERATURES: _hal_temperature,
    "busy_of_total": _busy_of_total,
    "tegrastats_rail_mw": rail_mw,
    "tegrastats_gpu_percent": gpu_percent,
    "tegrastats_gpu_mhz": gpu_mhz,
    "pmic_rail_w": rail_w,
    "nvmap_total": _nvmap_total,
    "json_number": _json_number,
}
