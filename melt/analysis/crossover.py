"""The context length from which one model beats another, and how sure that is.

The crossing is where the rounds' mean gap of the two curves is zero, and its interval is every length at which
Student's t cannot tell the mean gap from zero (Fieller, E. C. (1954): Some problems in interval estimation. J. R.
Statist. Soc. B 16, 175-185), widened by how much the place moves where the curves are read in log-log instead. A
crossing is told only where both its sides are settled.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from melt.analysis.curves import Curve
from melt.analysis.gap import Gap
from melt.analysis.metrics import METRICS
from melt.analysis.paired import holm
from melt.analysis.rounds import whole_rounds
from melt.analysis.stats import LEVEL, ROUNDS_FOR_VERDICT, Floats

Kind = Literal[
    "crosses",
    "crosses_back",
    "better_everywhere",
    "never_better",
    "multiple",
    "partly",
    "not_settled",
    "not_comparable",
]

MATCHED_SIZE = 1.5  # parameters may differ by this factor and still be called matched


@dataclass(frozen=True)
class Match:
    """How alike the two models are."""

    size_ratio: float  # parameters of the challenger over the reference's; NaN where either is not known
    same_quant: bool
    synthetic: bool  # at least one has random weights

    @property
    def close(self) -> bool:
        """Same quantisation, and sizes within a factor of ``MATCHED_SIZE``."""
        return self.same_quant and 1 / MATCHED_SIZE <= self.size_ratio <= MATCHED_SIZE


@dataclass(frozen=True)
class Crossover:
    """Where the challenger becomes better than the reference in one metric.

    Attributes:
        kind: ``partly`` where it is better, or worse, at some lengths and the others are not settled.
        contexts: the lengths of either curve in the range that both have.
        settled: at each, -1 where the challenger is better, 1 where it is worse, 0 where that is not settled.
        context: the crossing in tokens; NaN unless ``kind`` is crosses or crosses_back.
        lo, hi: its interval at 95 %; NaN likewise.
        crossings: every crossing of the mean gap between settled lengths.
        rounds: whole rounds that it rests on.
    """

    metric: str
    challenger: str
    reference: str
    kind: Kind
    contexts: tuple[float, ...] = ()
    settled: tuple[int, ...] = ()
    crossings: tuple[float, ...] = ()
    context: float = math.nan
    lo: float = math.nan
    hi: float = math.nan
    rounds: int = 0


def match(challenger: Curve, reference: Curve) -> Match:
    """How alike the two models are in size and quantisation."""
    a, b = challenger.cells.iloc[0], reference.cells.iloc[0]
    synthetic = bool(a["synthetic"] == True or b["synthetic"] == True)  # noqa: E712 - may be NaN
    sizes = float(a["n_params"]), float(b["n_params"])
    return Match(sizes[0] / sizes[1] if min(sizes) > 0 else math.nan, a["quant"] == b["quant"], synthetic)


def crossover(challenger: Curve, reference: Curve, metric: str) -> Crossover:
    """Where ``challenger`` becomes better than ``reference`` in ``metric``, where it is told alone."""
    return settle([study(challenger, reference, metric)])[0]


@dataclass(frozen=True)
class Study:
    """Two curves in one metric, before it is settled what may be said of them; ``gap`` is None of too few rounds."""

    metric: str
    challenger: str
    reference: str
    contexts: Floats
    rounds: int
    gap: Gap | None


def study(challenger: Curve, reference: Curve, metric: str) -> Study:
    """Reads two curves over the range that both have."""
    names = metric, challenger.name, reference.name
    contexts = common_range(challenger.measured(metric), reference.measured(metric))
    if len(contexts) < 2:
        return Study(*names, contexts, 0, None)
    found = whole_rounds(challenger, reference, metric)
    enough = len(found) >= ROUNDS_FOR_VERDICT and all((values > 0).all() for values in found.values)
    gap = Gap(METRICS[metric], found.grids, found.values) if enough else None
    return Study(*names, common_range(*found.grids), len(found), gap)


def settle(studies: Sequence[Study]) -> list[Crossover]:
    """The crossovers of studies that are told at once.

    A false sign at any length of any of them is half as likely as ``LEVEL`` allows (Holm), since a page that tells
    crossovers makes other claims too.
    """
    p_values = [one.gap.p_values(one.contexts) if one.gap else np.empty(0) for one in studies]
    adjusted = np.array(holm(list(np.concatenate([np.empty(0), *p_values]))))
    ends = np.cumsum([0, *(len(p) for p in p_values)])
    return [
        _settled(one, 2 * adjusted[start:end] <= 1 - LEVEL)
        for one, start, end in zip(studies, ends, ends[1:], strict=False)
    ]


def _settled(one: Study, told: NDArray[np.bool_]) -> Crossover:
    names, contexts = (one.metric, one.challenger, one.reference), tuple(float(c) for c in one.contexts)
    if len(contexts) < 2:
        return Crossover(*names, "not_comparable", contexts)
    if one.gap is None:
        return Crossover(*names, "not_settled", contexts, (0,) * len(contexts), rounds=one.rounds)
    signs = one.gap.signs(one.contexts) * told
    settled = tuple(int(s) for s in signs)
    kind = kind_of(settled)
    known = np.flatnonzero(signs)
    changes = [(contexts[i], contexts[j]) for i, j in itertools.pairwise(known) if signs[i] != signs[j]]
    found = [one.gap.crossing(low, high) for low, high in changes]
    place = found[0] if kind in ("crosses", "crosses_back") else (math.nan,) * 3
    return Crossover(*names, kind, contexts, settled, tuple(at for at, _, _ in found), *place, rounds=one.rounds)


def kind_of(settled: tuple[int, ...]) -> Kind:
    """What the settled signs of the gap say, in the order of lengths."""
    known = [s for s in settled if s]
    turns = sum(one != other for one, other in itertools.pairwise(known))
    if not known:
        return "not_settled"
    if turns:
        return "multiple" if turns > 1 else "crosses" if known[-1] < 0 else "crosses_back"
    if len(known) < len(settled):
        return "partly"
    return "better_everywhere" if known[0] < 0 else "never_better"


def common_range(a: Floats, b: Floats) -> Floats:
    """The lengths of either curve in the range that both have."""
    if not len(a) or not len(b):
        return np.empty(0)
    both = np.union1d(a, b)
    return np.asarray(both[(both >= max(a[0], b[0])) & (both <= min(a[-1], b[-1]))])
