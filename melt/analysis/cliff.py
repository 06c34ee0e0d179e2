"""Cliffs: a step in a curve that no cost law of the model explains, as when a fast kernel is lost.

Latency and memory are sums of powers of the context length, with exponents that the family knows. In log-log
such a sum never bends down, and is never steeper than its highest power. A step between two measured lengths
is a cliff where it is steeper or flatter than both its neighbours, or breaks these limits, by enough to
matter and by more than the spread of the sessions.
"""

import math
from dataclasses import dataclass

import numpy as np

from melt.analysis.curves import Curve
from melt.analysis.metrics import ROWS
from melt.spec.metrics import CostLaw

MIN_CONTEXTS = 4
SINGLE_SPREAD = 1.1  # assumed of a point with a single session
MAX_DEGREE = 2.0  # of a family that is not known
STEP = 1.25  # the smallest unexplained factor between two lengths that is called a cliff


@dataclass(frozen=True)
class Cliff:
    """An unexplained step: between two context lengths the metric is ``factor`` off what its law allows."""

    metric: str
    model: str
    before: float  # tokens
    after: float  # tokens
    factor: float  # above 1: worse than explained; below 1: better


def cliffs(curve: Curve) -> list[Cliff]:
    """Every cliff of a curve; a curve of fewer than four lengths has none to tell."""
    found = []
    for metric, law in ((m.name, m.law) for m in ROWS if m.law):
        known = np.isfinite(curve.of(metric)) & (curve.of(metric) > 0)
        context, value = curve.contexts[known], curve.of(metric)[known]
        if len(context) < MIN_CONTEXTS:
            continue
        spread = _spread(curve, metric)[known]
        degree = _degree(law, curve.family)
        for i, excess in enumerate(unexplained(np.log(context), np.log(value), degree)):
            noise = max(spread[i], spread[i + 1])
            if abs(excess) > math.log(STEP) + noise:
                found.append(Cliff(metric, curve.name, context[i], context[i + 1], math.exp(excess)))
    return found


def _degree(law: CostLaw, family: str) -> float:
    """The highest power of the context length that a family's cost law allows."""
    return {"transformer": law.with_attention, "hybrid": law.with_attention, "ssm": law.without}.get(family, MAX_DEGREE)


def _spread(curve: Curve, metric: str) -> np.ndarray:
    """Log of upper over lower bound of each point; where there are no bounds, that of ``SINGLE_SPREAD``."""
    low, high = curve.of(f"{metric}_lo"), curve.of(f"{metric}_hi")
    known = (low > 0) & np.isfinite(high)
    return np.asarray(np.log(np.divide(high, low, out=np.full(len(low), SINGLE_SPREAD), where=known)))


def unexplained(x: np.ndarray, y: np.ndarray, degree: float) -> list[float]:
    """For each step of a log-log curve, the part of its rise that neither neighbours nor degree explain."""
    slope = np.diff(y) / np.diff(x)
    out = []
    for i, s in enumerate(slope):
        low, high = 0.0, degree
        if 0 < i < len(slope) - 1:
            low, high = max(low, min(slope[i - 1], slope[i + 1])), min(high, max(slope[i - 1], slope[i + 1]))
            low, high = min(low, high), max(low, high)
        outside = max(s - high, 0.0) + min(s - low, 0.0)
        out.append(float(outside * (x[i + 1] - x[i])))
    return out
