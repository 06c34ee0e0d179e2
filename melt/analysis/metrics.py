"""Every metric: the rows that the measures declare, and each list of metrics, chosen from the rows."""

from melt.analysis.measures import contention, energy, latency, loading, memory, rails, thermal
from melt.spec.metrics import FigureKind, Metric, Place

# The order in which people meet them. Each declares METRICS.
MEASURES = (loading, latency, contention, memory, energy, thermal)
ROWS: tuple[Metric, ...] = tuple(m for measure in MEASURES for m in measure.METRICS)

# The order of columns: what comes before the first pass, what a pass has, and the rest of the run.
PER_ITERATION = tuple(m for m in ROWS if m.per == "iteration")
PER_RUN = (
    *loading.METRICS,
    *PER_ITERATION,
    *(m for m in ROWS if m.per == "run" and m not in loading.METRICS),
)
METRICS = {m.name: m for m in PER_RUN}
PER_RAIL = rails.METRICS

SPEEDS = tuple(m for m in ROWS if m.of_time)


def shown_in(place: Place) -> tuple[Metric, ...]:
    """The metrics that people meet at a place, in order."""
    return tuple(m for m in (PER_RAIL if place == "rails" else ROWS) if place in m.shown)


def drawn_in(kind: FigureKind) -> tuple[Metric, ...]:
    """The metrics that a chapter of the report draws against context length."""
    return tuple(m for m in ROWS if m.figure == kind)
