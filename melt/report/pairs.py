"""Two models beside each other: how they match, what they measured, and a card for each metric."""

from collections.abc import Sequence
from dataclasses import dataclass

from melt.analysis.compare import Claim, claim
from melt.analysis.crossover import match
from melt.analysis.curves import shared_contexts
from melt.analysis.frames import Results
from melt.analysis.metrics import METRICS, shown_in
from melt.analysis.paired import holm
from melt.report import text
from melt.report.cards import Card, card
from melt.report.curve_groups import CurveGroup, LabelledCurve
from melt.report.palette import FAMILY_WORDS
from melt.report.sentences import flags_sentence, median_words


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


def closest_first(group: CurveGroup) -> list[tuple[LabelledCurve, LabelledCurve]]:
    """The pairs of a group, those of like size and quantisation first."""
    return sorted(group.pairs, key=lambda both: not match(both[0].curve, both[1].curve).close)


def told_together(pairs: Sequence[tuple[CurveGroup, LabelledCurve, LabelledCurve]], results: Results) -> list[Pair]:
    """Pairs with their cards; so many claims on one page hold together as one would alone (Holm)."""
    n_claims = max(1, len(pairs) * len(shown_in("card")))
    claims = [_claims(a, b, results, n_claims) for _, a, b in pairs]
    made = [found.rounds.p for of_pair in claims for found in of_pair if found.rounds.settled]
    adjusted = iter(holm(made))
    out = []
    for (group, a, b), of_pair in zip(pairs, claims, strict=True):
        cards = tuple(
            card(c, next(adjusted) if c.rounds.settled else 1.0, len(made), group.crossover(a, b, METRICS[c.metric]))
            for c in of_pair
        )
        out.append(_pair(a, b, of_pair, cards))
    return out


def _claims(challenger: LabelledCurve, reference: LabelledCurve, results: Results, n_claims: int) -> list[Claim]:
    found = [claim(challenger.curve, reference.curve, m.name, results.manifests, n_claims) for m in shown_in("card")]
    return [c for c in found if c]


def _pair(
    challenger: LabelledCurve, reference: LabelledCurve, claims: Sequence[Claim], cards: tuple[Card, ...]
) -> Pair:
    quoted = [(one, context) for c in claims for context in c.contexts for one in (challenger, reference)]
    return Pair(
        challenger=challenger.label,
        reference=reference.label,
        challenger_css=challenger.look.css,
        reference_css=reference.look.css,
        how_matched=_how_matched(challenger, reference),
        close=match(challenger.curve, reference.curve).close,
        sentence=_sentence(challenger, reference),
        flags=flags_sentence(quoted),
        cards=cards,
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
