"""The standard uncertainty of an energy from reading and integrating alone, in joules.

- Steps: readings are rounded, so the truth lies evenly within one step r, r/sqrt(12) (GUM 4.3.7): for all readings of
  power alike, as under steady load they are all rounded the same way, and for each of a counter's two edges.
- Age: a counter's value that may be as old as p when it is read errs at each edge by P p/sqrt(12).
- Edges: within the interval that holds an edge the power is taken as even or straight; when it really changed there by
  D, evenly anywhere in the time h of that interval, the edge errs by D h/sqrt(12).
- Lag: a value of power may be one period p old and the mean over a window w, so h is at least p + w.
- Sampling: power between two readings is not known. Where n readings differ by d from one to the next, as random ones
  of one spread do, their mean has the standard uncertainty sqrt(mean of d^2 / 2 / n) (von Neumann 1941).
- Pauses: an interval h longer than two usual ones, in which power may have gone through the window's whole range R at
  any moment, errs by R h/sqrt(12).
"""

import math

import numpy as np

from melt.analysis.effective_period import Fresh, Timing
from melt.telemetry.readings import Values
from melt.telemetry.series import Series
from melt.telemetry.source import Source
from melt.util.units import S_PER_NS

_EVENLY = math.sqrt(12)  # the whole width of an even distribution over its standard deviation


def method_uncertainty_j(source: Source, readings: Fresh, t0_ns: int, t1_ns: int, times: Timing) -> float:
    """The standard uncertainty of the integral from t0 to t1.

    Args:
        source: what was measured with.
        readings: those that were integrated.
        t0_ns: start, within the readings.
        t1_ns: end, within the readings.
        times: the sensor's.
    """
    one = readings.series
    first, last = (int(i) for i in np.searchsorted(one.t_ns, (t0_ns, t1_ns)))
    low, high = max(0, first - 1), min(len(one.t_ns), last + 1)
    step = source.resolution or 0.0
    if source.quantity == "energy_j":
        edges = [_counter_edge(readings, at) for at in (first, last)]
        return math.hypot(*edges, math.sqrt(2) * step / _EVENLY)
    inside = one.value[low:high]
    seconds = (t1_ns - t0_ns) * S_PER_NS
    errors = [seconds * step / _EVENLY, seconds * _of_mean(inside)]
    errors += [_power_edge(one, at_ns, times) for at_ns in (t0_ns, t1_ns)]
    errors += [float(np.ptp(inside)) * h_s / _EVENLY for h_s in _pauses_s(one, low, high)]
    return math.hypot(*errors)


def _counter_edge(readings: Fresh, after: int) -> float:
    """Of the interval before reading ``after``, by the powers on both of its sides and its own."""
    one = readings.series
    power_w = np.diff(one.value) / (np.diff(one.t_ns) * S_PER_NS)
    at = min(max(after - 1, 0), len(power_w) - 1)
    around_w = power_w[max(0, at - 1) : at + 2]
    changed = float(np.ptp(around_w)) * float(one.t_ns[at + 1] - one.t_ns[at]) * S_PER_NS
    aged = float(around_w.max()) * float(readings.age_s[at : at + 2].max())
    return math.hypot(changed, aged) / _EVENLY


def _power_edge(one: Series, at_ns: int, times: Timing) -> float:
    """By the power's range as far around the edge as readings may be of its other side."""
    after = min(max(int(np.searchsorted(one.t_ns, at_ns)), 1), len(one.t_ns) - 1)
    h_s = max(times.span_s, float(one.t_ns[after] - one.t_ns[after - 1]) * S_PER_NS)
    low, high = np.searchsorted(one.t_ns, (at_ns - h_s / S_PER_NS, at_ns + h_s / S_PER_NS))
    around = one.value[max(0, int(low) - 1) : int(high) + 1]
    return float(np.ptp(around)) * h_s / _EVENLY


def _of_mean(value: Values) -> float:
    """Of the mean of readings, by how much they differ from one to the next."""
    return math.sqrt(float(np.mean(np.diff(value) ** 2)) / 2 / len(value)) if len(value) > 1 else 0.0


def _pauses_s(one: Series, low: int, high: int) -> Values:
    """The intervals between readings that are longer than two usual ones."""
    spacing_s = np.diff(one.t_ns[low:high]) * S_PER_NS
    return spacing_s[spacing_s > 2 * np.median(spacing_s)] if len(spacing_s) else spacing_s
