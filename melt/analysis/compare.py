"""Two curves beside each other: what their rounds say, at one length and over all; refused where it means nothing."""

from dataclasses import dataclass

import numpy as np

from melt.analysis.curves import MATCHED, Curve, shared_contexts
from melt.analysis.paired import Paired, paired
from melt.analysis.passport import as_found, conditions, differences
from melt.analysis.rounds import log_ratios, mean_log_ratios
from melt.errors import ReportError
from melt.store.manifest import Manifest


@dataclass(frozen=True)
class Ratio:
    """a / b of one metric at one context length: both medians, and what the rounds say of their ratio."""

    metric: str
    context: float
    a: float
    b: float
    rounds: Paired


@dataclass(frozen=True)
class Claim:
    """a / b of one metric over every context length that both have.

    ``rounds`` is over each round's mean log ratio, so that the claim is one however many lengths there are;
    ``single`` is at each length, with intervals that go with no verdict.
    """

    metric: str
    contexts: tuple[float, ...]
    rounds: Paired
    single: tuple[Ratio, ...]


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
    refuse_incomparable(a, b, manifests)
    left, right = a.raw(metric, context), b.raw(metric, context)
    if not len(left) or not len(right):
        raise ReportError(f"{metric} was not measured at {context:g} tokens for both {a.name} and {b.name}")
    return _at(a, b, metric, context)


def claim(a: Curve, b: Curve, metric: str, manifests: dict[str, Manifest], claims: int = 1) -> Claim | None:
    """What two curves' rounds say of a metric; None where no context length has it on both.

    Args:
        a: the numerator.
        b: the denominator.
        metric: a metric of ``runs``.
        manifests: of the runs, for saying what differs.
        claims: how many are made at once; ``holm`` is the caller's.

    Raises:
        ReportError: the two were not measured under the same conditions.
    """
    refuse_incomparable(a, b, manifests)
    contexts = shared_contexts(a, b, metric)
    if not len(contexts):
        return None
    single = tuple(_at(a, b, metric, float(c)) for c in contexts)
    return Claim(metric, tuple(float(c) for c in contexts), paired(mean_log_ratios(a, b, metric), claims), single)


def _at(a: Curve, b: Curve, metric: str, context: float) -> Ratio:
    left, right = (float(np.median(curve.raw(metric, context))) for curve in (a, b))
    return Ratio(metric, context, left, right, paired(log_ratios(a, b, metric, context)))


def refuse_incomparable(a: Curve, b: Curve, manifests: dict[str, Manifest]) -> None:
    """Raises a ReportError that says what differs between two curves that were not measured alike."""
    reasons = incomparable(a, b, manifests)
    if reasons:
        raise ReportError(
            f"{a.name} and {b.name} cannot be compared: {'; '.join(reasons)}",
            "Measure both under the same conditions: one plan with both models does.",
        )


def incomparable(a: Curve, b: Curve, manifests: dict[str, Manifest]) -> list[str]:
    """What stands against comparing two curves: one line a difference, none where they may be compared."""
    reasons = []
    for name, left, right in zip(MATCHED, a.matched, b.matched, strict=True):
        if left == right:
            continue
        if name == "conditions_id":
            reasons += differences(*(_conditions(c, manifests) for c in (a, b)))
        else:
            reasons.append(f"{name}: {left} against {right}")
    return reasons


def _conditions(curve: Curve, manifests: dict[str, Manifest]) -> dict[str, str]:
    """Under which a curve's runs were made: all under the same."""
    run = curve.some_run
    return conditions(as_found(manifests[run["run_id"]].passport, run["flags"]))
