"""What memory is made of, beside what was measured and predicted."""

from itertools import cycle

import numpy as np
from matplotlib.axes import Axes

from melt.analysis.metrics import METRICS, shown_in
from melt.report import charts, text
from melt.report.curve_groups import CurveGroup, LabelledCurve
from melt.report.figures.drawing import Drawing
from melt.report.palette import INK, PARTS

MEASURED = METRICS["peak_rss_bytes"]
PREDICTED = METRICS["predicted_memory_bytes"]
EXPLAINED = METRICS["explained_memory_bytes"]
CAPTION = (
    "Bars: the engine's own buffers, and on top the runtime that was there before the model and the vocabulary's "
    "tables. Line across: the measured peak. Diamond: the buffers as predicted from the architecture, without the copy "
    "of weights that the engine repacks for the processor."
)


def memory_parts(group: CurveGroup) -> list[Drawing]:
    """For each model, what its memory is made of."""
    drawn = [d for d in group.curves if len(d.curve.measured(EXPLAINED.name))]
    tops = [
        np.nanmax(d.curve.of(m.name)) for d in drawn for m in (MEASURED, PREDICTED) if d.curve.measured(m.name).size
    ]
    return [_parts(one, max(tops, default=0.0)) for one in drawn]


def _parts(one: LabelledCurve, top: float) -> Drawing:
    """Bars to a common height of ``top`` bytes."""
    figure, (ax,) = charts.new()
    unit, factor = MEASURED.scale.unit, MEASURED.scale.factor
    charts.title(ax, f"memory ({unit})")
    height = _bars(ax, one, factor)
    at = np.arange(len(one.curve.contexts))
    measured, predicted = (one.curve.of(m.name) * factor for m in (MEASURED, PREDICTED))
    ax.plot(at, measured, linestyle="none", marker="_", markersize=26, mew=2.4, color=INK, zorder=4)
    ax.plot(at, predicted, linestyle="none", marker="D", markersize=5, mew=1.4, mec=INK, mfc="#ffffff", zorder=5)
    charts.value_axis(ax, 0, max(top * factor, height), log=False)
    ax.set_xlim(-0.6, len(at) - 0.4)
    ax.set_xticks(at, [text.short_tokens(c) for c in one.curve.contexts])
    charts.across(ax, charts.CONTEXT)
    columns = (*shown_in("memory parts"), EXPLAINED, PREDICTED, MEASURED)
    numbers = np.stack([one.curve.of(m.name) * factor for m in columns], axis=1)
    rows = [
        (text.count(c), *(text.number(v, 4) for v in values))
        for c, values in zip(one.curve.contexts, numbers, strict=True)
    ]
    header = ("Context (tokens)", *(f"{m.heading} ({unit})" for m in columns))
    return Drawing(
        f"memory-{text.file_name(one.label)}", f"Memory of {one.label}", CAPTION, figure, header, tuple(rows)
    )


def _bars(ax: Axes, one: LabelledCurve, factor: float) -> float:
    """A bar a context length, with the parts on top of each other; the height of the highest."""
    at = np.arange(len(one.curve.contexts))
    base = np.zeros(len(at))
    labels = []
    for part, (colour, _) in zip(shown_in("memory parts"), cycle(PARTS), strict=False):
        height = np.nan_to_num(one.curve.of(part.name)) * factor
        if height.max(initial=0) <= 0:
            continue
        ax.bar(at, height, bottom=base, width=0.62, color=colour, linewidth=0, zorder=2)
        labels.append((part.short or part.title, float(base[-1] + height[-1] / 2), colour))
        base = base + height
    charts.part_labels(ax, labels)
    return float(base.max(initial=0))
