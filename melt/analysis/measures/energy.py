"""Energy of the phases of a run's timed iterations, and whether phases and gaps make the whole."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from melt.analysis.integration import IDLE, PhaseEnergy, closure, gaps, net_energy, total_energy
from melt.analysis.run_record import RunRecord
from melt.spec.events import PHASES, Iteration
from melt.spec.metrics import Metric
from melt.telemetry.series import Series
from melt.telemetry.source import Site
from melt.util.units import S_PER_NS

METRICS = (
    Metric(
        "energy_prefill_j",
        "J",
        "energy of the prefill, gross",
        title="prefill energy",
        better="lower",
        per="iteration",
    ),
    Metric(
        "energy_decode_j",
        "J",
        "energy from the first to the last token, gross",
        title="decode energy",
        better="lower",
        per="iteration",
    ),
    Metric(
        "energy_prefill_net_j",
        "J",
        "energy of the prefill less idle power x time",
        title="net prefill energy",
        better="lower",
        per="iteration",
    ),
    Metric(
        "energy_decode_net_j",
        "J",
        "energy of the decode less idle power x time",
        title="net decode energy",
        better="lower",
        per="iteration",
    ),
    Metric(
        "energy_prefill_uncertainty_j",
        "J",
        "standard uncertainty of energy_prefill_j; NaN if no accuracy is stated",
        title="uncertainty of the prefill energy",
        per="iteration",
    ),
    Metric(
        "energy_decode_uncertainty_j",
        "J",
        "standard uncertainty of energy_decode_j; NaN if no accuracy is stated",
        title="uncertainty of the decode energy",
        per="iteration",
    ),
    Metric(
        "energy_prefill_method_uncertainty_j",
        "J",
        "the part of it that comes from reading and integrating",
        title="method uncertainty of the prefill energy",
        per="iteration",
    ),
    Metric(
        "energy_decode_method_uncertainty_j",
        "J",
        "the part of it that comes from reading and integrating",
        title="method uncertainty of the decode energy",
        per="iteration",
    ),
    Metric(
        "energy_prefill_coverage",
        "0 to 1",
        "share of the prefill within one native period of a power sample",
        title="power coverage of the prefill",
        per="iteration",
    ),
    Metric(
        "energy_decode_coverage",
        "0 to 1",
        "share of the decode within one native period of a power sample",
        title="power coverage of the decode",
        per="iteration",
    ),
    Metric(
        "prefill_j_per_token",
        "J/token",
        "energy_prefill_j / prompt tokens",
        title="energy per prompt token",
        better="lower",
        per="iteration",
        shown=("cells", "rails", "crossover"),
        figure="energy",
        plain="Energy of the prefill over its tokens, idle power included.",
    ),
    Metric(
        "decode_j_per_token",
        "J/token",
        "energy_decode_j / (generated tokens - 1)",
        title="energy per generated token",
        narrow="decode mJ/token",
        better="lower",
        per="iteration",
        shown=("summary", "cells", "rails", "card", "crossover"),
        figure="energy",
        plain="Energy of the decode over its tokens, idle power included.",
    ),
    Metric(
        "energy_pass_j",
        "J",
        "energy from the start of the prefill to the last token, gross; also where a phase is too short for its own",
        title="energy per pass",
        better="lower",
        per="iteration",
    ),
    Metric(
        "energy_pass_method_uncertainty_j",
        "J",
        "standard uncertainty of energy_pass_j from reading and integrating",
        title="method uncertainty of the energy per pass",
        per="iteration",
    ),
    Metric(
        "energy_pass_mwh",
        "mWh",
        "energy_pass_j / 3.6",
        title="energy per pass in mWh",
        better="lower",
        per="iteration",
    ),
    Metric(
        "energy_pass_mah",
        "mAh",
        "charge that a pass takes from the battery: energy_pass_mwh / its mean voltage meanwhile; site battery only",
        title="charge per pass",
        better="lower",
        per="iteration",
    ),
    Metric(
        "energy_period_s",
        "s",
        "effective period of the slowest sensor of the total: a phase needs 20 of them, where power is read",
        title="effective period of the power sensor",
        per="iteration",
    ),
    Metric(
        "mean_power_w",
        "W",
        "mean power from the start of the prefill to the last token",
        title="mean power",
        per="iteration",
    ),
    Metric(
        "idle_power_w",
        "W",
        "mean power of the idle baseline just before the run",
        title="idle power",
        shown=("rails",),
    ),
    Metric(
        "prompts_per_charge",
        "prompts",
        "battery capacity / (energy_prefill_j + energy_decode_j), full to empty and one prompt after the other; "
        "only where all that the device takes is measured: site battery, input or wall",
        title="prompts per charge",
        better="higher",
    ),
)
WHOLE_DEVICE = frozenset[Site](("battery", "input", "wall"))  # where all that a device takes is measured
J_PER_MWH = 3.6
NO_TIMES = "the program does not tell when its phases were"
SHORT_GAP_S = 0.1  # no sensor gives ten samples of less


@dataclass(frozen=True)
class PhaseEnergies:
    """Energies of a run; all absent where the device has no power sensor.

    ``columns`` and ``reasons`` have an entry a timed iteration: its energy columns, and by phase why one is NaN.
    """

    sensor: str = ""
    site: str = ""
    idle_power_w: float = math.nan
    columns: tuple[dict[str, float], ...] = ()
    reasons: tuple[dict[str, str], ...] = ()
    idle_reason: str = ""  # why there is no idle power, and so no net energy
    closure_gap: float = math.nan  # relative; NaN where it could not be checked
    closed: bool = True

    def first_reason(self, phase: str) -> str:
        """Why the energy of a phase is missing in the first iteration that lacks it; empty where none does."""
        return next((r[phase] for r in self.reasons if r[phase]), "")


def phase_energies(rec: RunRecord, series: Mapping[str, Series]) -> PhaseEnergies:
    """Energies of a run's timed iterations from the sources that count in the device's total."""
    discovery, edges_ns = rec.manifest.telemetry, load_edges(rec)
    counted = [s for s in discovery.sources if s.counts_in_total]
    sensor, site = (", ".join(sorted({str(getattr(s, field)) for s in counted})) for field in ("sensor", "site"))
    if not counted:
        missing = dict.fromkeys(PHASES, discovery.why_no_energy)
        return PhaseEnergies(reasons=tuple(missing for _ in rec.timed or rec.durations))
    energy = partial(total_energy, discovery, series, edges_ns=edges_ns)
    idle_t_ns = rec.manifest.idle_t_ns
    idle = energy(*idle_t_ns, demand=IDLE) if idle_t_ns else PhaseEnergy(reason="no idle baseline")
    known = PhaseEnergies(sensor, site, idle.mean_power_w, idle_reason=idle.reason)
    if not rec.timed:
        missing = dict.fromkeys(PHASES, NO_TIMES)
        return replace(known, reasons=tuple(missing for _ in rec.durations))
    passes = []
    for one in rec.timed:
        phases = {p: energy(*w) for p, w in windows(one).items()}
        whole = energy(one.prefill.t_start_ns, one.token_t_ns[-1])
        passes.append(_Pass(one, phases, whole, _battery_v(rec, series, one)))
    gap, closed = _closure(rec, energy, passes)
    return replace(
        known,
        columns=tuple(_columns(one, idle) for one in passes),
        reasons=tuple({p: one.phases[p].reason for p in PHASES} for one in passes),
        closure_gap=gap,
        closed=closed,
    )


def load_edges(rec: RunRecord) -> tuple[int, ...]:
    """The moments at which a run's load is known to step: the idle baseline's end, loading, each phase's two ends."""
    edges = [rec.manifest.idle_t_ns[1]] if rec.manifest.idle_t_ns else []
    edges += [rec.loaded.t_start_ns, rec.loaded.t_end_ns] if rec.loaded else []
    for one in rec.passes:
        edges += [t_ns for window in windows(one).values() for t_ns in window]
    return tuple(sorted(edges))


def of_pass(energies: PhaseEnergies, index: int) -> dict[str, float]:
    """The energy metrics of a timed iteration; NaN where there is no power sensor, or no times."""
    absent = {m.name: math.nan for m in METRICS if m.per == "iteration"}
    return energies.columns[index] if energies.columns else absent


def of_run(rec: RunRecord, energies: PhaseEnergies, medians: Mapping[str, float]) -> dict[str, float]:
    """The energy metrics of a run beside the medians over its iterations."""
    capacity_j = rec.manifest.device.battery_capacity_j
    used_j = medians["energy_prefill_j"] + medians["energy_decode_j"]
    sites = {s.site for s in rec.manifest.telemetry.sources if s.counts_in_total}
    prompts = capacity_j / used_j if capacity_j and sites <= WHOLE_DEVICE and used_j > 0 else math.nan
    return {"idle_power_w": energies.idle_power_w, "prompts_per_charge": prompts}


def windows(one: Iteration) -> dict[str, tuple[int, int]]:
    """The phases of one pass: the prefill, and from the first token to the last."""
    return {
        "prefill": (one.prefill.t_start_ns, one.prefill.t_end_ns),
        "decode": (one.token_t_ns[0], one.token_t_ns[-1]),
    }


@dataclass(frozen=True)
class _Pass:
    """The energies of one pass; ``battery_v`` is NaN where no battery gives them."""

    one: Iteration
    phases: Mapping[str, PhaseEnergy]
    whole: PhaseEnergy
    battery_v: float


def _battery_v(rec: RunRecord, series: Mapping[str, Series], one: Iteration) -> float:
    """Mean voltage in a pass of the battery whose energy is counted; NaN where that is none, or several."""
    sources = rec.manifest.telemetry.sources
    rails = [s.rail for s in sources if s.counts_in_total and s.site == "battery"]
    if len(rails) != 1:
        return math.nan
    known = [series[s.name] for s in sources if s.quantity == "voltage_v" and s.rail in rails and s.name in series]
    volts = [v.states(one.prefill.t_start_ns, one.token_t_ns[-1]) for v in known]
    return float(volts[0].mean()) if volts and volts[0].size else math.nan


def _columns(of: _Pass, idle: PhaseEnergy) -> dict[str, float]:
    one, whole = of.one, of.whole
    pass_mwh = whole.energy_j / J_PER_MWH
    out = {
        "mean_power_w": whole.mean_power_w,
        "energy_pass_j": whole.energy_j,
        "energy_pass_method_uncertainty_j": whole.method_uncertainty_j,
        "energy_pass_mwh": pass_mwh,
        "energy_pass_mah": pass_mwh / of.battery_v if of.battery_v > 0 else math.nan,
        "energy_period_s": whole.period_s,
    }
    for phase, (start, end) in windows(one).items():
        gross = of.phases[phase]
        out |= {
            f"energy_{phase}_j": gross.energy_j,
            f"energy_{phase}_net_j": net_energy(gross, idle, (end - start) * S_PER_NS).energy_j,
            f"energy_{phase}_uncertainty_j": gross.uncertainty_j,
            f"energy_{phase}_method_uncertainty_j": gross.method_uncertainty_j,
            f"energy_{phase}_coverage": gross.coverage,
        }
    out["prefill_j_per_token"] = out["energy_prefill_j"] / one.prefill.tokens if one.prefill.tokens else math.nan
    out["decode_j_per_token"] = out["energy_decode_j"] / (len(one.token_t_ns) - 1)
    return out


def _closure(rec: RunRecord, energy: Callable[[int, int], PhaseEnergy], passes: list[_Pass]) -> tuple[float, bool]:
    """Phases and gaps against the whole timed part of the run.

    A gap is often too short for a figure of its own; then it is taken at the whole's mean power. Where a phase
    itself has no figure there is nothing to check.
    """
    start, end = rec.timed[0].prefill.t_start_ns, rec.timed[-1].token_t_ns[-1]
    whole = energy(start, end)
    parts = [of_phase for one in passes for of_phase in one.phases.values()]
    if whole.reason or any(p.reason for p in parts):
        return math.nan, True
    for gap in gaps([w for of in passes for w in windows(of.one).values()], start, end):
        between_s = (gap[1] - gap[0]) * S_PER_NS
        between = energy(*gap) if between_s > SHORT_GAP_S else PhaseEnergy(reason="short")
        parts.append(replace(whole, energy_j=whole.mean_power_w * between_s) if between.reason else between)
    checked = closure(parts, whole, (end - start) * S_PER_NS)
    return checked.relative_gap, checked.ok
