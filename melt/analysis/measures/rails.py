"""The energy of each phase by rail: every power or energy source of a run, those of the total and those inside it."""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from melt.analysis.integration import IDLE, PhaseEnergy, source_energy
from melt.analysis.measures import energy
from melt.analysis.measures.energy import load_edges, windows
from melt.analysis.run_record import RunRecord
from melt.analysis.stats import median
from melt.spec.events import PHASES
from melt.spec.metrics import Metric
from melt.telemetry.series import Series
from melt.telemetry.source import Source
from melt.util.units import S_PER_NS

_SHARED = {m.name: m for m in energy.METRICS}
METRICS = (
    _SHARED["idle_power_w"],
    _SHARED["energy_prefill_j"],
    Metric("power_prefill_w", "W", "mean power of the prefill", title="prefill power", per="rail", shown=("rails",)),
    _SHARED["prefill_j_per_token"],
    _SHARED["energy_decode_j"],
    Metric(
        "power_decode_w",
        "W",
        "mean power from the first to the last token",
        title="decode power",
        per="rail",
        shown=("rails",),
    ),
    _SHARED["decode_j_per_token"],
)


def has_rails(rec: RunRecord) -> bool:
    """Whether its telemetry can hold what ``rail_rows`` needs: a run that is ok, and says when its phases were."""
    return rec.ok and bool(rec.timed) and any(_is_power(s) for s in rec.manifest.telemetry.sources)


def rail_rows(rec: RunRecord, series: Mapping[str, Series]) -> Iterator[dict[str, Any]]:
    """A run's rails: medians over its timed iterations, and why there is none in the first that lacks it."""
    idle_t_ns = rec.manifest.idle_t_ns
    for source in rec.manifest.telemetry.sources:
        if not _is_power(source):
            continue
        row: dict[str, Any] = {
            "run_id": rec.run_id,
            "source": source.name,
            "rail": source.rail,
            "sensor": source.sensor,
            "site": source.site,
            "counts_in_total": source.counts_in_total,
        }
        energy = partial(source_energy, rec.manifest.telemetry, series, source, edges_ns=load_edges(rec))
        row["idle_power_w"] = energy(*idle_t_ns, demand=IDLE).mean_power_w if idle_t_ns else math.nan
        for phase in PHASES:
            found = [energy(*windows(one)[phase]) for one in rec.timed]
            row |= {"effective_period_s": found[-1].period_s, **_of_phase(rec, phase, found)}
        yield row


def _is_power(source: Source) -> bool:
    return source.is_of_energy


def _of_phase(rec: RunRecord, phase: str, found: list[PhaseEnergy]) -> dict[str, Any]:
    tokens = [one.prefill.tokens if phase == "prefill" else len(one.token_t_ns) - 1 for one in rec.timed]
    seconds = [(end - start) * S_PER_NS for start, end in (windows(one)[phase] for one in rec.timed)]
    return {
        f"energy_{phase}_j": median(f.energy_j for f in found),
        f"power_{phase}_w": median(f.energy_j / s if s else math.nan for f, s in zip(found, seconds, strict=True)),
        f"{phase}_j_per_token": median(f.energy_j / n if n else math.nan for f, n in zip(found, tokens, strict=True)),
        f"energy_{phase}_reason": next((f.reason for f in found if f.reason), np.nan),
    }
