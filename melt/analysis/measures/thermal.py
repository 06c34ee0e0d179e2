"""Heat, and where it slowed a run down."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from melt.analysis.run_record import RunRecord
from melt.analysis.stats import median
from melt.analysis.telemetry import Telemetry, largest
from melt.spec.events import Iteration
from melt.spec.metrics import Metric
from melt.util.units import S_PER_NS

METRICS = (
    Metric(
        "max_temp_c",
        "°C",
        "hottest sample of any temperature sensor between loading and the last token",
        title="highest temperature",
    ),
    Metric("start_temp_c", "°C", "temperature at the start of the session", title="start temperature"),
    Metric(
        "time_to_throttle_s",
        "s",
        "from the first timed prefill to where decode speed falls and stays down",
        title="time to throttling",
    ),
    Metric("tokens_to_throttle", "tokens", "generated tokens until then", title="tokens to throttling"),
)
THROTTLED_BELOW = 0.90
MIN_PASSES_TO_SEE_THROTTLING = 6


@dataclass(frozen=True)
class Throttle:
    """Where decode speed fell and stayed down."""

    time_s: float
    tokens: int
    ratio: float


@dataclass(frozen=True)
class Heat:
    """What the sampler saw of heat; ``throttled`` is the evidence that the firmware held clocks down."""

    max_temp_c: float = math.nan
    throttled: str = ""


def heat(telemetry: Telemetry) -> Heat:
    """What the sampler saw of heat while a run was at work."""
    return Heat(
        max_temp_c=largest(telemetry.values(telemetry.sources("temperature_c"), telemetry.run)),
        throttled=telemetry.ever("throttled", "says that clocks were held down"),
    )


def of_run(rec: RunRecord, seen: Heat) -> dict[str, float]:
    """The metrics of heat of a run."""
    start_c, throttle = rec.manifest.start_temp_c, throttling(rec.timed)
    return {
        "max_temp_c": seen.max_temp_c,
        "start_temp_c": math.nan if start_c is None else float(start_c),
        "time_to_throttle_s": throttle.time_s if throttle else math.nan,
        "tokens_to_throttle": float(throttle.tokens) if throttle else math.nan,
    }


def throttling(timed: Sequence[Iteration]) -> Throttle | None:
    """A sustained fall of decode speed over the passes of one process, or None.

    The speed of every pass of the last third, of two passes or more, is under 90 % of the median of the
    first third. Throttling starts with the first pass from which all are.
    """
    if len(timed) < MIN_PASSES_TO_SEE_THROTTLING:
        return None
    speed = [_decode_speed(p) for p in timed]
    third = len(timed) // 3
    fresh = median(speed[:third])
    slow = [s < THROTTLED_BELOW * fresh for s in speed]
    if not all(slow[-third:]):
        return None
    start = next(i for i in range(len(slow)) if all(slow[i:]))
    time_s = (timed[start].prefill.t_start_ns - timed[0].prefill.t_start_ns) * S_PER_NS
    tokens = sum(len(p.token_t_ns) for p in timed[:start])
    return Throttle(time_s, tokens, median(speed[start:]) / fresh)


def _decode_speed(one: Iteration) -> float:
    span = one.token_t_ns[-1] - one.token_t_ns[0]
    return (len(one.token_t_ns) - 1) / (span * S_PER_NS) if span else math.nan
