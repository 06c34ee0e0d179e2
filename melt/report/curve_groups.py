"""What is drawn: curves with a label and a look each, in groups of those that may be compared."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from melt.analysis.crossover import Crossover, settle, study
from melt.analysis.curves import APART, MATCHED, Curve, curves, pairs
from melt.analysis.frames import Results
from melt.analysis.metrics import shown_in
from melt.report.palette import Look, looks
from melt.report.text import PLACE, clean, name, setting
from melt.spec.metrics import Metric


@dataclass(frozen=True)
class LabelledCurve:
    """A curve as it appears everywhere in the report."""

    curve: Curve
    label: str
    look: Look


@dataclass(frozen=True)
class CurveGroup:
    """Curves that may be compared: one device, engine, accelerator and so on."""

    title: str
    slug: str
    curves: tuple[LabelledCurve, ...]
    crossovers: Mapping[tuple[str, str, str], Crossover]  # by both labels and the metric

    def crossover(self, challenger: LabelledCurve, reference: LabelledCurve, metric: Metric) -> Crossover | None:
        """Where two of its curves cross; a speed crosses where its time does, and None where neither is told."""
        names = (name for name in (metric.name, metric.of_time) if name)
        found = (self.crossovers.get((challenger.label, reference.label, name)) for name in names)
        return next((one for one in found if one), None)

    @property
    def pairs(self) -> list[tuple[LabelledCurve, LabelledCurve]]:
        """Every SSM or hybrid beside every Transformer."""
        of = {id(d.curve): d for d in self.curves}
        return [(of[id(a)], of[id(b)]) for a, b in pairs([d.curve for d in self.curves])]

    @property
    def contexts(self) -> list[float]:
        """Every context length that was measured, ascending."""
        return sorted({float(c) for d in self.curves for c in d.curve.contexts})

    def shared_context(self) -> float | None:
        """The largest context length that every curve has; None where they share none."""
        shared = set.intersection(*({float(c) for c in d.curve.contexts} for d in self.curves))
        return max(shared) if shared else None


def curve_groups(results: Results) -> list[CurveGroup]:
    """Every group of the results, with the same look for a model wherever it appears."""
    found = curves(results.runs, results.cells)
    labels = _labels(found)
    look_of = looks([(labels[id(c)], c.family) for c in found])
    by_matched: dict[tuple[object, ...], list[Curve]] = {}
    for curve in found:
        by_matched.setdefault(curve.matched, []).append(curve)
    titles = _titles(list(by_matched))
    drawn = {id(c): LabelledCurve(c, labels[id(c)], look_of[labels[id(c)]]) for c in found}
    crossovers = _crossovers([(drawn[id(a)], drawn[id(b)]) for a, b in pairs(found)])
    return [
        CurveGroup(titles[key], f"s{i}", tuple(drawn[id(c)] for c in group), crossovers[key])
        for i, (key, group) in enumerate(by_matched.items())
    ]


def _crossovers(
    every_pair: Sequence[tuple[LabelledCurve, LabelledCurve]],
) -> Mapping[tuple[object, ...], dict[tuple[str, str, str], Crossover]]:
    """Every crossover that a report tells, by group; what may be said of one depends on how many there are."""
    asked = [(a, b, m.name) for a, b in every_pair for m in shown_in("crossover")]
    settled = settle([study(a.curve, b.curve, metric) for a, b, metric in asked])
    out: dict[tuple[object, ...], dict[tuple[str, str, str], Crossover]] = defaultdict(dict)
    for (a, b, metric), one in zip(asked, settled, strict=True):
        out[a.curve.matched][a.label, b.label, metric] = one
    return out


def _labels(found: Sequence[Curve]) -> dict[int, str]:
    """Each curve's model by name, with as much more as tells it from every other."""
    out: dict[int, str] = {}
    for curve in found:
        label = name(curve.name)
        rivals = [c for c in found if c is not curve and name(c.name) == label]
        for column, words, everywhere in _TELLING:
            own = curve.cells[column].iloc[0]
            others = [c for c in rivals if everywhere or c.matched == curve.matched]
            if any(c.cells[column].iloc[0] != own for c in others):
                label += f" {words.format(clean(own)) if words else setting(column, own)}"
                rivals = [c for c in rivals if c.cells[column].iloc[0] == own]
        out[id(curve)] = label
    return out


# What tells models of one name apart: column, how it is said where that is not as a setting, and whether against
# those of other groups too.
_TELLING = (
    ("quant", "{}", True),
    ("model", "({})", True),
    ("passport_id", "({:.4})", False),
    *((column, "", False) for column in APART),
)


def _titles(keys: list[tuple[object, ...]]) -> dict[tuple[object, ...], str]:
    """A title for each group: device, engine and accelerator, and whatever else differs."""
    differs = {f for i, f in enumerate(MATCHED) if len({str(k[i]) for k in keys}) > 1}
    at = MATCHED.index("conditions_id")
    if len({k[:at] + k[at + 1 :] for k in keys}) == len(keys):
        differs.discard("conditions_id")  # a hash is said only where no word tells two groups apart
    out = {}
    for key in keys:
        words = []
        for key_name, value in zip(MATCHED, key, strict=True):
            if key_name in PLACE:
                words.append(name(value))
            elif key_name in differs and key_name != "effective_accelerator":  # what ran elsewhere is on no curve
                words.append(setting(key_name, value))
        out[key] = " · ".join(words)
    repeated = {t for t, n in Counter(out.values()).items() if n > 1}
    return {k: f"{t} · {i + 1}" if t in repeated else t for i, (k, t) in enumerate(out.items())}


def middle_run(curve: Curve, context: float) -> str | None:
    """The run whose total time is in the middle of its cell's sessions: the one to show.

    Where all were disturbed it is one of them: what went on is still worth seeing.
    """
    here = (sessions[sessions["prompt_tokens"] == context] for sessions in (curve.sessions, curve.disturbed))
    at = next((found for found in here if len(found)), curve.sessions)
    total = (at["ttft_s"] + at["tpot_s"] * at["gen_tokens"]).to_numpy(dtype=float)
    if not len(total) or np.isnan(total).all():
        return None
    return str(at["run_id"].iloc[int(np.argsort(total)[(len(total) - 1) // 2])])
