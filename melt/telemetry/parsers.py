"""Raw text to one number, by name; every parser returns None for text that it does not understand."""

import math
from collections.abc import Callable

from melt.telemetry.base import Source

Parser = Callable[[str, str], float | None]
MAX_CHARS = 65536


def parse(source: Source, raw: str) -> float | None:
    """The number that a source's parser finds in the text, before ``scale`` and sign; never raises."""
    parser = PARSERS.get(source.parser)
    if parser is None or len(raw) > MAX_CHARS:
        return None
    try:
        value = parser(raw, source.key)
    except (ValueError, IndexError, OverflowError):
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


PARSERS: dict[str, Parser] = {
    "number": _number,
    "millidegrees": _millidegrees,
    "field": _field,
    "named": _named,
    "busy_ticks": _busy_ticks,
    "process_ticks": _process_ticks,
    "charging_status": _charging_status,
    "throttled_bits": _throttled_bits,
}
