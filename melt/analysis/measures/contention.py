"""How long a pass waited for a processor, and how much its worst intervals between tokens weigh."""

import math

from melt.spec.events import PHASES, Iteration
from melt.spec.metrics import Metric
from melt.util.units import S_PER_NS

SHORTEST_S = 0.05  # of a phase that is judged: in less, a single wake-up is a large share

METRICS = (
    *(
        Metric(
            f"waited_{phase}_share",
            "s/s",
            f"seconds that the runner's threads waited for a processor during {phase}, over its duration; "
            "summed over threads, and NaN where the kernel does not tell or the phase is too short",
            title=f"wait for a processor during {phase}",
            better="lower",
            per="iteration",
        )
        for phase in PHASES
    ),
    Metric(
        "stall_ratio",
        "ratio",
        "tpot_s / itl_p50_s: 1 where tokens come evenly",
        title="weight of stalls",
        better="lower",
        per="iteration",
    ),
)


def of_pass(one: Iteration, latency: dict[str, float]) -> dict[str, float]:
    """The metrics of a pass; ``latency`` are its times."""
    waited = {f"waited_{phase}_share": waited_share(one, phase) for phase in PHASES}
    return {**waited, "stall_ratio": stall_ratio(latency["tpot_s"], latency["itl_p50_s"])}


def of_durations() -> dict[str, float]:
    """The same of a program that tells durations alone."""
    return {m.name: math.nan for m in METRICS}


def waited_share(one: Iteration, phase: str) -> float:
    """Seconds waited a second of a phase; NaN where that cannot be judged."""
    took_s = phase_s(one, phase)
    delay_ns = getattr(one.kernel, phase).run_delay_ns if one.kernel else None
    return math.nan if delay_ns is None or took_s < SHORTEST_S else delay_ns * S_PER_NS / took_s


def phase_s(one: Iteration, phase: str) -> float:
    """Seconds of a phase of a pass that has tokens."""
    if phase == "prefill":
        return (one.prefill.t_end_ns - one.prefill.t_start_ns) * S_PER_NS
    return (one.token_t_ns[-1] - one.token_t_ns[0]) * S_PER_NS


def pass_s(one: Iteration) -> float:
    """Seconds from the submission of the prompt to the last token."""
    return (one.token_t_ns[-1] - one.prefill.t_start_ns) * S_PER_NS


def stall_ratio(tpot_s: float, itl_p50_s: float) -> float:
    """How much longer the mean interval between tokens is than the middle one."""
    return tpot_s / itl_p50_s if itl_p50_s > 0 else math.nan
