"""Crossovers in words: from which context length on one model is better than another, and how sure that is."""

import math
from dataclasses import dataclass

from melt.analysis.crossover import Crossover
from melt.analysis.metrics import METRICS, shown_in
from melt.analysis.stats import ROUNDS_FOR_VERDICT
from melt.report import text
from melt.report.curve_groups import CurveGroup


@dataclass(frozen=True)
class CrossingRow:
    """A crossover as a row of the table."""

    setting: str
    challenger: str
    reference: str
    metric: str
    answer: str
    interval: str
    range: str


def crossing_rows(group: CurveGroup) -> list[CrossingRow]:
    """Every crossover of a group of curves for the table."""
    rows = []
    for challenger, reference in group.pairs:
        for metric in shown_in("crossover"):
            found = group.crossover(challenger, reference, metric)
            if found is None or found.kind == "not_comparable":
                continue
            span = f"{text.count(found.contexts[0])} to {text.count(found.contexts[-1])}"
            rows.append(
                CrossingRow(
                    group.title,
                    challenger.label,
                    reference.label,
                    metric.heading,
                    crossing_answer(found),
                    crossing_interval(found) or "–",
                    span,
                )
            )
    return rows


def crossing_answer(found: Crossover) -> str:
    """The answer of a crossover for a table cell."""
    places = text.joined([text.count(_round(c)) for c in found.crossings])
    return {
        "crosses": f"better from about {places} tokens",
        "crosses_back": f"better up to about {places} tokens",
        "better_everywhere": "better at every measured length",
        "never_better": "none within the range",
        "multiple": f"crosses more than once: {places} tokens",
        "partly": _lengths(found, "better", "worse"),
        "not_settled": "not settled",
    }[found.kind]


def crossing_words(found: Crossover | None) -> str:
    """From which context length on the challenger is better, in a few words."""
    if found is None:
        return ""
    verdict = METRICS[found.metric].better_word
    if found.kind == "not_comparable":
        return "Too few shared context lengths to tell where this changes."
    span = f"{text.count(found.contexts[0])} to {text.tokens(found.contexts[-1])}"
    if found.kind == "not_settled":
        few = f": {text.plural(found.rounds, 'whole round')} of {ROUNDS_FOR_VERDICT} needed"
        return f"Not settled at any length ({span}){few if found.rounds < ROUNDS_FOR_VERDICT else ''}."
    if found.kind == "partly":
        said = _lengths(found, verdict, f"not {verdict}")
        return f"{said[:1].upper()}{said[1:]}."
    if found.kind == "better_everywhere":
        return f"{verdict.capitalize()} at every measured length ({span})."
    if found.kind == "never_better":
        return f"Not {verdict} at any measured length ({span}): no crossover within the range."
    if found.kind == "multiple":
        places = text.joined([text.count(_round(c)) for c in found.crossings])
        return f"The lines cross more than once: near {places} tokens."
    start, onward = ("From", " on") if found.kind == "crosses" else ("Up to", "")
    interval = crossing_interval(found)
    aside = f" (95 % interval {interval})" if " " in interval else ""
    return f"{start} about {text.count(_round(found.context))} tokens{onward}{aside}: {verdict}."


def _lengths(found: Crossover, better: str, worse: str) -> str:
    """Where it is better or worse, and where that is not settled."""
    said = []
    for sign, word in ((-1, better), (1, worse), (0, "not settled")):
        at = [text.count(c) for c, s in zip(found.contexts, found.settled, strict=True) if s == sign]
        said += [f"{word} at {text.joined(at)} tokens"] if at else []
    return ", ".join(said)


def crossing_interval(found: Crossover) -> str:
    """The interval of a crossover in words; empty where there is none."""
    if math.isnan(found.lo) or math.isnan(found.hi):
        return ""
    low, high = text.count(_round(found.lo)), text.count(_round(found.hi))
    return low if low == high else f"{low} to {high}"


def _round(value: float) -> float:
    """Two and a half digits: a crossover is not known better."""
    step = 10 ** max(0, math.floor(math.log10(value)) - 1) / 2
    return round(value / step) * step if step >= 1 else round(value)
