"""How often a power sensor really has a new value, over how long it averages, and whether it measures at all.

What its driver or maker states is the least. The rest is read off the whole record: the time between values that
differ, and how long the readings take to follow the steepest step of the load.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from melt.telemetry.readings import Values, between_new_s, usual_interval_s
from melt.telemetry.series import Series
from melt.telemetry.source import Source
from melt.util.units import S_PER_NS

# Where a device that runs is never without power; a rail of a chip may be.
NEVER_OFF = ("battery", "input", "wall", "cpu_package")
_SLOWER = 1.5  # times the stated period: what a late reading does not explain
_BIG_MOVE = 0.25  # of all that the readings went through
_AT_EDGES, _BY_CHANCE = 0.8, 0.05


@dataclass(frozen=True)
class Timing:
    """A sensor's times: a new value comes every ``period_s`` and is a mean over at most ``window_s`` before it."""

    period_s: float
    window_s: float

    @property
    def effective_s(self) -> float:
        """The effective period: within it the sensor cannot tell one power from another."""
        return max(self.period_s, self.window_s)

    @property
    def span_s(self) -> float:
        """How long after a step of the load readings may still be of before."""
        return self.period_s + self.window_s


@dataclass(frozen=True)
class Fresh:
    """Readings to integrate, and how old each may be."""

    series: Series
    age_s: Values


def timing(source: Source, one: Series, polled_s: float, edges_ns: Sequence[int] = ()) -> Timing:
    """The sensor's times as the whole record shows them.

    Equal readings are no sign of a slow sensor where its moves follow the load's steps at once, nor where nothing is
    known of the load and the readings hardly ever change.

    Args:
        source: what is stated of it.
        one: the whole record, not a phase of it.
        polled_s: how often it was read; it cannot be seen to be quicker.
        edges_ns: moments at which the load is known to have stepped.
    """
    stated_s = max(source.native_period_s, polled_s)
    seen_s = between_new_s(one.new_ns) if len(one.new_ns) > 1 or not edges_ns else _longest_silence_s(one)
    period_s = max(stated_s, seen_s)
    if seen_s > _SLOWER * stated_s and _follows_edges(source, one, stated_s, edges_ns):
        period_s = stated_s
    if source.quantity == "energy_j":
        return Timing(period_s, 0.0)  # a counter misses nothing, whenever it is renewed
    window_s = source.window_s if source.window_s is not None else max(period_s, one.settling_s)
    return Timing(period_s, window_s)


def fresh(source: Source, one: Series, period_s: float) -> Fresh:
    """The readings that say something new: of a sensor that is read more often than it is renewed, those at which a
    value came, and under steady load one a period."""
    read_s = usual_interval_s(one.t_ns)
    if period_s <= _SLOWER * read_s:
        return Fresh(one, np.full(len(one.t_ns), source.native_period_s))
    new = np.isin(one.t_ns, one.new_ns)
    new[0] = True
    last_new_ns = one.t_ns[np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))]
    periods = (one.t_ns - last_new_ns) * S_PER_NS / period_s
    # Half a period late, as the period is not known to a reading: what was to come has come then.
    keep = new | ((np.diff(np.floor(periods - 0.5), prepend=0) > 0) & (periods >= _SLOWER))
    keep[-1] = True
    paused = np.diff(one.t_ns, prepend=one.t_ns[0]) * S_PER_NS > 2 * read_s
    age_s = np.where(new & ~paused, read_s, period_s)
    return Fresh(Series(one.t_ns[keep], one.value[keep], one.breaks_ns), age_s[keep])


def why_stuck(source: Source, one: Series, t0_ns: int, t1_ns: int, edges_ns: Sequence[int] = ()) -> str:
    """Why what it says of a window is no measurement: it stands still, or says that nothing was used; else empty.

    Equal readings under steady load are neither.
    """
    if source.site not in NEVER_OFF:
        return ""
    first, last = np.searchsorted(one.t_ns, (t0_ns, t1_ns))
    within = one.value[max(0, int(first) - 1) : int(last) + 1]
    if source.quantity == "energy_j":
        return f"{source.name} stood still all the while" if not np.ptp(within) else ""
    if not within.any():
        return f"{source.name} said 0 W all the while"
    stepped = [e for e in edges_ns if one.t_ns[0] < e < one.t_ns[-1]]
    return f"{source.name} never changed, though the load did" if stepped and not len(one.new_ns) else ""


def _longest_silence_s(one: Series) -> float:
    """Of a record with a single new value: the longer of the times before and after it; 0 where there is none."""
    return max((float(abs(one.t_ns[i] - at)) * S_PER_NS for at in one.new_ns[:1] for i in (0, -1)), default=0.0)


def _follows_edges(source: Source, one: Series, stated_s: float, edges_ns: Sequence[int]) -> bool:
    """Whether its big moves come right after steps of the load, more than by chance: then it is as quick as stated,
    and repeats itself because the load is steady."""
    reading = one.value if one.reading is None else one.reading
    if source.quantity == "energy_j" or not len(edges_ns) or len(reading) < 2:
        return False
    big = np.abs(np.diff(reading)) >= _BIG_MOVE * np.ptp(reading)
    moves_ns = one.t_ns[1:][big & (np.diff(reading) != 0)]
    late_ns = int((stated_s + usual_interval_s(one.t_ns)) / S_PER_NS)
    edges = np.sort(np.asarray(edges_ns, dtype=np.int64))
    at = np.searchsorted(edges, moves_ns, side="right") - 1
    near = (at >= 0) & (moves_ns - edges[np.maximum(at, 0)] <= late_ns)
    share = min(1.0, len(edges) * late_ns / max(1, int(one.t_ns[-1] - one.t_ns[0])))
    return bool(len(moves_ns) > 1 and near.mean() >= _AT_EDGES and share ** len(moves_ns) <= _BY_CHANCE)
