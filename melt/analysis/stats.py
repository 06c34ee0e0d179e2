"""Medians over sessions and the bounds of their uncertainty, by the percentile bootstrap.

The sample is the session. A resampled median depends only on which ranks were drawn, so the ranks are drawn
once for each sample size and serve every metric; nothing here depends on the order of cells or metrics.
With n sessions the bounds can be no wider than the range of the sessions, which holds the true median with
probability 1 - 2^(1-n): 75 % for three sessions, and 95 % only from six.
"""

import math
import statistics
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
SEED = 20_240_501
LEVEL = 0.95

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
    first = np.argmax(mass >= tail, axis=0)
    last = np.argmax(mass >= 1 - tail - 1e-12, axis=0)
    every = np.arange(medians.shape[1])
    return medians[first, every], medians[last, every]


@lru_cache(maxsize=256)
def _drawn_middles(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """The ranks that are the middle of a resample of n, and how often each pair is."""
    rng = np.random.default_rng([SEED, n])
    drawn = np.sort(rng.integers(n, size=(RESAMPLES, n)), axis=1)
    pairs, times = np.unique(drawn[:, [(n - 1) // 2, n // 2]], axis=0, return_counts=True)
    return pairs[:, 0], pairs[:, 1], times / RESAMPLES
