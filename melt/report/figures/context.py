"""Metrics against context length, a line a model."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from melt.analysis.crossover import Crossover
from melt.analysis.metrics import drawn_in
from melt.report import charts, text
from melt.report.curve_groups import CurveGroup, LabelledCurve
from melt.report.figures.drawing import Drawing
from melt.spec.metrics import FigureKind, Metric

BETTER = {"lower": " Lower is better.", "higher": " Higher is better.", "": ""}


def context_figures(group: CurveGroup, kind: FigureKind) -> list[Drawing]:
    """The figures of a kind that have anything to show."""
    return [_against_context(group, m) for m in drawn_in(kind) if _shown(group, m.name)]


def _shown(group: CurveGroup, metric: str) -> list[LabelledCurve]:
    """The curves with a session, disturbed or not, of a metric."""
    return [d for d in group.curves if len(_all(d, metric)[1])]


def _against_context(group: CurveGroup, metric: Metric) -> Drawing:
    figure, (ax,) = charts.new()
    drawn = _shown(group, metric.name)
    charts.title(ax, f"{metric.title} ({metric.scale.unit})")
    charts.context_axis(ax, [c for d in drawn for c in _all(d, metric.name)[0]])
    everything = np.concatenate([_all(d, metric.name)[1] for d in drawn]) * metric.scale.factor
    charts.value_axis(ax, float(everything.min()), float(everything.max()))
    for one in drawn:
        known = np.isfinite(one.curve.of(metric.name))
        at = one.curve.contexts[known]
        middle, low, high = (one.curve.of(metric.name + s)[known] * metric.scale.factor for s in ("", "_lo", "_hi"))
        charts.band(ax, at, low, high, one.look)
        charts.line(ax, at, middle, one.look)
        for sessions, mark in ((one.curve.sessions, charts.points), (one.curve.disturbed, charts.hollow_points)):
            x, y = _raw(sessions, metric.name)
            mark(ax, x, y * metric.scale.factor, one.look)
    charts.end_labels(ax, [(d.label, _last(d, metric.name) * metric.scale.factor, d.look.colour) for d in drawn])
    for challenger, reference in group.pairs:
        _mark_crossing(ax, group.crossover(challenger, reference, metric), challenger, metric)
    header = (
        "Model",
        "Context (tokens)",
        f"Median ({metric.scale.unit})",
        "Lower bound",
        "Upper bound",
        "Sessions that count",
    )
    caption = metric.plain + BETTER[metric.better]
    return Drawing(metric.name, metric.full, caption, figure, header, tuple(_numbers(drawn, metric)))


def _raw(runs: pd.DataFrame, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """The context length and the value of each run that has one."""
    values = runs[["prompt_tokens", metric]].to_numpy(dtype=float)
    values = values[np.isfinite(values[:, 1])]
    return values[:, 0], values[:, 1]


def _all(one: LabelledCurve, metric: str) -> tuple[np.ndarray, np.ndarray]:
    return _raw(pd.concat([one.curve.sessions, one.curve.disturbed]), metric)


def _last(one: LabelledCurve, metric: str) -> float:
    """Where a line ends; of a curve without one its last mark."""
    values = one.curve.of(metric)
    known = values[np.isfinite(values)]
    if len(known):
        return float(known[-1])
    at, marks = _raw(one.curve.disturbed, metric)
    return float(np.median(marks[at == at.max()]))


def _mark_crossing(ax: Axes, found: Crossover | None, challenger: LabelledCurve, metric: Metric) -> None:
    if found is None or found.kind not in ("crosses", "crosses_back"):
        return
    known = np.isfinite(challenger.curve.of(metric.name))
    at, values = challenger.curve.contexts[known], challenger.curve.of(metric.name)[known]
    y = float(np.exp(np.interp(np.log(found.context), np.log(at), np.log(values)))) * metric.scale.factor
    charts.crossing_mark(ax, found.context, y, found.lo, found.hi)


def _numbers(drawn: Sequence[LabelledCurve], metric: Metric) -> list[tuple[str, ...]]:
    out = []
    for one in drawn:
        for _, row in one.curve.cells.iterrows():
            values = (row[metric.name + s] * metric.scale.factor for s in ("", "_lo", "_hi"))
            numbers = (text.number(float(v), 4) for v in values)
            out.append(
                (one.label, text.count(row["prompt_tokens"]), *numbers, text.of_all(row["n_clean"], row["n_sessions"]))
            )
    return out
