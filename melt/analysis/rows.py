"""The rows of each frame, from one run at a time."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from melt.analysis.columns import names
from melt.analysis.disturbance import causes, judgement
from melt.analysis.measures import contention, energy, latency, loading, memory, thermal
from melt.analysis.metrics import PER_ITERATION, PER_RUN
from melt.analysis.observation import Observation
from melt.analysis.passport import as_found, conditions, passport_id
from melt.analysis.run_record import RunRecord
from melt.analysis.settings import settings_of
from melt.analysis.stats import median
from melt.spec.events import PHASES
from melt.store.manifest import Flag
from melt.telemetry.series import Series
from melt.util.units import S_PER_NS


@dataclass(frozen=True)
class Summary:
    """A run in numbers: its timed iterations as rows of ``iterations``, and its own metrics."""

    rec: RunRecord
    observed: Observation
    iterations: tuple[dict[str, Any], ...]
    metrics: dict[str, float]


def summary(rec: RunRecord, observed: Observation) -> Summary:
    """What the frames need of a run, worked out once."""
    iterations = tuple(_iteration_rows(rec, observed))
    return Summary(rec, observed, iterations, _metrics(rec, observed, iterations))


def run_row(one: Summary, flags: Sequence[Flag]) -> dict[str, Any]:
    """A run as a row of ``runs``."""
    rec, observed = one.rec, one.observed
    manifest, failure = rec.manifest, rec.failure
    joined = ",".join(sorted(f.name for f in flags))
    passport = as_found(manifest.passport, joined)
    return {
        "run_id": rec.run_id,
        "cell_id": manifest.cell_id,
        "passport_id": passport_id(passport),
        "conditions_id": passport_id(conditions(passport)),
        "settings_id": manifest.cell.settings_id,
        "session": manifest.session,
        "attempt": manifest.attempt,
        "plan_name": manifest.plan_name,
        "adaptive": manifest.adaptive,
        "status": rec.status,
        "error_kind": failure.kind if failure else np.nan,
        "error_message": failure.message if failure else np.nan,
        "flags": joined,
        "disturbed": causes(joined, rec),
        "not_judged": ",".join(judgement(rec).not_judged),
        "compiled": _compiled(rec),
        "started_at": manifest.started_at,
        **settings_of(rec),
        "n_iterations": len(rec.timed) or len(rec.durations),
        "n_unknown_lines": rec.n_unknown_lines,
        **one.metrics,
        "itl_reason": latency.why_no_tail(sum(len(p.token_t_ns) - 1 for p in rec.timed)) or np.nan,
        "energy_sensor": observed.energy.sensor or np.nan,
        "energy_site": observed.energy.site or np.nan,
        "energy_prefill_reason": observed.energy.first_reason("prefill") or np.nan,
        "energy_decode_reason": observed.energy.first_reason("decode") or np.nan,
        "idle_power_reason": observed.energy.idle_reason or np.nan,
    }


def counted(runs: pd.DataFrame, folders: Sequence[str]) -> "pd.Series[bool]":
    """Whether each of some runs, oldest first, stands for its session, whatever its values.

    Of a session that was measured again, or by two melts at once, the first counts that is ok and undisturbed.
    """
    fit = (runs["status"] == "ok") & (runs["disturbed"] == "")
    units = runs[["cell_id", "passport_id", "session"]].assign(folder=list(folders))
    first = ~units[fit].duplicated()
    return first.reindex(runs.index, fill_value=False).astype(bool)


def _compiled(rec: RunRecord) -> Any:
    """Whether the run compiled its model itself, every graph of it or some."""
    if not rec.compiled:
        return np.nan
    return "cached" if all(c.cached for c in rec.compiled) else "cold"


def _metrics(rec: RunRecord, observed: Observation, per_pass: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Every metric of a run; NaN where it is missing, all of them where the run is not ok."""
    if not rec.ok:
        return {m.name: math.nan for m in PER_RUN}
    values = {m.name: median([p[m.name] for p in per_pass]) for m in PER_ITERATION}
    values |= latency.tails(latency.intervals(rec.timed))
    values |= latency.speeds(values, rec.manifest.cell.prompt_tokens)
    values |= loading.of_run(rec)
    values |= memory.of_run(rec, observed.memory)
    values |= energy.of_run(rec, observed.energy, values)
    values |= thermal.of_run(rec, observed.heat)
    return {m.name: values[m.name] for m in PER_RUN}


def _iteration_rows(rec: RunRecord, observed: Observation) -> Iterator[dict[str, Any]]:
    """A run's timed iterations as rows of ``iterations``."""
    cell = rec.manifest.cell
    for i, one in enumerate(rec.timed):
        yield {
            "run_id": rec.run_id,
            "iteration": i,
            "t_start_ns": one.prefill.t_start_ns,
            "prompt_tokens": one.prefill.tokens,
            "gen_tokens": len(one.token_t_ns),
            **(times := latency.of_pass(one)),
            **contention.of_pass(one, times),
            **energy.of_pass(observed.energy, i),
            **_energy_reasons(observed, i),
        }
    for i, durations in enumerate(rec.durations):
        yield {
            "run_id": rec.run_id,
            "iteration": i,
            "prompt_tokens": cell.prompt_tokens,
            "gen_tokens": cell.gen_tokens,
            **latency.of_durations(*durations, cell.prompt_tokens),
            **contention.of_durations(),
            **energy.of_pass(observed.energy, i),
            **_energy_reasons(observed, i),
        }


def _energy_reasons(observed: Observation, iteration: int) -> dict[str, Any]:
    reasons = observed.energy.reasons[iteration] if observed.energy.reasons else {}
    return {f"energy_{phase}_reason": reasons.get(phase) or np.nan for phase in PHASES}


def tokens_frame(recorded: Sequence[RunRecord]) -> pd.DataFrame:
    """Every token of every timed iteration; built from whole arrays, as there are many."""
    passes = [(r.run_id, i, np.asarray(p.token_t_ns, dtype=np.int64)) for r in recorded for i, p in enumerate(r.timed)]
    if not passes:
        return pd.DataFrame({c: np.empty(0) for c in names("tokens")})
    lengths = [len(t) for _, _, t in passes]
    run_ids = sorted({p[0] for p in passes})
    code = {run_id: i for i, run_id in enumerate(run_ids)}
    return pd.DataFrame(
        {
            "run_id": pd.Categorical.from_codes(
                np.repeat(np.array([code[p[0]] for p in passes], dtype=np.int64), lengths), pd.Index(run_ids)
            ),
            "iteration": np.repeat([p[1] for p in passes], lengths),
            "index": np.concatenate([np.arange(n) for n in lengths]),
            "t_ns": np.concatenate([t for _, _, t in passes]),
            "itl_s": np.concatenate([np.concatenate([[math.nan], np.diff(t) * S_PER_NS]) for _, _, t in passes]),
        }
    )


def samples_frame(rec: RunRecord, by_name: Mapping[str, Series]) -> pd.DataFrame:
    """The samples of one run's every series."""
    parts = []
    for source in rec.manifest.telemetry.sources:
        found = by_name.get(source.name)
        if found is None or not len(found.t_ns):
            continue
        parts.append(
            pd.DataFrame(
                {
                    "run_id": rec.run_id,
                    "source": source.name,
                    "quantity": source.quantity,
                    "site": source.site,
                    "t_ns": np.asarray(found.t_ns, dtype=np.int64),
                    "value": np.asarray(found.value, dtype=float),
                }
            )
        )
    if not parts:
        return pd.DataFrame({c: np.empty(0) for c in names("samples")})
    frame = pd.concat(parts, ignore_index=True)
    return frame.astype(dict.fromkeys(("run_id", "source", "quantity", "site"), "category"))


def ops_rows(rec: RunRecord) -> Iterator[dict[str, Any]]:
    """A run's operators as rows of ``ops``; of a run that is not ok there are none."""
    for event in rec.ops if rec.ok else ():
        total_ns = sum(r.total_ns for r in event.rows)
        for row in event.rows:
            yield {
                "run_id": rec.run_id,
                "phase": event.phase,
                "context": event.context,
                "op": row.op,
                "category": row.category,
                "device": row.device,
                "count": row.count,
                "total_s": row.total_ns * S_PER_NS,
                "share": row.total_ns / total_ns if total_ns else math.nan,
            }
