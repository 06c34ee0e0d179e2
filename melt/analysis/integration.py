"""Energy of phases: what a window of the device's time cost, by each sensor and in all.

A power series is integrated by trapezoids, a cumulative counter is subtracted; both are interpolated
linearly at the window's edges. No figure is given where the samples do not carry one.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from melt.telemetry.registry import has_parser
from melt.telemetry.series import Series, Values
from melt.telemetry.source import Discovery, Source
from melt.util.units import S_PER_NS

MIN_SAMPLES = 10
MIN_COVERAGE = 0.9
CLOSURE_TOLERANCE = 0.02


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
    period_s: float | None = None,
    charging: Series | None = None,
) -> PhaseEnergy:
    """What one power or energy source says of the window from t0 to t1.

    Args:
        source: of quantity power_w or energy_j.
        one: its series.
        t0_ns: start of the window, device clock.
        t1_ns: end of the window.
        period_s: how often a new value can come at best; the sensor's own native period where not given.
        charging: of a battery, the series that tells whether it was charging.
    """
    if not source.is_of_energy:
        return PhaseEnergy(reason=f"{source.name} measures {source.quantity}, not energy")
    if t1_ns <= t0_ns:
        return PhaseEnergy(reason="the phase has no length")
    if one is None and not has_parser(source):
        return PhaseEnergy(reason=f"{source.name}: its parser {source.parser!r} is of a package that is not installed")
    if one is None or len(one.t_ns) < 2:
        return PhaseEnergy(reason=f"{source.name} gave no samples")
    period_ns = int((period_s or source.native_period_s) * 1e9)
    coverage = _coverage(one, t0_ns, t1_ns, period_ns)
    n_samples = _n_samples(one, t0_ns, t1_ns, source.native_period_s)
    known = PhaseEnergy(coverage=coverage, n_samples=n_samples)
    reason = _unfit(source, one, t0_ns, t1_ns, known) or _charged(source, charging, t0_ns, t1_ns)
    return replace(known, reason=reason) if reason else _with_energy(known, source, one, t0_ns, t1_ns)


def _with_energy(known: PhaseEnergy, source: Source, one: Series, t0_ns: int, t1_ns: int) -> PhaseEnergy:
    """Where the samples begin late or end early, their mean power stands for the little that is missing."""
    from_ns, to_ns = max(t0_ns, int(one.t_ns[0])), min(t1_ns, int(one.t_ns[-1]))
    covered_j = _integral(source, one, from_ns, to_ns)
    seconds = (t1_ns - t0_ns) * S_PER_NS
    mean_w = covered_j / ((to_ns - from_ns) * S_PER_NS)
    method_j = _method_uncertainty(source, one, from_ns, to_ns)
    stated = math.nan if source.accuracy is None else source.accuracy
    return replace(
        known,
        energy_j=mean_w * seconds,
        mean_power_w=mean_w,
        uncertainty_j=math.hypot(method_j, stated * mean_w * seconds),
        method_uncertainty_j=method_j,
    )


def total_energy(discovery: Discovery, series: Mapping[str, Series], t0_ns: int, t1_ns: int) -> PhaseEnergy:
    """The window's energy over every source that counts in the device's total; NaN if one of them fails."""
    sources = [s for s in discovery.sources if s.counts_in_total]
    if not sources:
        return PhaseEnergy(reason="no power sensor")
    parts = [source_energy(discovery, series, s, t0_ns, t1_ns) for s in sources]
    coverage, n_samples = min(p.coverage for p in parts), min(p.n_samples for p in parts)
    failed = next((p.reason for p in parts if p.reason), "")
    if failed:
        return PhaseEnergy(coverage=coverage, n_samples=n_samples, reason=failed)
    # Sensors of one kind err alike, so that their uncertainties add up instead of cancelling out.
    return PhaseEnergy(
        energy_j=sum(p.energy_j for p in parts),
        mean_power_w=sum(p.mean_power_w for p in parts),
        coverage=coverage,
        n_samples=n_samples,
        uncertainty_j=sum(p.uncertainty_j for p in parts),
        method_uncertainty_j=sum(p.method_uncertainty_j for p in parts),
    )


def source_energy(
    discovery: Discovery, series: Mapping[str, Series], source: Source, t0_ns: int, t1_ns: int
) -> PhaseEnergy:
    """``phase_energy`` with the polling period and the battery's state found in the run's own records."""
    polled_s = next((p.period_ms / 1000 for p in discovery.probes if p.name == source.probe), 0.0)
    return phase_energy(
        source,
        series.get(source.name),
        t0_ns,
        t1_ns,
        period_s=max(source.native_period_s, polled_s),
        charging=_charging_series(discovery, series, source),
    )


def net_energy(gross: PhaseEnergy, idle: PhaseEnergy, seconds: float) -> PhaseEnergy:
    """A phase's energy over what the device would have spent idle in the same time."""
    if gross.reason or idle.reason:
        return replace(gross, energy_j=math.nan, mean_power_w=math.nan, reason=gross.reason or f"idle: {idle.reason}")
    return replace(
        gross,
        energy_j=gross.energy_j - idle.mean_power_w * seconds,
        mean_power_w=gross.mean_power_w - idle.mean_power_w,
        uncertainty_j=math.nan,
        method_uncertainty_j=math.nan,
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


def _n_samples(one: Series, t0_ns: int, t1_ns: int, native_period_s: float) -> int:
    """Samples in the window, and no more than the sensor can have had new values."""
    first, last = np.searchsorted(one.t_ns, (t0_ns, t1_ns + 1))
    return min(int(last - first), int((t1_ns - t0_ns) * S_PER_NS / native_period_s) + 1)


def _unfit(source: Source, one: Series, t0_ns: int, t1_ns: int, known: PhaseEnergy) -> str:
    if known.n_samples < MIN_SAMPLES:
        samples = "1 sample" if known.n_samples == 1 else f"{known.n_samples} samples"
        return f"{samples} of {source.name}, fewer than {MIN_SAMPLES}"
    if known.coverage < MIN_COVERAGE:
        return f"{source.name} covers {known.coverage:.0%} of the phase, less than {MIN_COVERAGE:.0%}"
    for broken_ns in one.breaks_ns:
        before = int(one.t_ns[np.searchsorted(one.t_ns, broken_ns) - 1])
        if before < t1_ns and broken_ns > t0_ns:
            return f"{source.name} started again during the phase"
    return ""


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


def _method_uncertainty(source: Source, one: Series, t0_ns: int, t1_ns: int) -> float:
    """Standard uncertainty of the integral in joules, from steps, edges and sampling.

    - Steps: a reading lies evenly within one step r, so its standard uncertainty is r/sqrt(12) (GUM 4.3.7): twice
      for a counter's two edges; for n samples of power over a time T, (T/sqrt(n)) r/sqrt(12).
    - Age: a counter's value is up to one native period p old, and errs at each edge by P p/sqrt(12).
    - Edges: between two samples h apart the power is taken as even or straight; when it really changed there
      by D, evenly anywhere between them, the edge errs by D h/sqrt(12).
    - Sampling: a third of the difference to the integral over every other sample (Richardson, for trapezoids).
    - Pauses: an interval h longer than two usual ones, in which power may have gone through the window's whole
      range R at any moment, errs by R h/sqrt(12).
    """
    first, last = (int(i) for i in np.searchsorted(one.t_ns, (t0_ns, t1_ns + 1)))
    low, high = max(0, first - 2), min(len(one.t_ns), last + 2)
    t_s = (one.t_ns[low:high] - t0_ns) * S_PER_NS
    value, spacing_s = one.value[low:high], np.diff(t_s)
    step = (source.resolution or 0.0) / math.sqrt(12)
    if source.quantity == "energy_j":
        power = np.diff(value) / spacing_s
        age_s = source.native_period_s / math.sqrt(12)
        errors = [step, step, power[0] * age_s, power[-1] * age_s]
    else:
        halved = Series(one.t_ns[low:high:2], value[::2])
        inner = (max(t0_ns, int(halved.t_ns[0])), min(t1_ns, int(halved.t_ns[-1])))
        sampling_j = (_integral(source, one, *inner) - _integral(source, halved, *inner)) / 3
        errors = [(t1_ns - t0_ns) * S_PER_NS / math.sqrt(max(1, last - first)) * step, sampling_j]
        errors += [float(np.ptp(value)) * h_s / math.sqrt(12) for h_s in _pauses_s(spacing_s)]
        power = value
    changes = power[2:] - power[:-2] if len(power) > 2 else np.diff(power)
    edges_s = (spacing_s[0] / math.sqrt(12), spacing_s[-1] / math.sqrt(12))
    errors += [changes[0] * edges_s[0], changes[-1] * edges_s[1]]
    return math.sqrt(sum(float(e) ** 2 for e in errors))


def _pauses_s(spacing_s: Values) -> Values:
    """The intervals between samples that are longer than two usual ones."""
    return spacing_s[spacing_s > 2 * np.median(spacing_s)]
