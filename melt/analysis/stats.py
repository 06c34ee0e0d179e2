"""Medians over sessions and the bounds of their uncertainty, by the percentile bootstrap.

The sample is the session. A resampled median depends only on which ranks were drawn, and how likely each is to
be the middle one is known exactly: the bounds are those of endlessly many resamples, with no seed and no noise.
With n sessions the bounds can be no wider than the range of the sessions, which holds the true median with
probability 1 - 2^(1-n): 75 % for three sessions, and 95 % only from six.
"""

import math
import statistics
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SEED = 20_240_501
LEVEL = 0.95
RESAMPLES = 4_000  # where two samples are resampled together, and only drawing tells
SESSIONS_FOR_INTERVAL = 6  # of fewer, the range of the sessions holds the median with less than LEVEL
ROUNDING = 1e-9  # of summed probabilities

Floats = NDArray[np.float64]


def median(values: Iterable[float]) -> float:
    """The median of what is not NaN; NaN where nothing is."""
    known = [float(v) for v in values if v == v]
    return statistics.median(known) if known else math.nan


def median_with_bounds(columns: Floats) -> tuple[Floats, Floats, Floats]:
    """Median and 95 % bounds of each column, ignoring NaN.

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


def resampled_medians(values: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    """Medians of samples drawn with replacement from one cell's sessions."""
    drawn = rng.integers(len(values), size=(resamples, len(values)))
    return np.asarray(np.median(values[drawn], axis=1))


def _bounds(ranked: Floats) -> tuple[Floats, Floats]:
    """The percentile interval of the median, for columns that are sorted and whole."""
    lower, upper, weight = _drawn_middles(len(ranked))
    medians = (ranked[lower] + ranked[upper]) / 2
    order = np.argsort(medians, axis=0, kind="stable")
    medians = np.take_along_axis(medians, order, axis=0)
    mass = np.cumsum(weight[order], axis=0)
    tail = (1 - LEVEL) / 2
    first = np.argmax(mass >= tail - ROUNDING, axis=0)
    last = np.argmax(mass >= 1 - tail - ROUNDING, axis=0)
    every = np.arange(medians.shape[1])
    return medians[first, every], medians[last, every]


@lru_cache(maxsize=256)
def _drawn_middles(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """The ranks that are the middle of a resample of n, and the probability of each pair.

    A rank is drawn n times evenly from n. The middle one (n odd) is i or lower where at least half of the
    draws are. The middle two (n even, m = n/2) are i < j where m draws end at i and m draws begin at j:
    C(n,m) ((i/n)^m - ((i-1)/n)^m) (((n-j+1)/n)^m - ((n-j)/n)^m).
    """
    rank = np.arange(1, n + 1)
    middle = (n + 1) // 2
    at_most = np.array(
        [sum(math.comb(n, k) * (i / n) ** k * (1 - i / n) ** (n - k) for k in range(middle, n + 1)) for i in rank]
    )
    same = np.diff(at_most, prepend=0.0)
    if n % 2:
        return rank - 1, rank - 1, same
    below = (rank / n) ** middle - ((rank - 1) / n) ** middle
    above = ((n - rank + 1) / n) ** middle - ((n - rank) / n) ** middle
    joint = np.triu(math.comb(n, middle) * np.outer(below, above), k=1)
    np.fill_diagonal(joint, same - joint.sum(axis=1))
    lower, upper = np.nonzero(np.triu(np.ones((n, n))))
    return lower, upper, joint[lower, upper]
