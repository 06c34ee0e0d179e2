"""Energy of phases: what a window of the device's time cost, by each sensor and in all.

A power series is integrated by trapezoids, a cumulative counter is subtracted; both are interpolated
linearly at the window's edges. No figure is given where the samples do not carry one.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from melt.analysis.effective_period import Timing, fresh, timing, why_stuck
from melt.analysis.energy_uncertainty import method_uncertainty_j
from melt.telemetry.needed_time import IDLE_PERIODS, PHASE_PERIODS
from melt.telemetry.registry import has_parser
from melt.telemetry.series import Series
from melt.telemetry.source import Discovery, Source
from melt.util.units import S_PER_NS

MIN_SAMPLES = 10
MIN_COVERAGE = 0.9
MIN_OF_COUNTER = 3  # without one inside, nothing shows how even the power was
_ROUNDING = 1e-6
MAX_UNCERTAINTY = 0.05  # relative, standard, of reading and integrating
CLOSURE_TOLERANCE = 0.02


@dataclass(frozen=True)
class Demand:
    """What a window must hold for a figure: a power sensor's effective periods, and how large the relative standard
    uncertainty of reading and integrating may be, for a power sensor and for a counter."""

    periods: int
    of_power: float = MAX_UNCERTAINTY
    of_counter: float = MAX_UNCERTAINTY

    def most(self, source: Source) -> float:
        """The relative uncertainty that this source may have."""
        return self.of_counter if source.quantity == "energy_j" else self.of_power


PHASE = Demand(PHASE_PERIODS)
IDLE = Demand(IDLE_PERIODS, of_power=math.inf)


@dataclass(frozen=True)
class PhaseEnergy:
    """A window's energy; NaN with the reason where it cannot be known.

    ``method_uncertainty_j`` is the standard uncertainty of reading and integrating alone; ``uncertainty_j``
    also holds the sensor's stated accuracy, and is NaN where its maker states none.
    """

    energy_j: float = math.nan
    mean_power_w: float = math.nan
    coverage: float = 0.0
    n_samples: int = 0
    period_s: float = math.nan  # the sensor's effective one
    uncertainty_j: float = math.nan
    method_uncertainty_j: float = math.nan
    reason: str = ""


@dataclass(frozen=True)
class Closure:
    """Whether the parts make the whole."""

    ok: bool
    parts_j: float
    relative_gap: float


def phase_energy(
    source: Source,
    one: Series | None,
    t0_ns: int,
    t1_ns: int,
    *,
    polled_s: float = 0.0,
    charging: Series | None = None,
    edges_ns: Sequence[int] = (),
    demand: Demand = PHASE,
) -> PhaseEnergy:
    """What one power or energy source says of the window from t0 to t1.

    Args:
        source: of quantity power_w or energy_j.
        one: its series, of the whole record.
        t0_ns: start of the window, device clock.
        t1_ns: end of the window.
        polled_s: how often it was read.
        charging: of a battery, the series that tells whether it was charging.
        edges_ns: moments at which the load is known to have stepped.
        demand: what the window must hold.
    """
    if not source.is_of_energy:
        return PhaseEnergy(reason=f"{source.name} measures {source.quantity}, not energy")
    if t1_ns <= t0_ns:
        return PhaseEnergy(reason="the phase has no length")
    if one is None and not has_parser(source):
        return PhaseEnergy(reason=f"{source.name}: its parser {source.parser!r} is of a package that is not installed")
    if one is None or len(one.t_ns) < 2:
        return PhaseEnergy(reason=f"{source.name} gave no samples")
    times = timing(source, one, polled_s, edges_ns)
    known = PhaseEnergy(
        coverage=_coverage(one, t0_ns, t1_ns, int(max(source.native_period_s, polled_s) / S_PER_NS)),
        n_samples=_n_samples(one, t0_ns, t1_ns, times.period_s),
        period_s=times.effective_s,
    )
    reason = (
        _unfit(source, one, t0_ns, t1_ns, known, demand)
        or _charged(source, charging, t0_ns, t1_ns)
        or why_stuck(source, one, t0_ns, t1_ns, edges_ns)
    )
    if reason:
        return replace(known, reason=reason)
    found = _with_energy(known, source, one, t0_ns, t1_ns, times)
    reason = _imprecise(source, found, demand)
    return replace(known, reason=reason) if reason else found


def _with_energy(known: PhaseEnergy, source: Source, one: Series, t0_ns: int, t1_ns: int, times: Timing) -> PhaseEnergy:
    """Where the samples begin late or end early, their mean power stands for the little that is missing."""
    readings = fresh(source, one, times.period_s)
    one = readings.series
    if source.quantity == "power_w" and source.window_s:
        one = Series(one.t_ns - int(source.window_s / 2 / S_PER_NS), one.value)
        readings = replace(readings, series=one)
    from_ns, to_ns = max(t0_ns, int(one.t_ns[0])), min(t1_ns, int(one.t_ns[-1]))
    covered_j = _integral(source, one, from_ns, to_ns)
    seconds = (t1_ns - t0_ns) * S_PER_NS
    mean_w = covered_j / ((to_ns - from_ns) * S_PER_NS)
    method_j = method_uncertainty_j(source, readings, from_ns, to_ns, times)
    stated = math.nan if source.accuracy is None else source.accuracy
    return replace(
        known,
        energy_j=mean_w * seconds,
        mean_power_w=mean_w,
        uncertainty_j=math.hypot(method_j, stated * mean_w * seconds),
        method_uncertainty_j=method_j,
    )


def total_energy(
    discovery: Discovery,
    series: Mapping[str, Series],
    t0_ns: int,
    t1_ns: int,
    *,
    edges_ns: Sequence[int] = (),
    demand: Demand = PHASE,
) -> PhaseEnergy:
    """The window's energy over every source that counts in the device's total; NaN if one of them fails."""
    sources = [s for s in discovery.sources if s.counts_in_total]
    if not sources:
        return PhaseEnergy(reason=discovery.why_no_energy)
    # Whether the total is precise enough is asked of the sum: a rail that hardly takes anything may be known less well.
    of_one = replace(demand, of_power=math.inf, of_counter=math.inf)
    parts = [source_energy(discovery, series, s, t0_ns, t1_ns, edges_ns=edges_ns, demand=of_one) for s in sources]
    known = PhaseEnergy(
        coverage=min(p.coverage for p in parts),
        n_samples=min(p.n_samples for p in parts),
        period_s=max(p.period_s for p in parts),
        reason=next((p.reason for p in parts if p.reason), ""),
    )
    if known.reason:
        return known
    # Sensors of one kind err alike, so that their uncertainties add up instead of cancelling out.
    found = replace(
        known,
        energy_j=sum(p.energy_j for p in parts),
        mean_power_w=sum(p.mean_power_w for p in parts),
        uncertainty_j=sum(p.uncertainty_j for p in parts),
        method_uncertainty_j=sum(p.method_uncertainty_j for p in parts),
    )
    reason = _imprecise(sources[0], found, demand)
    return replace(known, reason=reason) if reason else found


def source_energy(
    discovery: Discovery,
    series: Mapping[str, Series],
    source: Source,
    t0_ns: int,
    t1_ns: int,
    *,
    edges_ns: Sequence[int] = (),
    demand: Demand = PHASE,
) -> PhaseEnergy:
    """``phase_energy`` with the polling period and the battery's state found in the run's own records."""
    polled_s = next((p.period_ms / 1000 for p in discovery.probes if p.name == source.probe), 0.0)
    return phase_energy(
        source,
        series.get(source.name),
        t0_ns,
        t1_ns,
        polled_s=polled_s,
        charging=_charging_series(discovery, series, source),
        edges_ns=edges_ns,
        demand=demand,
    )


def net_energy(gross: PhaseEnergy, idle: PhaseEnergy, seconds: float) -> PhaseEnergy:
    """A phase's energy over what the device would have spent idle in the same time; both err on their own."""
    if gross.reason or idle.reason:
        return replace(gross, energy_j=math.nan, mean_power_w=math.nan, reason=gross.reason or f"idle: {idle.reason}")
    idle_s = idle.energy_j / idle.mean_power_w if idle.mean_power_w else math.inf
    share = seconds / idle_s
    return replace(
        gross,
        energy_j=gross.energy_j - idle.mean_power_w * seconds,
        mean_power_w=gross.mean_power_w - idle.mean_power_w,
        uncertainty_j=math.hypot(gross.uncertainty_j, idle.uncertainty_j * share),
        method_uncertainty_j=math.hypot(gross.method_uncertainty_j, idle.method_uncertainty_j * share),
    )


def closure(parts: Iterable[PhaseEnergy], whole: PhaseEnergy, seconds: float) -> Closure:
    """Whether phases and gaps make the whole, and mean power times time its energy, within two percent."""
    parts_j = sum(p.energy_j for p in parts)
    gap = max(abs(parts_j - whole.energy_j), abs(whole.mean_power_w * seconds - whole.energy_j))
    relative = gap / abs(whole.energy_j) if whole.energy_j else (0.0 if gap == 0 else math.inf)
    return Closure(bool(relative <= CLOSURE_TOLERANCE), parts_j, relative)


def gaps(phases: Sequence[tuple[int, int]], t0_ns: int, t1_ns: int) -> list[tuple[int, int]]:
    """The windows between phases, so that both together fill the whole."""
    windows, at_ns = [], t0_ns
    for start_ns, end_ns in sorted(phases):
        if start_ns > at_ns:
            windows.append((at_ns, start_ns))
        at_ns = max(at_ns, end_ns)
    if t1_ns > at_ns:
        windows.append((at_ns, t1_ns))
    return windows


def _coverage(one: Series, t0_ns: int, t1_ns: int, period_ns: int) -> float:
    """Share of the window that is within one period of a sample."""
    first, last = np.searchsorted(one.t_ns, (t0_ns - period_ns, t1_ns + period_ns))
    t_ns = one.t_ns[first:last]
    if not len(t_ns):
        return 0.0
    starts, ends = np.maximum(t_ns - period_ns, t0_ns), np.minimum(t_ns + period_ns, t1_ns)
    starts[1:] = np.maximum(starts[1:], ends[:-1])
    return float(np.maximum(ends - starts, 0).sum() / (t1_ns - t0_ns))


def _n_samples(one: Series, t0_ns: int, t1_ns: int, period_s: float) -> int:
    """Samples in the window, and no more than the sensor can have had new values."""
    first, last = np.searchsorted(one.t_ns, (t0_ns, t1_ns + 1))
    return min(int(last - first), int((t1_ns - t0_ns) * S_PER_NS / period_s) + 1)


def _unfit(source: Source, one: Series, t0_ns: int, t1_ns: int, known: PhaseEnergy, demand: Demand) -> str:
    seconds, least_s = (t1_ns - t0_ns) * S_PER_NS, demand.periods * known.period_s
    if source.quantity == "power_w" and seconds < (1 - _ROUNDING) * least_s:
        return (
            f"{seconds:.3g} s, and {source.name} needs {least_s:.3g} s: {demand.periods} times the "
            f"{known.period_s:.2g} s in which it follows the load"
        )
    least = MIN_SAMPLES if source.quantity == "power_w" else MIN_OF_COUNTER
    if known.n_samples < least:
        samples = "1 sample" if known.n_samples == 1 else f"{known.n_samples} samples"
        return f"{samples} of {source.name}, fewer than {least}"
    if known.coverage < MIN_COVERAGE:
        return f"{source.name} covers {known.coverage:.0%} of the phase, less than {MIN_COVERAGE:.0%}"
    for broken_ns in one.breaks_ns:
        before = int(one.t_ns[np.searchsorted(one.t_ns, broken_ns) - 1])
        if before < t1_ns and broken_ns > t0_ns:
            return f"{source.name} started again during the phase"
    return ""


def _imprecise(source: Source, found: PhaseEnergy, demand: Demand) -> str:
    relative = found.method_uncertainty_j / abs(found.energy_j) if found.energy_j else math.inf
    most = demand.most(source)
    if not relative > most:
        return ""
    return f"{source.name} knows it to {relative:.1%} only, and {most:.0%} is the most: the phase is short"


def _charged(source: Source, charging: Series | None, t0_ns: int, t1_ns: int) -> str:
    if source.site != "battery":
        return ""
    if charging is None or not len(charging.t_ns):
        return "whether the battery was charging is not known"
    fed = bool((charging.states(t0_ns, t1_ns) > 0).any())
    return "the battery was charging, or something else fed the device" if fed else ""


def _charging_series(discovery: Discovery, series: Mapping[str, Series], source: Source) -> Series | None:
    if source.site != "battery":
        return None
    for other in discovery.sources:
        if other.quantity == "charging" and other.rail == source.rail:
            return series.get(other.name)
    return None


def _integral(source: Source, one: Series, t0_ns: int, t1_ns: int) -> float:
    """Joules from t0 to t1, both within the series."""
    # Times count from t0, as nanoseconds since boot have more digits than a double holds of them and their like.
    t_s = (one.t_ns - t0_ns) * S_PER_NS
    edges_s = np.array([0.0, (t1_ns - t0_ns) * S_PER_NS])
    at_edges = np.interp(edges_s, t_s, one.value)
    if source.quantity == "energy_j":
        return float(at_edges[1] - at_edges[0])
    first, last = np.searchsorted(one.t_ns, t0_ns, side="right"), np.searchsorted(one.t_ns, t1_ns, side="left")
    t_s = np.concatenate((edges_s[:1], t_s[first:last], edges_s[1:]))
    return float(np.trapezoid(np.concatenate((at_edges[:1], one.value[first:last], at_edges[1:])), t_s))
