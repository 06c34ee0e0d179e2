"""Two models beside each other: for each metric what differs, by how much, and from which length on."""

import math
from dataclasses import dataclass

from melt.analysis.compare import Ratio, ratio
from melt.analysis.crossover import match
from melt.analysis.curves import shared_contexts
from melt.analysis.frames import Results
from melt.analysis.metrics import shown_in
from melt.report import text
from melt.report.crossings import crossing_words
from melt.report.curve_groups import CurveGroup, LabelledCurve
from melt.report.palette import FAMILY_WORDS
from melt.report.sentences import flags_sentence, median_words
from melt.spec.metrics import Metric

EVEN_WITHIN = 0.02  # a smaller difference than this is called none


@dataclass(frozen=True)
class Card:
    """One metric of a pair: a big figure, what it is made of, and from where on it holds."""

    title: str
    figure: str
    word: str
    verdict: str  # better, worse or even
    detail: str
    interval: str
    crossing: str


@dataclass(frozen=True)
class Pair:
    """A state-space model or hybrid beside a Transformer."""

    challenger: str
    reference: str
    challenger_css: str
    reference_css: str
    how_matched: str
    close: bool
    sentence: str
    flags: str
    cards: tuple[Card, ...]


def pair(group: CurveGroup, challenger: LabelledCurve, reference: LabelledCurve, results: Results) -> Pair:
    """A pair's cards and its headline."""
    matched = match(challenger.curve, reference.curve)
    ratios = [(m, _ratio(challenger, reference, m, results)) for m in shown_in("card")]
    shown = [(metric, found) for metric, found in ratios if found]
    return Pair(
        challenger=challenger.label,
        reference=reference.label,
        challenger_css=challenger.look.css,
        reference_css=reference.look.css,
        how_matched=_how_matched(challenger, reference),
        close=matched.close,
        sentence=_sentence(challenger, reference),
        flags=flags_sentence((one, found.context) for _, found in shown for one in (challenger, reference)),
        cards=tuple(_card(group, challenger, reference, metric, found) for metric, found in shown),
    )


def _how_matched(challenger: LabelledCurve, reference: LabelledCurve) -> str:
    found = match(challenger.curve, reference.curve)
    a, b = challenger.curve.cells.iloc[0], reference.curve.cells.iloc[0]
    words = [f"{text.parameters(a['n_params'])} parameters against {text.parameters(b['n_params'])}"]
    quants = (text.clean(a["quant"]), text.clean(b["quant"]))
    words.append(f"both {quants[0]}" if found.same_quant else f"{quants[0]} against {quants[1]}")
    kind = FAMILY_WORDS.get(challenger.curve.family, "model")
    apart = "" if found.close else "; not closely matched, so read the ratios with care"
    return f"A {kind} beside a Transformer: {', '.join(words)}{apart}."


def _sentence(challenger: LabelledCurve, reference: LabelledCurve) -> str:
    """Both models' medians at the longest context length that both have, which may differ from metric to metric."""
    parts: dict[float, list[str]] = {}
    for metric in shown_in("sentence"):
        contexts = shared_contexts(challenger.curve, reference.curve, metric.name)
        if len(contexts):
            context = float(contexts[-1])
            both = [f"{median_words(d.curve, metric, context)} with {d.label}" for d in (challenger, reference)]
            parts.setdefault(context, []).append(f"{metric.title} is {both[0]} and {both[1]}")
    return " ".join(f"At {text.tokens(context)} of context, {'; '.join(said)}." for context, said in parts.items())


def _ratio(challenger: LabelledCurve, reference: LabelledCurve, metric: Metric, results: Results) -> Ratio | None:
    """The challenger over the reference at the longest context length both have."""
    contexts = shared_contexts(challenger.curve, reference.curve, metric.name)
    if not len(contexts):
        return None
    return ratio(challenger.curve, reference.curve, metric.name, float(contexts[-1]), results.manifests)


def _card(group: CurveGroup, challenger: LabelledCurve, reference: LabelledCurve, metric: Metric, found: Ratio) -> Card:
    even = (found.lo <= 1 <= found.hi) or abs(found.ratio - 1) < EVEN_WITHIN
    less = found.ratio < 1
    better = less == (metric.better == "lower")
    amounts = f"{text.amount(metric, found.a)} against {text.amount(metric, found.b)}"
    return Card(
        title=metric.heading,
        figure="about even" if even else text.times(_factor(found.ratio)),
        word="" if even else metric.words.less if less else metric.words.more,
        verdict="even" if even else "better" if better else "worse",
        detail=f"{amounts} at {text.tokens(found.context)} of context",
        interval=_ratio_interval(found),
        crossing=crossing_words(group.crossover(challenger, reference, metric.name)),
    )


def _factor(value: float) -> float:
    return 1 / value if value < 1 else value


def _ratio_interval(found: Ratio) -> str:
    if math.isnan(found.lo):
        return "unknown: one session"
    low, high = sorted(_factor(v) if (v < 1) == (found.ratio < 1) else 1 / _factor(v) for v in (found.lo, found.hi))
    shown = text.times(low), text.times(high)
    return f"{shown[0]} to {shown[1]}" if shown[0] != shown[1] else ""
