"""A metric of two models beside each other: the verdict, what it rests on, and from which length on it holds."""

import math
from dataclasses import dataclass

from melt.analysis.compare import Claim, Ratio
from melt.analysis.crossover import Crossover
from melt.analysis.metrics import METRICS
from melt.analysis.paired import Paired, Verdict
from melt.analysis.stats import LEVEL, ROUNDS_FOR_VERDICT
from melt.report import text
from melt.report.crossings import crossing_words


@dataclass(frozen=True)
class Card:
    """A claim in words; ``lengths`` are the ratios at single context lengths, which go with no verdict."""

    title: str
    figure: str
    word: str
    verdict: Verdict
    basis: str
    detail: str
    lengths: tuple[tuple[str, str], ...]
    crossing: str


def card(found: Claim, p: float, n_claims: int, crossing: Crossover | None) -> Card:
    """A claim as a card.

    Args:
        found: the claim.
        p: its p-value among all claims of the page.
        n_claims: how many those are.
        crossing: where the two curves cross, where the report tells that.
    """
    metric = METRICS[found.metric]
    verdict = found.rounds.verdict(metric.better, p)
    told = verdict in ("better", "worse")
    last = found.single[-1]
    amounts = f"{text.amount(metric, last.a)} against {text.amount(metric, last.b)}"
    apart = verdict == "even" and not all(one.rounds.alike for one in found.single)
    return Card(
        title=metric.heading,
        figure=text.times(_factor(found.rounds.ratio)) if told else f"{verdict} on average" if apart else verdict,
        word=(metric.words.less if found.rounds.ratio < 1 else metric.words.more) if told else "",
        verdict=verdict,
        basis=_basis(found.rounds, told, n_claims, _span(found)),
        detail=f"Medians at {text.tokens(last.context)}: {amounts}.",
        lengths=tuple(_length(one) for one in found.single) if len(found.single) > 1 else (),
        crossing=crossing_words(crossing),
    )


def _span(found: Claim) -> str:
    first, last = found.contexts[0], found.contexts[-1]
    return f"{text.count(first)} to {text.tokens(last)}" if first != last else text.tokens(first)


def _basis(found: Paired, told: bool, n_claims: int, span: str) -> str:
    """What a verdict rests on: rounds, level, and what they could have seen."""
    rounds = text.plural(found.n, "round")
    if not found.n:
        return "No rounds: the two were not measured beside each other in time."
    if not found.settled:
        few = f"Only {rounds} of both, and {ROUNDS_FOR_VERDICT} are needed"
        return f"{few}; they range over {interval_words(found, raw=True)}." if found.n > 1 else f"{few}."
    among = f" Holds for the {n_claims} claims of this page together." if told and n_claims > 1 else ""
    seen = "" if told else f" A difference of {text.number((found.visible - 1) * 100, 2)} % would have shown."
    interval = f"{LEVEL * 100:g} % interval {interval_words(found, raw=not told)}, {rounds}"
    return f"Average over {span}: {interval}.{among}{seen}"


def interval_words(found: Paired, raw: bool) -> str:
    """The interval of a ratio, or the range of few rounds; as a factor above one unless ``raw``."""
    ends = sorted((found.lo, found.hi) if raw or found.ratio >= 1 else (1 / found.lo, 1 / found.hi))
    for digits in (2, 3, 4):  # as few as tell the ends apart
        low, high = (text.times(v, digits) for v in ends)
        if low != high:
            return f"{low} to {high}"
    return text.times(ends[0])


def _length(one: Ratio) -> tuple[str, str]:
    """The ratio at a single length with its interval or range."""
    ratio = one.rounds.ratio if one.rounds.n else one.a / one.b
    shown = text.times(ratio)
    bounds = shown if math.isnan(one.rounds.lo) else interval_words(one.rounds, raw=True)
    return text.count(one.context), shown if bounds == shown else f"{shown} ({bounds})"


def _factor(value: float) -> float:
    return 1 / value if value < 1 else value
