"""From the sampler's raw lines to series: pure, fast, and never raising, whatever the lines hold."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from melt.telemetry.bounds import MOST_POWER_W, Refused, possible, refused
from melt.telemetry.readings import Times, Values, new_at_ns, settling_s
from melt.telemetry.registry import parse
from melt.telemetry.source import Discovery, Source
from melt.util.units import S_PER_NS

# The line as the sampler writes it. Anything else, such as other spacing or order, goes the slow way.
_LINE = re.compile(
    r'^(?:\{"t_ns":([0-9]{1,18}),"t_end_ns":([0-9]{1,18}),"probe":"([^"\\\n]*)","raw":"([^"\\\n]*(?:\\.[^"\\\n]*)*)"\}'
    r"|(.+))$",
    re.M,
)
MAX_FAILURES = 1000


@dataclass(frozen=True)
class Series:
    """One quantity over the device's time, in SI units; stamps rise strictly.

    ``breaks_ns`` are the stamps at which a cumulative counter started again: what went on just before such
    a stamp is not known. ``reading`` is what the sensor itself said, where the value is its product with another's.
    """

    t_ns: Times
    value: Values
    breaks_ns: tuple[int, ...] = ()
    reading: Values | None = None

    def where(self, kept: "np.ndarray") -> "Series":
        """Some of its samples."""
        reading = None if self.reading is None else self.reading[kept]
        return Series(self.t_ns[kept], self.value[kept], self.breaks_ns, reading)

    @cached_property
    def new_ns(self) -> Times:
        """The stamps at which the sensor had a new value."""
        return new_at_ns(self.t_ns, self.value if self.reading is None else self.reading)

    @cached_property
    def settling_s(self) -> float:
        """Seconds in which it follows a step of the load; 0 where it does at once."""
        return settling_s(self.t_ns, self.value)

    def states(self, t0_ns: int, t1_ns: int) -> Values:
        """The values that a state had from t0 to t1: the last one read before, those within, the first one after.

        A state may be read every few seconds only, and what it was between two readings is one of the two.
        """
        first, last = np.searchsorted(self.t_ns, (t0_ns, t1_ns))
        return self.value[max(0, int(first) - 1) : int(last) + 1]


@dataclass(frozen=True)
class ProbeFailure:
    """A probe's own word that it could not be read."""

    t_ns: int
    probe: str
    error: str
    message: str


@dataclass(frozen=True)
class ParsedTelemetry:
    """All that a run's lines hold; ``skipped_lines`` could not be understood."""

    series: dict[str, Series]
    refused: dict[str, Refused]  # by source, readings that cannot be; they are in no series
    failures: tuple[ProbeFailure, ...] = ()
    skipped_lines: int = 0


@dataclass
class _Raw:
    """The samples of one probe as they came; ``raw`` is still as JSON escapes it."""

    t_ns: list[int] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)


def series(discovery: Discovery, lines: Iterable[str] | str) -> dict[str, Series]:
    """The series of every source that has samples, by its name."""
    return read(discovery, lines).series


def read(discovery: Discovery, lines: Iterable[str] | str) -> ParsedTelemetry:
    """Everything in a run's lines; the whole file's text is the quickest form of them."""
    text = lines if isinstance(lines, str) else "\n".join(lines)
    wanted = {s.probe for s in discovery.sources}
    samples, failures, skipped = _split(text, wanted)
    by_name: dict[str, Series] = {}
    impossible: dict[str, Refused] = {}
    for source in discovery.sources:
        if source.probe in samples:
            one = _values(source, samples[source.probe], impossible)
            if len(one.t_ns):
                by_name[source.name] = one
    return ParsedTelemetry(_multiplied(discovery, by_name, impossible), impossible, tuple(failures), skipped)


def _split(text: str, wanted: set[str]) -> tuple[dict[str, _Raw], list[ProbeFailure], int]:
    samples = {name: _Raw() for name in wanted}
    failures: list[ProbeFailure] = []
    skipped = 0
    for start, end, probe, raw, other in _LINE.findall(text):
        if other:
            skipped += not _slow_line(other, samples, failures)
        elif probe in samples:
            of_probe, start_ns, end_ns = samples[probe], int(start), int(end)
            if end_ns < start_ns:
                skipped += 1
                continue
            of_probe.t_ns.append((start_ns + end_ns) // 2)
            of_probe.raw.append(raw)
    return {name: one for name, one in samples.items() if one.t_ns}, failures, skipped


def _slow_line(line: str, samples: Mapping[str, _Raw], failures: list[ProbeFailure]) -> bool:
    """A line in another form of JSON, or a probe's word of failure; False where it is neither."""
    if line.isspace():
        return True
    try:
        row = json.loads(line)
        start_ns, probe = row["t_ns"], row["probe"]
        if not _is_stamp(start_ns) or not isinstance(probe, str):
            return False
        if "error" in row:
            if len(failures) < MAX_FAILURES:
                failures.append(ProbeFailure(start_ns, probe, str(row["error"]), str(row.get("message", ""))))
            return True
        end_ns, raw = row["t_end_ns"], row["raw"]
        if not _is_stamp(end_ns) or end_ns < start_ns or not isinstance(raw, str):
            return False
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
    if probe in samples:
        samples[probe].t_ns.append((start_ns + end_ns) // 2)
        samples[probe].raw.append(json.dumps(raw)[1:-1])
    return True


def _is_stamp(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**18


def _values(source: Source, samples: _Raw, impossible: dict[str, Refused]) -> Series:
    """One source's numbers, scaled, signed, in order of time and unwrapped; those that cannot be are told apart."""
    value = _numbers(source, samples.raw) * source.scale
    t_ns = np.array(samples.t_ns, dtype=np.int64)
    known = np.isfinite(value)
    if not source.times and not source.rate:  # what becomes a product, or a rate, is of another quantity yet
        if one := refused(source.quantity, value[known]):
            impossible[source.name] = one
        known &= possible(source.quantity, np.where(known, value, 0.0))
    if not known.all():
        t_ns, value = t_ns[known], value[known]
    t_ns, value = _in_order(t_ns, _signed(source, value))
    if source.steps:
        t_ns, value = _changes(t_ns, value)
    if source.rate:
        return _rate(t_ns, value)
    if source.quantity == "energy_j":
        return _unwrapped(t_ns, value, source.wrap_at)
    return Series(t_ns, value)


def _numbers(source: Source, raws: list[str]) -> Values:
    if source.parser == "number":
        try:
            return np.fromiter(map(float, raws), np.float64, len(raws))
        except ValueError:
            pass  # one of them is no number: the others are found the slow way
    known = {raw: _number(source, raw) for raw in dict.fromkeys(raws)}
    return np.array([known[raw] for raw in raws], dtype=np.float64)


def _number(source: Source, raw: str) -> float:
    try:
        text = _unescaped(raw) if "\\" in raw else raw
    except ValueError:
        return np.nan
    value = parse(source, text)
    return np.nan if value is None else value


def _unescaped(raw: str) -> str:
    """A JSON string's text. Line ends and tabs are all that the kernel's files hold, and decoding is the dear part."""
    if "\\\\" not in raw:
        raw = raw.replace("\\n", "\n").replace("\\t", "\t")
        if "\\" not in raw:
            return raw
        raw = raw.replace("\n", "\\n").replace("\t", "\\t")
    return str(json.loads(f'"{raw}"'))


def _signed(source: Source, value: Values) -> Values:
    if source.quantity not in ("power_w", "energy_j", "current_a", "charge_c"):
        return value
    if source.sign == "load_negative":
        return -value
    if source.sign == "unsigned":
        # A driver that tells sizes has one sign; one that has both signs them, and most of a run is load.
        return value if np.sign(value).sum() >= 0 else -value
    return value


def _in_order(t_ns: Times, value: Values) -> tuple[Times, Values]:
    """Sorted by stamp; of several samples with one stamp the last."""
    if len(t_ns) < 2 or bool((np.diff(t_ns) > 0).all()):
        return t_ns, value
    order = np.argsort(t_ns, kind="stable")
    t_ns, value = t_ns[order], value[order]
    last = np.append(np.diff(t_ns) > 0, True)
    return t_ns[last], value[last]


def _changes(t_ns: Times, value: Values) -> tuple[Times, Values]:
    """The samples at which a value is new; since when the first one holds is not known, so it is none."""
    changed = np.flatnonzero(np.diff(value)) + 1
    return t_ns[changed], value[changed]


def _rate(t_ns: Times, value: Values) -> Series:
    """A counter's rise a second, stamped in the middle of the two readings; falls are left out."""
    if len(t_ns) < 2:
        return Series(t_ns[:0], value[:0])
    rise = np.diff(value)
    middle = t_ns[:-1] + np.diff(t_ns) // 2
    up = rise >= 0
    return Series(middle[up], (rise / (np.diff(t_ns) * S_PER_NS))[up])


def _unwrapped(t_ns: Times, value: Values, wrap_at: float | None) -> Series:
    """A cumulative counter made to rise over its wrap-around, with the places where it really restarted.

    A counter of what was spent never falls. Where it does, it has wrapped, if that gives a power that can
    be; else it restarted, and the energy of that step is unknown: it is taken as none and marked.
    """
    step = np.diff(value)
    fell = np.flatnonzero(step < 0)
    if not len(fell):
        return Series(t_ns, value)
    breaks = []
    seconds = np.diff(t_ns) * S_PER_NS
    for i in fell:
        wrapped = step[i] + wrap_at if wrap_at else -1.0
        plausible = 0 <= wrapped <= MOST_POWER_W * seconds[i]  # quicker is no wrap-around but a restart
        step[i] = wrapped if plausible else 0.0
        if not plausible:
            breaks.append(int(t_ns[i + 1]))
    return Series(t_ns, value[0] + np.concatenate(([0.0], np.cumsum(step))), tuple(breaks))


def _multiplied(discovery: Discovery, by_name: dict[str, Series], impossible: dict[str, Refused]) -> dict[str, Series]:
    """Sources that are a product, made from the series that they name; those without a partner are dropped."""
    done: dict[str, Series] = {}
    for source in discovery.sources:
        one = by_name.get(source.name)
        if one is None:
            continue
        if source.times:
            factor = by_name.get(source.times)
            if factor is None:
                continue
            one = _product(source, one, factor)
            if found := refused(source.quantity, one.value):
                impossible[source.name] = found
                one = one.where(possible(source.quantity, one.value))
        done[source.name] = one
    return done


def _product(source: Source, one: Series, factor: Series) -> Series:
    at = np.interp(one.t_ns.astype(np.float64), factor.t_ns.astype(np.float64), factor.value)
    if source.quantity != "energy_j":
        return Series(one.t_ns, one.value * at, reading=one.value)
    steps = np.diff(one.value) * (at[:-1] + at[1:]) / 2
    return Series(one.t_ns, np.concatenate(([0.0], np.cumsum(steps))), one.breaks_ns, one.value)
