"""Heat, and where it slowed a run down."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from melt.analysis.run_record import RunRecord
from melt.analysis.slowdown import Slowdown, slowdown
from melt.analysis.stats import Floats
from melt.analysis.telemetry import Telemetry, Window, finite, largest
from melt.spec.events import Iteration
from melt.spec.metrics import Metric
from melt.telemetry.source import Site, Source
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
        "from the first timed prefill to where speed falls below 90 % for 10 s or three passes, by heat or clocks",
        title="time to throttling",
    ),
    Metric("tokens_to_throttle", "tokens", "generated tokens until then", title="tokens to throttling"),
)
CLOCKS_FELL_BELOW = 0.95  # of what they were while it was fresh
ROSE_C = 5.0


@dataclass(frozen=True)
class Throttle:
    """A fall of speed within a process; ``told`` is it in words, ``slowdown`` in passes."""

    time_s: float
    tokens: int
    told: str
    slowdown: Slowdown


@dataclass(frozen=True)
class Heat:
    """What the sampler saw of heat.

    ``throttled`` is the evidence that the firmware held clocks down; ``cause`` that where the run became slower, clocks
    or temperature agree that it was throttled.
    """

    max_temp_c: float = math.nan
    throttled: str = ""
    cause: str = ""


def heat(telemetry: Telemetry) -> Heat:
    """What the sampler saw of heat while a run was at work."""
    return Heat(
        max_temp_c=largest(telemetry.values(telemetry.sources("temperature_c"), telemetry.run)),
        throttled=telemetry.ever("throttled", "says that clocks were held down"),
        cause=_cause(telemetry),
    )


def of_run(rec: RunRecord, seen: Heat) -> dict[str, float]:
    """The metrics of heat of a run; of a slowdown whose cause is unknown none is of throttling."""
    start_c, fell = rec.manifest.start_temp_c, fall_of_speed(rec.timed)
    throttle = fell if seen.throttled or seen.cause else None
    return {
        "max_temp_c": seen.max_temp_c,
        "start_temp_c": math.nan if start_c is None else float(start_c),
        "time_to_throttle_s": throttle.time_s if throttle else math.nan,
        "tokens_to_throttle": float(throttle.tokens) if throttle else math.nan,
    }


def fall_of_speed(timed: Sequence[Iteration]) -> Throttle | None:
    """Where decoding, or else reading the prompt, became slower for good or for ten seconds; None where neither did.

    Every pass of a process does the same work at the same depth, so its speed is that of its phase.
    """
    if len(timed) < 2:
        return None
    for phase, took in (("decode", _decode_ns), ("prefill", _prefill_ns)):
        found = _fall(timed, phase, np.array([took(p) for p in timed], dtype=float) * S_PER_NS)
        if found:
            return found
    return None


def _fall(timed: Sequence[Iteration], phase: str, phase_s: Floats) -> Throttle | None:
    start_ns = np.array([p.prefill.t_start_ns for p in timed], dtype=float)
    end_ns = np.array([p.token_t_ns[-1] for p in timed], dtype=float)
    if not (phase_s > 0).all():
        return None
    found = slowdown(start_ns * S_PER_NS, (end_ns - start_ns) * S_PER_NS, 1 / phase_s)
    if found is None:
        return None
    time_s = float(start_ns[found.first] - start_ns[0]) * S_PER_NS
    tokens = sum(len(p.token_t_ns) for p in timed[: found.first])
    return Throttle(time_s, tokens, f"{phase} speed fell to {found.ratio:.0%} after {time_s:.0f} s", found)


def _decode_ns(one: Iteration) -> int:
    return one.token_t_ns[-1] - one.token_t_ns[0]


def _prefill_ns(one: Iteration) -> int:
    return one.prefill.t_end_ns - one.prefill.t_start_ns


def _cause(telemetry: Telemetry) -> str:
    """Why a slowdown is throttling: clocks that fell with it; where no clock is told, a temperature that rose."""
    timed = telemetry.rec.timed
    fell = fall_of_speed(timed)
    if fell is None:
        return ""
    fresh, slow = (
        (timed[first].prefill.t_start_ns, timed[end - 1].token_t_ns[-1])
        for first, end in (fell.slowdown.fresh, fell.slowdown.slow)
    )
    site: Site = "gpu" if telemetry.rec.manifest.cell.accelerator == "gpu" else "cpu"
    clocks = [_mean(telemetry, telemetry.sources("frequency_hz", site), window) for window in (fresh, slow)]
    if all(c > 0 for c in clocks):
        left = clocks[1] / clocks[0]
        return f"the {site.upper()}'s clocks fell to {left:.0%}" if left < CLOCKS_FELL_BELOW else ""
    before, then = (largest(telemetry.values(telemetry.sources("temperature_c"), w)) for w in (fresh, slow))
    return f"the hottest sensor rose from {before:.0f} to {then:.0f} °C" if then - before >= ROSE_C else ""


def _mean(telemetry: Telemetry, sources: Sequence[Source], window: Window) -> float:
    """Of all samples of the sources in a window; NaN where there is none."""
    known = finite(telemetry.values(sources, window))
    return float(known.mean()) if known.size else math.nan
