"""The context length from which one model beats another, and how sure that is.

Each curve is read on its own lengths, between them on the scale on which its cost law is straight: a time to the
first token over its tokens (a S + b S^2 over S), a time per token as it is (c + d S). In every whole round the gap of
the two curves is a function of the length; the crossing is where the rounds' mean gap is zero, and its interval is
every length at which Student's t cannot tell the mean gap from zero (Fieller, E. C. (1954): Some problems in interval
estimation. J. R. Statist. Soc. B 16, 175-185), widened by how much the place moves where the curves are read in
log-log instead. A crossing is told only where both its sides are settled.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from melt.analysis.curves import Curve
from melt.analysis.metrics import METRICS
from melt.analysis.paired import t_quantile
from melt.analysis.rounds import whole_rounds
from melt.analysis.stats import LEVEL, ROUNDS_FOR_VERDICT, Floats
from melt.spec.metrics import Metric

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
PLACES = 400  # at which the gap is looked at, evenly in the logarithm of the length


@dataclass(frozen=True)
class Match:
    """How alike the two models are."""

    size_ratio: float  # parameters of the challenger over the reference's
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
    return Match(float(a["n_params"]) / float(b["n_params"]), a["quant"] == b["quant"], synthetic)


def crossover(challenger: Curve, reference: Curve, metric: str, claims: int = 1) -> Crossover:
    """Where ``challenger`` becomes better than ``reference`` in ``metric``, over the range that both have.

    Args:
        challenger: the curve that may become better.
        reference: the other.
        metric: a metric of ``runs``.
        claims: how many crossovers are told at once.
    """
    names = (metric, challenger.name, reference.name)
    grids = challenger.measured(metric), reference.measured(metric)
    contexts = common_range(*grids)
    if len(contexts) < 2:
        return Crossover(*names, "not_comparable", tuple(contexts))
    a, b = whole_rounds(challenger, reference, metric)
    if len(a) < ROUNDS_FOR_VERDICT or (a <= 0).any() or (b <= 0).any():
        return Crossover(*names, "not_settled", tuple(contexts), (0,) * len(contexts), rounds=len(a))
    gap = Gap(METRICS[metric], grids, (a, b))
    signs = gap.signs(contexts, level_at_each(len(contexts), claims))
    settled = tuple(int(s) for s in signs)
    kind = kind_of(settled)
    found = told_places(gap, contexts, signs)
    places = tuple(place for place, _, _ in found)
    one = found[0] if kind in ("crosses", "crosses_back") else (math.nan,) * 3
    return Crossover(*names, kind, tuple(contexts), settled, places, *one, rounds=len(a))


def level_at_each(lengths: int, claims: int) -> float:
    """At which a sign is settled at one of some lengths, of one of some crossovers that are told at once.

    One false sign among all of them is half as likely as ``LEVEL`` allows, since a page makes other claims too.
    """
    return 1 - (1 - LEVEL) / (2 * claims * lengths)


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


@dataclass(frozen=True)
class Gap:
    """ln(challenger / reference) in every round as a function of the length; below zero: the challenger is better.

    ``grids`` are both curves' lengths, ``values`` their values, rounds by lengths.
    """

    metric: Metric
    grids: tuple[Floats, Floats]
    values: tuple[Floats, Floats]

    def at(self, contexts: Floats, *, log: bool = False) -> Floats:
        """The gap, rounds by lengths."""
        a, b = (self._read(grid, y, contexts, log) for grid, y in zip(self.grids, self.values, strict=True))
        return np.asarray(a - b if self.metric.better != "higher" else b - a)

    def signs(self, contexts: Floats, level: float) -> Floats:
        """The sign of the mean gap where it is told from zero at a level, and 0 where it is not."""
        gap = self.at(contexts)
        n = len(gap)
        reach = t_quantile((1 + level) / 2, n - 1) * gap.std(axis=0, ddof=1) / math.sqrt(n)
        middle = gap.mean(axis=0)
        told = np.abs(middle) > np.maximum(reach, 1e-12)
        return np.asarray(np.sign(middle) * told)

    def crossing(self, low: float, high: float) -> tuple[float, float, float]:
        """The place between two settled lengths at which the mean gap changes its sign, and its interval."""
        places = np.unique(np.concatenate([np.geomspace(low, high, PLACES), *self.grids]))
        places = places[(places >= low) & (places <= high)]
        place, other = (_root(places, self.at(places, log=log).mean(axis=0)) for log in (False, True))
        unsure = places[self.signs(places, LEVEL) == 0]
        ends = (min(unsure[0], place), max(unsure[-1], place)) if len(unsure) else (place, place)
        knots = np.unique(np.concatenate(self.grids))
        bracket = knots[knots <= place][-1], knots[knots >= place][0]
        apart = abs(other - place) if math.isfinite(other) else math.inf
        return place, min(ends[0], max(bracket[0], ends[0] - apart)), max(ends[1], min(bracket[1], ends[1] + apart))

    def _read(self, grid: Floats, values: Floats, contexts: Floats, log: bool) -> Floats:
        """Logarithms of a curve between its lengths, every round by itself."""
        if log:
            return np.stack([np.interp(np.log(contexts), np.log(grid), np.log(row)) for row in values])
        speed = bool(self.metric.of_time)
        per_token = METRICS[self.metric.of_time or self.metric.name].of_prompt
        tokens = grid if self.metric.of_tokens else 1.0
        times = tokens / values if speed else values
        straight = times / grid if per_token else times
        read = np.stack([np.interp(contexts, grid, row) for row in straight])
        back = np.log(read) + (np.log(contexts) if per_token else 0.0)
        if not speed:
            return np.asarray(back)
        return np.asarray(np.log(contexts if self.metric.of_tokens else np.ones(1)) - back)


def common_range(a: Floats, b: Floats) -> Floats:
    """The lengths of either curve in the range that both have."""
    if not len(a) or not len(b):
        return np.empty(0)
    both = np.union1d(a, b)
    return np.asarray(both[(both >= max(a[0], b[0])) & (both <= min(a[-1], b[-1]))])


def told_places(gap: Gap, contexts: Floats, signs: Floats) -> list[tuple[float, float, float]]:
    """The crossings between neighbouring settled lengths of different sign, each with its interval."""
    known = np.flatnonzero(signs)
    return [gap.crossing(contexts[i], contexts[j]) for i, j in itertools.pairwise(known) if signs[i] != signs[j]]


def _root(x: Floats, y: Floats) -> float:
    """The last place at which y changes its sign; NaN where it never does."""
    changes = np.flatnonzero((y[1:] < 0) != (y[:-1] < 0))
    if not len(changes):
        return math.nan
    i = int(changes[-1])
    return float(x[i] + (x[i + 1] - x[i]) * y[i] / (y[i] - y[i + 1]))
