"""What was measured, in sentences: medians with their intervals, and the flags of the cells they come from."""

import math
from collections.abc import Iterable

from melt.analysis.curves import Curve
from melt.analysis.metrics import shown_in
from melt.report import text
from melt.report.curve_groups import LabelledCurve
from melt.spec.metrics import Metric


def median_words(curve: Curve, metric: Metric, context: float) -> str:
    """A median with what its bounds are, as in "1.32 s (range of 3 sessions 1.28 to 1.41 s)"."""
    at = curve.contexts == context
    middle, low, high = (float(curve.of(metric.name + bound)[at][0]) for bound in ("", "_lo", "_hi"))
    shown = text.amount(metric, middle)
    if math.isnan(low):
        return f"{shown} (one session)"
    ends = text.amount(metric, low), text.amount(metric, high)
    if ends[0] == ends[1]:
        return shown
    same_unit = ends[0].split()[-1] == ends[1].split()[-1]
    bounds = curve.cells["bounds"].to_numpy()[at][0]
    return f"{shown} ({bounds} {ends[0].split()[0] if same_unit else ends[0]} to {ends[1]})"


def model_sentence(drawn: LabelledCurve) -> str:
    """A model that has nothing to be compared with: its medians at its shortest and longest context length."""
    said = []
    for metric in shown_in("sentence"):
        at = [f"{median_words(drawn.curve, metric, c)} at {text.tokens(c)}" for c in _ends(drawn, metric)]
        said += [f"{metric.title} {' and '.join(at)}"] if at else []
    return f"{drawn.label}: {'; '.join(said)}." if said else f"{drawn.label} has no measurement."


def model_flags(drawn: LabelledCurve) -> str:
    """The flags of the cells that ``model_sentence`` quotes."""
    return flags_sentence((drawn, c) for metric in shown_in("sentence") for c in _ends(drawn, metric))


def _ends(drawn: LabelledCurve, metric: Metric) -> list[float]:
    """The shortest and the longest context length at which a metric was measured."""
    at = drawn.curve.measured(metric.name)
    return [float(c) for c in dict.fromkeys((at[0], at[-1]))] if len(at) else []


def flags_sentence(quoted: Iterable[tuple[LabelledCurve, float]]) -> str:
    """The flags of the cells that a text quotes, in a sentence; empty where there are none."""
    found: dict[str, list[str]] = {}
    for one, context in {(one.label, context): (one, context) for one, context in quoted}.values():
        flags = one.curve.cells.loc[one.curve.contexts == context, "flags"].iloc[0]
        if flags:
            said = f"{one.label} at {text.tokens(context)}"
            found.setdefault(text.clean(flags).replace("_", " ").replace(",", ", "), []).append(said)
    if not found:
        return ""
    return "Flagged: " + "; ".join(f"{text.joined(cells)} ({flags})" for flags, cells in found.items()) + "."
