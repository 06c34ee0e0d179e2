"""How far two curves are apart at any context length, in every round; and where they cross.

Each curve is read on its own lengths, between them on the scale on which its cost law is straight: a time to the
first token over its tokens (a S + b S^2 over S), a time per token as it is (c + d S).
"""

import math
from dataclasses import dataclass

import numpy as np

from melt.analysis.metrics import METRICS
from melt.analysis.paired import t_below
from melt.analysis.stats import LEVEL, Floats
from melt.spec.metrics import Metric

PLACES = 400  # at which the gap is looked at, evenly in the logarithm of the length


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

    def p_values(self, contexts: Floats) -> Floats:
        """Two-sided, that the mean gap is zero, at each length (Student's t over rounds)."""
        gap = self.at(contexts)
        error = gap.std(axis=0, ddof=1) / math.sqrt(len(gap))
        middle = gap.mean(axis=0)
        exact = error <= np.abs(middle) * 1e-12  # as of sizes, which are the same every time
        t = np.abs(middle) / np.where(exact, 1.0, error)
        return np.where(exact, np.where(np.abs(middle) > 1e-12, 0.0, 1.0), 2 * t_below(-t, len(gap) - 1))

    def signs(self, contexts: Floats) -> Floats:
        """Of the mean gap at each length: -1 where the challenger is better, 1 where it is worse."""
        return np.asarray(np.sign(self.at(contexts).mean(axis=0)))

    def crossing(self, low: float, high: float) -> tuple[float, float, float]:
        """The place between two settled lengths at which the mean gap changes its sign, and its interval."""
        places = np.unique(np.concatenate([np.geomspace(low, high, PLACES), *self.grids]))
        places = places[(places >= low) & (places <= high)]
        place, other = (_root(places, self.at(places, log=log).mean(axis=0)) for log in (False, True))
        unsure = places[self.p_values(places) > 1 - LEVEL]
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


def _root(x: Floats, y: Floats) -> float:
    """The last place at which y changes its sign; NaN where it never does."""
    changes = np.flatnonzero((y[1:] < 0) != (y[:-1] < 0))
    if not len(changes):
        return math.nan
    i = int(changes[-1])
    return float(x[i] + (x[i + 1] - x[i]) * y[i] / (y[i] - y[i + 1]))
