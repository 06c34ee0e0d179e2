"""The ratio of two curves at one context length, with its uncertainty; refused where it means nothing."""

from dataclasses import dataclass

import numpy as np

from melt.analysis.curves import MATCHED, Curve
from melt.analysis.passport import conditions, differences
from melt.analysis.stats import LEVEL, RESAMPLES, SEED, resampled_medians
from melt.errors import ReportError
from melt.store.manifest import Manifest


@dataclass(frozen=True)
class Ratio:
    """a / b of one metric at one context length; bounds at 95 % are NaN where a side has one session."""

    metric: str
    context: float
    a: float
    b: float
    ratio: float
    lo: float
    hi: float

    @property
    def clear(self) -> bool:
        """Whether the bounds leave out 1."""
        return self.lo > 1 or self.hi < 1


def ratio(a: Curve, b: Curve, metric: str, context: float, manifests: dict[str, Manifest]) -> Ratio:
    """The ratio of two curves at one context length.

    Args:
        a: the numerator.
        b: the denominator.
        metric: a metric of ``runs``.
        context: tokens, measured on both.
        manifests: of the runs, for saying what differs.

    Raises:
        ReportError: the two were not measured under the same conditions, or not at this length.
    """
    reasons = incomparable(a, b, manifests)
    if reasons:
        raise ReportError(
            f"{a.name} and {b.name} cannot be compared: {'; '.join(reasons)}",
            "Measure both under the same conditions: one plan with both models does.",
        )
    left, right = a.raw(metric, context), b.raw(metric, context)
    if not len(left) or not len(right):
        raise ReportError(f"{metric} was not measured at {context:g} tokens for both {a.name} and {b.name}")
    middle = float(np.median(left)), float(np.median(right))
    lo = hi = float("nan")
    if len(left) > 1 and len(right) > 1:
        rng = np.random.default_rng(SEED)
        drawn = resampled_medians(left, rng, RESAMPLES) / resampled_medians(right, rng, RESAMPLES)
        lo, hi = (float(q) for q in np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    return Ratio(metric, context, *middle, middle[0] / middle[1], lo, hi)


def incomparable(a: Curve, b: Curve, manifests: dict[str, Manifest]) -> list[str]:
    """What stands against comparing two curves: one line a difference, none where they may be compared."""
    reasons = []
    for name, left, right in zip(MATCHED, a.matched, b.matched, strict=True):
        if left == right:
            continue
        if name == "conditions_id":
            one, other = (conditions(manifests[c.sessions["run_id"].iloc[0]].passport) for c in (a, b))
            reasons += differences(one, other)
        else:
            reasons.append(f"{name}: {left} against {right}")
    return reasons
