"""What is drawn: curves with a label and a look each, in groups of those that may be compared."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from melt.analysis.crossover import Crossover, crossover
from melt.analysis.curves import APART, MATCHED, Curve, curves, pairs
from melt.analysis.frames import Results
from melt.analysis.metrics import shown_in
from melt.report.palette import Look, looks
from melt.report.text import PLACE, clean, name, setting


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
    claims: int = 1  # crossovers that one report tells
    _crossovers: dict[tuple[str, str, str], Crossover] = field(default_factory=dict, compare=False, repr=False)

    def crossover(self, challenger: LabelledCurve, reference: LabelledCurve, metric: str) -> Crossover:
        """The crossover of two of its curves; figures, cards and table ask for the same, so it is kept."""
        key = challenger.label, reference.label, metric
        if key not in self._crossovers:
            self._crossovers[key] = crossover(challenger.curve, reference.curve, metric, self.claims)
        return self._crossovers[key]

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
    claims = max(1, sum(1 for _ in pairs(found)) * len(shown_in("crossover")))
    out = []
    for i, (key, group) in enumerate(by_matched.items()):
        drawn = tuple(LabelledCurve(c, labels[id(c)], look_of[labels[id(c)]]) for c in group)
        out.append(CurveGroup(titles[key], f"s{i}", drawn, claims))
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
            elif key_name == "effective_accelerator":
                asked = key[MATCHED.index("accelerator")]
                words += [f"ran on {name(value)}"] if value not in (None, asked) else []
            elif key_name in differs:
                words.append(setting(key_name, value))
        out[key] = " · ".join(words)
    repeated = {t for t, n in Counter(out.values()).items() if n > 1}
    return {k: f"{t} · {i + 1}" if t in repeated else t for i, (k, t) in enumerate(out.items())}


def middle_run(curve: Curve, context: float) -> str | None:
    """The run whose total time is in the middle of its cell's sessions: the one to show."""
    at = curve.sessions[curve.sessions["prompt_tokens"] == context]
    total = (at["ttft_s"] + at["tpot_s"] * at["gen_tokens"]).to_numpy(dtype=float)
    if not len(total) or np.isnan(total).all():
        return None
    return str(at["run_id"].iloc[int(np.argsort(total)[(len(total) - 1) // 2])])
