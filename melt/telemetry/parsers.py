"""From a probe's raw text to one number: the parsers that several kinds of sensors share.

A parser is a pure function of the text and a key. It gives None for text that it does not understand; what it raises
is taken as None too. Parsers of one kind alone are in that kind's file; ``registry`` knows them all by name.
"""

import json
import math
from collections.abc import Callable

Parser = Callable[[str, str], float | None]
MAX_CHARS = 65536


def apply(parser: Parser, raw: str, key: str = "") -> float | None:
    """What a parser finds in the text, if that is a finite number; never raises, also where a third party's does."""
    if len(raw) > MAX_CHARS:
        return None
    try:
        value = parser(raw, key)
        return value if value is not None and math.isfinite(value) else None
    except KeyboardInterrupt:
        raise
    except BaseException:  # also SystemExit; melt.util.plugins would take too long for each of so many samples
        return None


def number(raw: str, _key: str) -> float:
    """The whole text is a number."""
    return float(raw)


def field(raw: str, key: str) -> float:
    """The field of that index among those between blanks, as in /proc/PID/statm."""
    return float(raw.split()[int(key)])


def named(raw: str, key: str) -> float | None:
    """The number after a name, as in /proc/meminfo and /proc/vmstat."""
    for line in raw.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0].rstrip(":") == key:
            return float(words[1])
    return None


def labelled(raw: str, key: str) -> float | None:
    """The number after a name of several words and a colon, as in ``dumpsys battery``."""
    for line in raw.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == key:
            return float(value)
    return None


def json_number(raw: str, key: str) -> float | None:
    """A number, or a yes or no, of a JSON object."""
    value = json.loads(raw).get(key) if raw.startswith("{") else None
    return float(value) if isinstance(value, bool | int | float) else None


SHARED: dict[str, Parser] = {
    "number": number,
    "field": field,
    "named": named,
    "labelled": labelled,
    "json_number": json_number,
}
