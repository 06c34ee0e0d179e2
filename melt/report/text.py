"""Words and numbers for people: units, counts, and names from devices made harmless."""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from melt.spec.cell import AXES
from melt.spec.metrics import Metric
from melt.util.text import counted
from melt.util.text import joined as joined
from melt.util.text import of_all as of_all
from melt.util.text import plural as plural

# Unicode's bidirectional controls reorder what stands around them; categories C* hold them and all controls.
_SPACE = re.compile(r"\s+")
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
MAX_NAME_CHARS = 120


def clean(text: object, limit: int = 4000) -> str:
    """Text from outside without control characters, terminal escapes and bidirectional overrides.

    HTML is not escaped here: templates and matplotlib do that.
    """
    plain = str(text)
    if plain.isascii() and plain.isprintable() and len(plain) <= limit:
        return " ".join(plain.split())  # most text, and quick
    plain = _ESCAPE.sub("", plain)
    kept = "".join(" " if c in "\n\t\r" else c for c in plain if c in "\n\t\r" or unicodedata.category(c)[0] != "C")
    kept = _SPACE.sub(" ", kept).strip()
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"


def name(text: object) -> str:
    """A device's or model's name."""
    return clean(text, MAX_NAME_CHARS) or "unnamed"


def file_name(text: str) -> str:
    """A name that is safe as a file's name on every system."""
    plain = unicodedata.normalize("NFKD", clean(text)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60] or "figure"


def number(value: float, digits: int = 3) -> str:
    """A number to some significant digits, with thousands separated and no exponent; an en dash for NaN."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞"
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{round(value, decimals - 0):,.{min(decimals, 9)}f}"


def count(value: float) -> str:
    """A whole number with thousands separated."""
    return "–" if not math.isfinite(value) else f"{round(value):,}"


# The settings that every title says: where it was measured, and with what.
PLACE = tuple(name for name, axis in AXES.items() if axis.always_said and axis.separates == "setting")


def place(of: Mapping[Any, Any]) -> str:
    """Where a cell or a row was measured, as titles have it: "pixel8 · llama.cpp · cpu"."""
    return " · ".join(name(of[column]) for column in PLACE)


def setting(column: str, value: object) -> str:
    """The value of a setting as it stands among others: "2 threads", "flash attention on"."""
    axis = AXES.get(column)
    name = axis.title if axis else column.removesuffix("_id").replace("_", " ")
    if value is None or value != value:
        return f"{name} unknown"
    plain: Any = value.item() if hasattr(value, "item") else value  # numpy's
    if isinstance(plain, int | float) and not isinstance(plain, bool) and float(plain).is_integer():
        shown = count(plain)  # where another row has none, pandas makes a float of it
    else:
        shown = clean(axis.text(plain) if axis else plain)
    return axis.phrase(shown) if axis else f"{name} {shown}"


def seconds(value: float) -> str:
    """A duration in the unit that suits it."""
    if not math.isfinite(value):
        return "–"
    if value < 1e-3:
        return f"{number(value * 1e6)} µs"
    if value < 1:
        return f"{number(value * 1e3)} ms"
    return f"{number(value)} s"


def size(value: float) -> str:
    """Bytes in binary units."""
    if not math.isfinite(value):
        return "–"
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(value) >= scale:
            return f"{number(value / scale)} {unit}"
    return f"{value:.0f} B"


def parameters(value: float) -> str:
    """A parameter count as people say it: 135 M, 1.24 B."""
    if not math.isfinite(value) or value <= 0:
        return "–"
    return f"{number(value / 1e9)} B" if value >= 1e9 else f"{number(value / 1e6)} M"


def energy(value: float) -> str:
    """Joules in the unit that suits them."""
    if not math.isfinite(value):
        return "–"
    return f"{number(value * 1e3)} mJ" if value < 1 else f"{number(value)} J"


def power(value: float) -> str:
    """Watts, in milliwatts below one."""
    if not math.isfinite(value):
        return "–"
    return f"{number(value * 1e3)} mW" if abs(value) < 1 else f"{number(value)} W"


def percent(value: float) -> str:
    """A share."""
    return f"{number(value * 100)} %" if math.isfinite(value) else "–"


@dataclass(frozen=True)
class Format:
    """How numbers of a column's unit are written; ``unit`` is left to the heading, and empty where each has its own."""

    number: Callable[[float], str]
    unit: str = ""


FORMATS = {
    "s": Format(seconds),
    "bytes": Format(size),
    "J": Format(energy),
    "J/token": Format(energy),
    "mWh": Format(number, "mWh"),
    "mAh": Format(number, "mAh"),
    "W": Format(power),
    "0 to 1": Format(percent),
    "s/s": Format(percent),
    "ratio": Format(number),
    "tokens/s": Format(number, "tok/s"),
    "tokens": Format(count, "tokens"),
    "prompts": Format(number, "prompts"),
    "°C": Format(number, "°C"),
}


def heading(metric: Metric) -> str:
    """A metric over a column of ``bare`` numbers."""
    unit = FORMATS[metric.unit].unit
    return f"{metric.label} ({unit})" if unit else metric.label


def bare(metric: Metric, value: float) -> str:
    """A metric's value under its heading."""
    return FORMATS[metric.unit].number(value)


def amount(metric: Metric, value: float) -> str:
    """A metric's value with its unit."""
    shown, unit = bare(metric, value), FORMATS[metric.unit].unit
    return f"{shown} {unit}" if unit and math.isfinite(value) else shown


def tokens(value: float) -> str:
    """A context length in full."""
    return counted(count(value), "token")


def short_tokens(value: float) -> str:
    """A context length for an axis: 512, 1k, 1.5k, 128k."""
    if value < 1000:
        return f"{value:g}"
    scaled = value / 1024 if value % 128 == 0 else value / 1000
    return f"{scaled:.3g}k"


def span(values: Iterable[float]) -> str:
    """Whole numbers as "2 to 4", or one where they are alike."""
    known = [round(v) for v in values]
    low, high = min(known), max(known)
    return str(low) if low == high else f"{low} to {high}"


def times(ratio: float, digits: int = 2) -> str:
    """A factor: 2.4×, and 1.04× close to one."""
    return f"{number(ratio, max(digits, 3 if 0.905 < ratio < 1.095 else 2))}×"


def cell(value: object) -> str:
    """A value for a CSV file that no spreadsheet takes for a formula."""
    text = clean(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
