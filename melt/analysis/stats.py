"""Medians over sessions and the bounds of their uncertainty, by order statistics.

The sample is the session. Of n sessions in order, the k-th lowest and the k-th highest hold the true median unless
fewer than k of them lie on one side of it, which has the probability of a fair coin; k is the largest that leaves
at least 95 % (Conover: Practical Nonparametric Statistics, 3.2). Nothing is assumed of how sessions scatter. Five
sessions or fewer cannot reach 95 %: their bounds are the range of the sessions, and are called that everywhere.
"""

import math
import statistics
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
ROUNDS_FOR_VERDICT = 6  # of fewer, no difference is told: their signs alone cannot be surer than 1 in 16

Floats = NDArray[np.float64]


def median(values: Iterable[float]) -> float:
    """The median of what is not NaN; NaN where nothing is."""
    known = [float(v) for v in values if v == v]
    return statistics.median(known) if known else math.nan


def median_with_bounds(columns: Floats) -> tuple[Floats, Floats, Floats]:
    """Median and bounds of each column, ignoring NaN; ``coverage`` says what the bounds are worth.

    Args:
        columns: sessions by metrics.

    Returns:
        median, lower and upper bound of each metric; bounds are NaN for fewer than two sessions.
    """
    ranked = np.sort(columns, axis=0)  # NaN goes last
    counts = np.sum(~np.isnan(columns), axis=0)
    middle, low, high = (np.full(columns.shape[1], np.nan) for _ in range(3))
    for n in np.unique(counts[counts > 0]):
        which = counts == n
        values = ranked[:n, which]
        middle[which] = (values[(n - 1) // 2] + values[n // 2]) / 2
        if n > 1:
            low[which], high[which] = _bounds(values)
    return middle, low, high


def coverage(sessions: int) -> float:
    """How likely the bounds of a median hold the true one: 0.75 of three sessions; NaN of one, which has none."""
    if sessions < 2:
        return math.nan
    return 1 - 2 * _at_most(_rank(sessions) - 1, sessions)


def bounds_are(sessions: int) -> str:
    """What the bounds of a median of so many sessions are called, everywhere; empty of one, which has none."""
    if sessions < 2:
        return ""
    return (
        f"{LEVEL:.0%} interval".replace("%", " %") if coverage(sessions) >= LEVEL else f"range of {sessions} sessions"
    )


def _bounds(ranked: Floats) -> tuple[Floats, Floats]:
    """The k-th lowest and k-th highest of columns that are sorted and whole."""
    k = _rank(len(ranked))
    return ranked[k - 1], ranked[-k]


@lru_cache(maxsize=256)
def _rank(n: int) -> int:
    """The largest k whose bounds hold the median with ``LEVEL``; 1 where none does."""
    return max([1, *(k for k in range(2, n // 2 + 1) if 1 - 2 * _at_most(k - 1, n) >= LEVEL)])


def _at_most(k: int, n: int) -> float:
    """P(at most k heads of n throws)."""
    return float(sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
