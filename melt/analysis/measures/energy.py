"""Energy of the phases of a run's timed iterations, and whether phases and gaps make the whole."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from melt.analysis.integration import PhaseEnergy, closure, gaps, net_energy, total_energy
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
NO_TIMES = "the program does not tell when its phases were"
SHORT_GAP_S = 0.1  # no sensor gives ten samples of less


@dataclass(frozen=True)
class PhaseEnergies:
    """Energies of a run; all absent where the device has no power sensor.

    ``columns`` and ``reasons`` have an entry a timed iteration: its energy columns, and by phase why one is NaN.
    """

    sensor: str = ""
    idle_power_w: float = math.nan
    columns: tuple[dict[str, float], ...] = ()
    reasons: tuple[dict[str, str], ...] = ()
    closure_gap: float = math.nan  # relative; NaN where it could not be checked
    closed: bool = True

    def first_reason(self, phase: str) -> str:
        """Why the energy of a phase is missing in the first iteration that lacks it; empty where none does."""
        return next((r[phase] for r in self.reasons if r[phase]), "")


def phase_energies(rec: RunRecord, series: Mapping[str, Series]) -> PhaseEnergies:
    """Energies of a run's timed iterations from the sources that count in the device's total."""
    discovery, idle_t_ns = rec.manifest.telemetry, rec.manifest.idle_t_ns
    sensors = sorted({s.sensor for s in discovery.sources if s.counts_in_total})
    if not sensors:
        missing = dict.fromkeys(PHASES, "no power sensor")
        return PhaseEnergies(reasons=tuple(missing for _ in rec.timed or rec.durations))
    idle = total_energy(discovery, series, *idle_t_ns) if idle_t_ns else PhaseEnergy(reason="no idle baseline")
    if not rec.timed:
        missing = dict.fromkeys(PHASES, NO_TIMES)
        return PhaseEnergies(", ".join(sensors), idle.mean_power_w, reasons=tuple(missing for _ in rec.durations))
    passes = []
    for one in rec.timed:
        phases = {p: total_energy(discovery, series, *w) for p, w in windows(one).items()}
        whole = total_energy(discovery, series, one.prefill.t_start_ns, one.token_t_ns[-1])
        passes.append((one, phases, whole))
    gap, closed = _closure(rec, series, passes)
    return PhaseEnergies(
        sensor=", ".join(sensors),
        idle_power_w=idle.mean_power_w,
        columns=tuple(_columns(one, phases, whole, idle) for one, phases, whole in passes),
        reasons=tuple({p: phases[p].reason for p in PHASES} for _, phases, _ in passes),
        closure_gap=gap,
        closed=closed,
    )


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


def _columns(
    one: Iteration, phases: Mapping[str, PhaseEnergy], whole: PhaseEnergy, idle: PhaseEnergy
) -> dict[str, float]:
    out = {"mean_power_w": whole.mean_power_w}
    for phase, (start, end) in windows(one).items():
        gross = phases[phase]
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


def _closure(
    rec: RunRecord, series: Mapping[str, Series], passes: list[tuple[Iteration, dict[str, PhaseEnergy], PhaseEnergy]]
) -> tuple[float, bool]:
    """Phases and gaps against the whole timed part of the run.

    A gap is often too short for a figure of its own; then it is taken at the whole's mean power. Where a phase
    itself has no figure there is nothing to check.
    """
    discovery = rec.manifest.telemetry
    start, end = rec.timed[0].prefill.t_start_ns, rec.timed[-1].token_t_ns[-1]
    whole = total_energy(discovery, series, start, end)
    parts = [energy for _, phases, _ in passes for energy in phases.values()]
    if whole.reason or any(p.reason for p in parts):
        return math.nan, True
    for gap in gaps([w for one, _, _ in passes for w in windows(one).values()], start, end):
        between_s = (gap[1] - gap[0]) * S_PER_NS
        between = total_energy(discovery, series, *gap) if between_s > SHORT_GAP_S else PhaseEnergy(reason="short")
        parts.append(replace(whole, energy_j=whole.mean_power_w * between_s) if between.reason else between)
    checked = closure(parts, whole, (end - start) * S_PER_NS)
    return checked.relative_gap, checked.ok
