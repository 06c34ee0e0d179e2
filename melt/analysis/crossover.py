"""The context length from which a state-space model beats a Transformer, and how sure that is.

Between two measured lengths the ratio of the two models is taken to be a power of the length (a straight
line in log-log). The interval comes from drawing the sessions of every point again, with replacement.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from melt.analysis.curves import Curve, shared_contexts
from melt.analysis.metrics import METRICS
from melt.analysis.stats import LEVEL, RESAMPLES, SEED, Floats, resampled_medians

Kind = Literal["crosses", "crosses_back", "better_everywhere", "never_better", "multiple", "not_comparable"]

MATCHED_SIZE = 1.5  # parameters may differ by this factor and still be called matched


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

    ``context`` is in tokens, NaN unless ``kind`` is crosses or crosses_back; there ``lo`` and ``hi`` bound it
    at 95 %. A bound is 0 or infinite where it lies outside the measured range, NaN where some point has a
    single session. ``ratios`` are challenger / reference at ``contexts``.
    """

    metric: str
    challenger: str
    reference: str
    kind: Kind
    contexts: tuple[float, ...]
    ratios: tuple[float, ...]
    crossings: tuple[float, ...] = ()
    context: float = math.nan
    lo: float = math.nan
    hi: float = math.nan


def match(challenger: Curve, reference: Curve) -> Match:
    """How alike the two models are in size and quantisation."""
    a, b = challenger.cells.iloc[0], reference.cells.iloc[0]
    synthetic = bool(a["synthetic"] == True or b["synthetic"] == True)  # noqa: E712 - may be NaN
    return Match(float(a["n_params"]) / float(b["n_params"]), a["quant"] == b["quant"], synthetic)


def crossover(challenger: Curve, reference: Curve, metric: str) -> Crossover:
    """Where ``challenger`` becomes better than ``reference`` in ``metric``, over the lengths both have."""
    contexts = shared_contexts(challenger, reference, metric)
    a, b = (_at(curve, metric, contexts) for curve in (challenger, reference))
    names = (metric, challenger.name, reference.name)
    if len(contexts) < 2 or (a <= 0).any() or (b <= 0).any():
        return Crossover(*names, "not_comparable", tuple(contexts), tuple(a / b) if len(a) else ())
    sign = -1.0 if METRICS[metric].better == "higher" else 1.0
    gap = sign * (np.log(a) - np.log(b))  # below zero: the challenger is better
    kind, crossings = classify(np.log(contexts), gap)
    found = Crossover(*names, kind, tuple(contexts), tuple(a / b), crossings)
    if kind not in ("crosses", "crosses_back"):
        return found
    lo, hi = _bounds(challenger, reference, metric, contexts, sign, kind)
    return Crossover(*names, kind, found.contexts, found.ratios, crossings, crossings[0], lo, hi)


def classify(log_context: Floats, gap: Floats) -> tuple[Kind, tuple[float, ...]]:
    """The kind of a curve of log ratios (below zero: better), and its crossings in tokens.

    A ratio of exactly one is not better.
    """
    better = gap < 0
    changes = np.flatnonzero(better[1:] != better[:-1])
    crossings = tuple(float(np.exp(_root(log_context, gap, int(i)))) for i in changes)
    if len(changes) > 1:
        return "multiple", crossings
    if len(changes) == 1:
        return ("crosses" if better[-1] else "crosses_back"), crossings
    return ("better_everywhere" if better[0] else "never_better"), ()


def _root(x: Floats, y: Floats, i: int) -> float:
    return float(x[i] + (x[i + 1] - x[i]) * y[i] / (y[i] - y[i + 1]))


def _at(curve: Curve, metric: str, contexts: Floats) -> Floats:
    return curve.of(metric)[np.isin(curve.contexts, contexts)]


def _bounds(
    challenger: Curve, reference: Curve, metric: str, contexts: Floats, sign: float, kind: Kind
) -> tuple[float, float]:
    """Percentiles of the last crossing over resampled sessions; outside the range it is 0 or infinite."""
    rng = np.random.default_rng([SEED, len(contexts)])
    # A median speed is that of the median time; at one length the tokens cancel out.
    time = METRICS[metric].of_time
    power, metric = (-1.0, time) if time else (1.0, metric)
    drawn = []
    for curve in (challenger, reference):
        raw = [curve.raw(metric, c) for c in contexts]
        if min(len(r) for r in raw) < 2:
            return math.nan, math.nan
        drawn.append(power * np.stack([np.log(resampled_medians(r, rng, RESAMPLES)) for r in raw], axis=1))
    gap = sign * (drawn[0] - drawn[1])
    places = last_crossings(np.log(contexts), gap if kind == "crosses" else -gap)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(places, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def last_crossings(log_context: Floats, gap: Floats) -> Floats:
    """Of each row of log ratios, the length in tokens from which it stays below zero to the end.

    0 where it always is, infinite where it is not at the end.
    """
    worse = ~(gap < 0)
    last = gap.shape[1] - 1 - np.argmax(worse[:, ::-1], axis=1)  # the last point that is not better
    places = np.zeros(len(gap))
    places[worse.any(axis=1) & worse[:, -1]] = np.inf
    inside = np.flatnonzero(worse.any(axis=1) & ~worse[:, -1])
    i = last[inside]
    y0, y1 = gap[inside, i], gap[inside, i + 1]
    places[inside] = np.exp(log_context[i] + (log_context[i + 1] - log_context[i]) * y0 / (y0 - y1))
    return places
