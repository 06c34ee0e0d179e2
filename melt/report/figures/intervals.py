"""How the intervals between tokens are spread."""

import numpy as np
from matplotlib.axes import Axes

from melt.analysis.frames import Results
from melt.analysis.measures.latency import TAILS, tails
from melt.analysis.metrics import METRICS
from melt.report import charts, text
from melt.report.curve_groups import CurveGroup, LabelledCurve
from melt.report.figures.drawing import Drawing


def token_intervals(group: CurveGroup, results: Results) -> Drawing | None:
    """How the intervals between tokens are spread, at the largest context that all models share."""
    shared = group.shared_context()
    picked = [(d, shared if shared is not None else float(d.curve.contexts[-1])) for d in group.curves]
    figure, (ax,) = charts.new()
    charts.title(ax, "percent of tokens that took at most this long")
    ends, rows, limits = [], [], []
    for one, context in picked:
        itl_ms = _intervals_ms(one, context, results)
        if not len(itl_ms):
            continue
        share = np.arange(1, len(itl_ms) + 1) / len(itl_ms) * 100
        kept = np.unique(np.linspace(0, len(itl_ms) - 1, min(len(itl_ms), 400)).astype(int))
        charts.line(ax, itl_ms[kept], share[kept], one.look)
        quantiles = [q * 1e3 for q in tails(itl_ms * 1e-3).values()]
        ends.append((one, quantiles))
        limits += [itl_ms[0], itl_ms[-1]]
        numbers = (text.number(float(q), 4) for q in quantiles)
        rows.append((one.label, text.count(context), *numbers, text.count(len(itl_ms))))
    if not rows:
        return None
    _interval_axes(ax, min(limits), max(limits))
    charts.inline_labels(ax, [(one.label, float(q[0]), one.look.colour) for one, q in ends])
    lengths = {context for _, context in picked}
    where = f"at {text.tokens(lengths.pop())} of context" if len(lengths) == 1 else "at each model's longest context"
    caption = (
        f"Every interval between two tokens of every timed iteration, {where}. A steep line means an even pace, "
        "a tail to the right means stalls. A percentile is given where ten intervals or more lie beyond it."
    )
    named = (f"{METRICS[name].short} (ms)" for name in TAILS)
    header = ("Model", "Context (tokens)", *named, "Intervals")
    return Drawing("itl", "Inter-token latency (ITL)", caption, figure, header, tuple(rows))


def _interval_axes(ax: Axes, low: float, high: float) -> None:
    ax.set_ylim(0, 102)
    ax.set_yticks([0, 25, 50, 75, 90, 100])
    charts.log_across(ax, low, high)
    charts.across(ax, "Inter-token latency (ms, log scale)")


def _intervals_ms(one: LabelledCurve, context: float, results: Results) -> np.ndarray:
    runs = set(one.curve.sessions.loc[one.curve.sessions["prompt_tokens"] == context, "run_id"])
    return np.sort(results.intervals_of(runs)) * 1e3
