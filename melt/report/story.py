"""The comparison in plain words: for each pair of models, what differs, by how much, and from which length on."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from melt.analysis.compare import Ratio, ratio
from melt.analysis.crossover import COMPARED, Crossover, match
from melt.analysis.curves import Curve, shared_contexts
from melt.analysis.frames import Results
from melt.analysis.metrics import METRICS
from melt.report import text
from melt.report.palette import FAMILY_WORDS
from melt.report.series import Drawn, Setting

TELLING = 0.02  # a smaller difference than this is called none
SESSIONS_FOR_INTERVAL = 6


@dataclass(frozen=True)
class Words:
    """How a metric is told: ``less`` and ``more`` follow a factor, as in "2.4× sooner"."""

    title: str
    term: str
    less: str
    more: str
    verdict: str
    show: str  # the name of a function of melt.report.text


WORDS = {
    "ttft_s": Words("First token", "TTFT", "sooner", "later", "sooner", "seconds"),
    "prefill_tok_per_s": Words("Reading speed", "prefill", "slower", "faster", "faster", "tok_per_s"),
    "tpot_s": Words("Each further token", "TPOT", "faster", "slower", "faster", "seconds"),
    "peak_rss_bytes": Words("Peak memory", "memory", "smaller", "larger", "smaller", "size"),
    "prefill_j_per_token": Words("Energy to read", "energy", "less", "more", "less", "energy"),
    "decode_j_per_token": Words("Energy to write", "energy", "less", "more", "less", "energy"),
}
CARDS = ("ttft_s", "tpot_s", "peak_rss_bytes", "decode_j_per_token")


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
    doubts: str
    cards: tuple[Card, ...]


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


def tok_per_s(value: float) -> str:
    """A speed."""
    return f"{text.number(value)} tokens/s" if math.isfinite(value) else "–"


def show(metric: str, value: float) -> str:
    """A metric's value with its unit."""
    shown = tok_per_s if WORDS[metric].show == "tok_per_s" else getattr(text, WORDS[metric].show)
    return str(shown(value))


def pair(setting: Setting, challenger: Drawn, reference: Drawn, results: Results) -> Pair:
    """A pair's cards and its headline."""
    matched = match(challenger.curve, reference.curve)
    cards = [c for metric in CARDS if (c := _card(setting, challenger, reference, metric, results))]
    return Pair(
        challenger=challenger.label,
        reference=reference.label,
        challenger_css=challenger.look.css,
        reference_css=reference.look.css,
        how_matched=_how_matched(challenger, reference),
        close=matched.close,
        sentence=_sentence(challenger, reference, results),
        doubts=doubts(
            (one, found.context)
            for metric in CARDS
            if (found := _ratio(challenger, reference, metric, results))
            for one in (challenger, reference)
        ),
        cards=tuple(cards),
    )


def _how_matched(challenger: Drawn, reference: Drawn) -> str:
    found = match(challenger.curve, reference.curve)
    a, b = challenger.curve.cells.iloc[0], reference.curve.cells.iloc[0]
    words = [f"{text.parameters(a['n_params'])} parameters against {text.parameters(b['n_params'])}"]
    quants = (text.clean(a["quant"]), text.clean(b["quant"]))
    words.append(f"both {quants[0]}" if found.same_quant else f"{quants[0]} against {quants[1]}")
    kind = FAMILY_WORDS.get(challenger.curve.family, "model")
    apart = "" if found.close else "; not closely matched, so read the ratios with care"
    return f"A {kind} beside a Transformer: {', '.join(words)}{apart}."


def _ratio(challenger: Drawn, reference: Drawn, metric: str, results: Results) -> Ratio | None:
    """The challenger over the reference at the longest context length both have."""
    contexts = shared_contexts(challenger.curve, reference.curve, metric)
    if not len(contexts):
        return None
    return ratio(challenger.curve, reference.curve, metric, float(contexts[-1]), results.manifests)


def _card(setting: Setting, challenger: Drawn, reference: Drawn, metric: str, results: Results) -> Card | None:
    found = _ratio(challenger, reference, metric, results)
    if found is None:
        return None
    words = WORDS[metric]
    even = (found.lo <= 1 <= found.hi) or abs(found.ratio - 1) < TELLING
    less = found.ratio < 1
    better = less == (METRICS[metric].better == "lower")
    return Card(
        title=words.title,
        figure="about even" if even else text.times(_factor(found.ratio)),
        word="" if even else words.less if less else words.more,
        verdict="even" if even else "better" if better else "worse",
        detail=f"{show(metric, found.a)} against {show(metric, found.b)} at {text.tokens(found.context)} of context",
        interval=_ratio_interval(found),
        crossing=crossing_words(setting.crossover(challenger, reference, metric)),
    )


def _factor(value: float) -> float:
    return 1 / value if value < 1 else value


def _ratio_interval(found: Ratio) -> str:
    if math.isnan(found.lo):
        return "unknown: one session"
    low, high = sorted(_factor(v) if (v < 1) == (found.ratio < 1) else 1 / _factor(v) for v in (found.lo, found.hi))
    shown = text.times(low), text.times(high)
    return f"{shown[0]} to {shown[1]}" if shown[0] != shown[1] else ""


def crossing_words(found: Crossover) -> str:
    """From which context length on the challenger is better, in a few words."""
    verdict = WORDS[found.metric].verdict
    if found.kind == "not_comparable":
        return "Too few shared context lengths to tell where this changes."
    span = f"{text.count(found.contexts[0])} to {text.tokens(found.contexts[-1])}"
    if found.kind == "better_everywhere":
        return f"{verdict.capitalize()} at every measured length ({span})."
    if found.kind == "never_better":
        return f"Not {verdict} at any measured length ({span}): no crossover within the range."
    if found.kind == "multiple":
        places = text.joined([text.count(_round(c)) for c in found.crossings])
        return f"The lines cross more than once: near {places} tokens."
    if found.lo <= 0 and math.isinf(found.hi):
        place = text.count(_round(found.context))
        return f"The medians cross near {place} tokens, but sessions differ too much to tell: anywhere in {span}."
    start, onward = ("From", " on") if found.kind == "crosses" else ("Up to", "")
    interval = crossing_interval(found)
    aside = f" ({interval})" if " " in interval else ""
    return f"{start} about {text.count(_round(found.context))} tokens{onward}{aside}: {verdict}."


def crossing_interval(found: Crossover) -> str:
    """The interval of a crossover in words; empty where there is none."""
    if math.isnan(found.lo) or math.isnan(found.hi):
        return ""
    low = f"below {text.count(found.contexts[0])}" if found.lo <= 0 else text.count(_round(found.lo))
    high = f"beyond {text.count(found.contexts[-1])}" if math.isinf(found.hi) else text.count(_round(found.hi))
    return low if low == high else f"{low} to {high}"


def _round(value: float) -> float:
    """Two and a half digits: a crossover is not known better."""
    step = 10 ** max(0, math.floor(math.log10(value)) - 1) / 2
    return round(value / step) * step if step >= 1 else round(value)


def _sentence(challenger: Drawn, reference: Drawn, results: Results) -> str:
    """The pair in one or two sentences."""
    parts = []
    first, further, memory = (_ratio(challenger, reference, m, results) for m in ("ttft_s", "tpot_s", "peak_rss_bytes"))
    if first:
        parts.append(
            f"With {text.tokens(first.context)} to read first, {challenger.label} shows its first token after "
            f"{_told(challenger, first)}, {reference.label} after {_told(reference, first)}."
        )
    if further:
        parts.append(f"Each further token takes {_told(challenger, further)} against {_told(reference, further)}.")
    if memory:
        parts.append(f"At its peak it holds {_told(challenger, memory)} of memory against {_told(reference, memory)}.")
    return " ".join(parts)


def _told(one: Drawn, found: Ratio) -> str:
    return told(one.curve, found.metric, found.context)


def told(curve: Curve, metric: str, context: float) -> str:
    """A median with its interval, as in "1.32 s (1.28 to 1.41 s)"; of one session, with that word."""
    at = curve.contexts == context
    middle, low, high = (float(curve.of(metric + bound)[at][0]) for bound in ("", "_lo", "_hi"))
    if math.isnan(low):
        return f"{show(metric, middle)} (one session)"
    ends = show(metric, low), show(metric, high)
    if ends[0] == ends[1]:
        return show(metric, middle)
    same_unit = ends[0].split()[-1] == ends[1].split()[-1]
    return f"{show(metric, middle)} ({ends[0].split()[0] if same_unit else ends[0]} to {ends[1]})"


def doubts(quoted: Iterable[tuple[Drawn, float]]) -> str:
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


def alone_doubts(drawn: Drawn) -> str:
    """The flags of the cells that ``alone`` quotes."""
    ends = [drawn.curve.measured(m) for m in ("ttft_s", "tpot_s", "peak_rss_bytes")]
    return doubts([(drawn, float(c)) for at in ends if len(at) for c in (at[0], at[-1])])


def alone(drawn: Drawn) -> str:
    """A model that has nothing to be compared with, in a sentence."""
    curve = drawn.curve
    words = []
    for metric, say in (
        ("ttft_s", "its first token comes after {}"),
        ("tpot_s", "each further one takes {}"),
        ("peak_rss_bytes", "its peak memory is {}"),
    ):
        at = curve.measured(metric)
        if len(at):
            said = [f"{told(curve, metric, float(c))} at {text.tokens(c)}" for c in dict.fromkeys((at[0], at[-1]))]
            words.append(say.format(" and ".join(said)))
    return f"{drawn.label}: {'; '.join(words)}." if words else f"{drawn.label} has no measurement."


def crossing_rows(setting: Setting) -> list[CrossingRow]:
    """Every crossover of a setting for the table."""
    rows = []
    for challenger, reference in setting.pairs:
        for metric in COMPARED:
            found = setting.crossover(challenger, reference, metric)
            if found.kind == "not_comparable":
                continue
            span = f"{text.count(found.contexts[0])} to {text.count(found.contexts[-1])}"
            rows.append(
                CrossingRow(
                    setting.title,
                    challenger.label,
                    reference.label,
                    METRICS[metric].heading,
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
    }[found.kind]
