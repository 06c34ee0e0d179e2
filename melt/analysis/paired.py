"""Is a larger than b? The one judgement of rounds in pairs, used by everything that compares.

A round measures both sides close in time, so its log ratio d = ln(a / b) is free of what drifts from round to round.
Up to nine rounds the mean of d is judged by Student's t; from ten on, where the smallest p-value that signs can give
(2^(1-n)) reaches the level asked for, by the exact signed-rank distribution of Wilcoxon with the Hodges-Lehmann
estimate, which heavy tails do not move (Hollander, Wolfe, Chicken: Nonparametric Statistical Methods, 3.1 to 3.3).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from melt.analysis.stats import LEVEL, ROUNDS_FOR_VERDICT, Floats
from melt.spec.metrics import Better

Verdict = Literal["better", "worse", "even", "not settled"]

ROUNDS_FOR_RANKS = 10
EVEN_WITHIN = 0.03  # an interval inside this share of 1 says that two things are even
WORTH_TELLING = 0.01  # a smaller difference is never called one, however sure it is
POWER = 0.9  # of the smallest difference that the rounds could have seen


@dataclass(frozen=True)
class Paired:
    """a / b over ``n`` rounds.

    Attributes:
        n: rounds.
        ratio: the estimate; NaN of no round.
        lo, hi: from six rounds on the interval at ``LEVEL``; below, the range of the rounds.
        p: two-sided, that the ratio is 1; 1 below six rounds, where nothing is settled.
        visible: the smallest factor above 1 that as many rounds of this scatter show in nine of ten tries; NaN below
            six rounds.
    """

    n: int
    ratio: float
    lo: float
    hi: float
    p: float
    visible: float

    @property
    def settled(self) -> bool:
        """Whether there are rounds enough for a verdict."""
        return self.n >= ROUNDS_FOR_VERDICT

    def verdict(self, better: Better, p: float | None = None) -> Verdict:
        """Whether a is better than b; the one set of words on page, terminal and files.

        Args:
            better: in which direction the metric is better.
            p: the p-value after ``holm``, where several claims are made at once.
        """
        if not self.settled:
            return "not settled"
        if (self.p if p is None else p) <= 1 - LEVEL and abs(math.log(self.ratio)) >= math.log(1 + WORTH_TELLING):
            return "better" if (self.ratio < 1) == (better == "lower") else "worse"
        return "even" if self.alike else "not settled"

    @property
    def alike(self) -> bool:
        """Whether the interval lies so close around 1 that the two may be called even."""
        return self.lo > 1 - EVEN_WITHIN and self.hi < 1 + EVEN_WITHIN


def paired(log_ratios: Sequence[float] | Floats, claims: int = 1) -> Paired:
    """Judges rounds.

    Args:
        log_ratios: ln(a / b) of each round; NaN where a side was not measured.
        claims: how many claims are made at once, which says whether the signed ranks can reach the level.
    """
    d = np.asarray(log_ratios, dtype=float)
    d = d[np.isfinite(d)]
    n = len(d)
    if n < ROUNDS_FOR_VERDICT:
        ends = (math.exp(d.min()), math.exp(d.max())) if n > 1 else (math.nan, math.nan)
        return Paired(n, math.exp(d.mean()) if n else math.nan, *ends, 1.0, math.nan)
    by_ranks = n >= ROUNDS_FOR_RANKS and 2.0 ** (1 - n) <= (1 - LEVEL) / claims
    middle, low, high, p = _by_ranks(d) if by_ranks else _by_mean(d)
    return Paired(n, math.exp(middle), math.exp(low), math.exp(high), p, _visible(d))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of claims that are made at once, so that one false claim among them is as rare as for one alone.

    Holm, S. (1979): A simple sequentially rejective multiple test procedure. Scand. J. Statist. 6, 65-70.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def t_quantile(probability: float, freedom: int) -> float:
    """Of Student's distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def t_below(t: Floats, freedom: int) -> Floats:
    """How likely Student's distribution is below t."""
    from scipy.special import stdtr

    return np.asarray(stdtr(freedom, t))


def _by_mean(d: Floats) -> tuple[float, float, float, float]:
    """Mean, interval and p-value by Student's t."""
    n = len(d)
    middle, error = float(d.mean()), float(d.std(ddof=1)) / math.sqrt(n)
    if error <= abs(middle) * 1e-12:  # as of sizes, which are the same every time
        return middle, middle, middle, 0.0 if middle else 1.0
    reach = t_quantile((1 + LEVEL) / 2, n - 1) * error
    return middle, middle - reach, middle + reach, 2 * float(t_below(np.array(-abs(middle) / error), n - 1))


def _by_ranks(d: Floats) -> tuple[float, float, float, float]:
    """Hodges-Lehmann estimate, its interval and Wilcoxon's exact p-value; ties share their ranks."""
    n = len(d)
    i, j = np.triu_indices(n)
    means = np.sort((d[i] + d[j]) / 2)  # Walsh's averages
    below = _cumulative(tuple(range(2, 2 * n + 1, 2)))[::2]  # P(rank sum <= w) of n values without ties
    cut = int(np.searchsorted(below, (1 - LEVEL) / 2, side="right"))  # so many averages may lie outside at each end
    low, high = (means[cut - 1], means[-cut]) if cut else (means[0], means[-1])
    return float(np.median(means)), float(low), float(high), _signed_rank_p(d)


def _signed_rank_p(d: Floats) -> float:
    """Two-sided, over all flips of signs."""
    from scipy.stats import rankdata

    d = d[d != 0]
    if not len(d):
        return 1.0
    twice = np.round(2 * rankdata(np.abs(d))).astype(int)
    total, positive = int(twice.sum()), int(twice[d > 0].sum())
    least = min(positive, total - positive)
    return min(1.0, 2 * float(_cumulative(tuple(sorted(twice)))[least]))


@lru_cache(maxsize=64)
def _cumulative(twice_ranks: tuple[int, ...]) -> Floats:
    """P(twice the sum of the positive ranks <= w), each sign being as likely as the other."""
    chance = np.ones(1)
    for rank in twice_ranks:
        chance = (np.append(chance, np.zeros(rank)) + np.append(np.zeros(rank), chance)) / 2
    return np.cumsum(chance)


def _visible(d: Floats) -> float:
    n = len(d)
    reach = t_quantile((1 + LEVEL) / 2, n - 1) + t_quantile(POWER, n - 1)
    return max(1 + WORTH_TELLING, math.exp(reach * float(d.std(ddof=1)) / math.sqrt(n)))
