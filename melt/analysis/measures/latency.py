"""Latency and throughput of a pass, from its stamps."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from melt.spec.events import Iteration
from melt.spec.metrics import CostLaw, Metric, Scale, Words
from melt.util.units import S_PER_NS

METRICS = (
    Metric(
        "ttft_s",
        "s",
        "from submitting the prompt to the first token being known",
        title="time to first token",
        short="TTFT",
        better="lower",
        per="iteration",
        words=Words("sooner", "later"),
        shown=("summary", "cells", "runs", "sentence", "card", "crossover"),
        figure="latency",
        plain="How long a user waits for the first word.",
        law=CostLaw(with_attention=2.0, without=1.0),
        of_prompt=True,
    ),
    Metric(
        "prefill_s",
        "s",
        "from submitting the prompt's first batch to the synchronised end of its last",
        title="prefill time",
        of_prompt=True,
        better="lower",
        per="iteration",
    ),
    Metric(
        "prefill_tok_per_s",
        "tokens/s",
        "prompt_tokens / prefill_s of the same row",
        title="prefill throughput",
        narrow="prefill tok/s",
        better="higher",
        per="iteration",
        of_time="prefill_s",
        of_tokens="prompt_tokens",
        axis=Scale("tok/s"),
        words=Words("slower", "faster"),
        shown=("live", "summary", "cells", "crossover"),
        figure="latency",
        plain="How fast the prompt is read.",
    ),
    Metric(
        "tpot_s",
        "s",
        "(last token - first token) / (generated tokens - 1)",
        title="time per output token",
        short="TPOT",
        better="lower",
        per="iteration",
        axis=Scale("ms", 1e3, 1),
        words=Words("faster", "slower"),
        shown=("cells", "runs", "sentence", "card", "crossover"),
        figure="latency",
        plain="How long each word after the first takes.",
        law=CostLaw(with_attention=1.0, without=0.0),
    ),
    Metric(
        "decode_tok_per_s",
        "tokens/s",
        "1 / tpot_s of the same row",
        title="decode throughput",
        narrow="decode tok/s",
        better="higher",
        per="iteration",
        of_time="tpot_s",
        words=Words("slower", "faster"),
        shown=("live", "summary", "cells"),
        figure="latency",
        plain="How fast the answer is written, with the whole prompt in memory.",
    ),
    Metric(
        "itl_p50_s",
        "s",
        "median interval between tokens",
        title="median inter-token latency",
        short="ITL p50",
        better="lower",
        per="iteration",
    ),
    Metric(
        "itl_p90_s",
        "s",
        "90th percentile of the intervals between tokens; NaN of fewer than 100",
        title="90th percentile of inter-token latency",
        short="ITL p90",
        better="lower",
        per="iteration",
    ),
    Metric(
        "itl_p99_s",
        "s",
        "99th percentile of the intervals between tokens; NaN of fewer than 1,000",
        title="99th percentile of inter-token latency",
        short="ITL p99",
        better="lower",
        per="iteration",
        shown=("cells",),
    ),
    Metric(
        "itl_max_s",
        "s",
        "longest interval between tokens",
        title="longest inter-token latency",
        short="ITL max",
        better="lower",
        per="iteration",
    ),
)
# Of all intervals together, not medians of medians: a run's are those of its timed iterations, a cell's those of all
# its sessions. A percentile needs so many intervals that ten of them lie beyond it.
TAILS = {"itl_p50_s": (0.50, 1), "itl_p90_s": (0.90, 100), "itl_p99_s": (0.99, 1000), "itl_max_s": (1.0, 1)}
SPEEDS = tuple(m for m in METRICS if m.of_time)
PREFILL_THROUGHPUT, DECODE_THROUGHPUT = SPEEDS


def of_pass(one: Iteration) -> dict[str, float]:
    """Latencies in seconds and speeds in tokens per second of one pass with two or more tokens.

    ttft_s runs from the submission of the prompt to the first token's stamp; tpot_s is
    (t_last - t_first) / (tokens - 1); what is not finite is NaN.
    """
    stamps = np.asarray(one.token_t_ns, dtype=np.int64)
    itl_s = np.diff(stamps) * S_PER_NS
    prefill_s = (one.prefill.t_end_ns - one.prefill.t_start_ns) * S_PER_NS
    tpot_s = float(itl_s.mean())
    return {
        "ttft_s": ttft_s(one),
        "prefill_s": prefill_s,
        "tpot_s": tpot_s,
        **speeds({"prefill_s": prefill_s, "tpot_s": tpot_s}, one.prefill.tokens),
        **tails(itl_s),
    }


def tails(itl_s: NDArray[np.float64]) -> dict[str, float]:
    """The percentiles of intervals, each where there are enough of them; else NaN."""
    if not len(itl_s):
        return dict.fromkeys(TAILS, math.nan)
    found = percentiles(itl_s, [share for share, _ in TAILS.values()])
    needed = [least for _, least in TAILS.values()]
    return {
        name: value if len(itl_s) >= least else math.nan
        for name, value, least in zip(TAILS, found, needed, strict=True)
    }


def why_no_tail(n: int) -> str:
    """Why some percentile of so many intervals is NaN; empty where none is, and where there are no intervals at all."""
    lacking = [f"{share * 100:g} % from {least:,}" for share, least in TAILS.values() if n < least]
    return f"{n:,} intervals, and percentiles are given of {', '.join(lacking)} on" if n and lacking else ""


def intervals(timed: Iterable[Iteration]) -> NDArray[np.float64]:
    """Every interval between tokens of some passes, seconds."""
    found = [np.diff(np.asarray(p.token_t_ns, dtype=np.int64)) * S_PER_NS for p in timed]
    return np.concatenate([np.empty(0), *found])


def percentiles(values: NDArray[np.float64], shares: Sequence[float]) -> list[float]:
    """Percentiles by linear interpolation, as numpy's default; several times as quick on few values."""
    ranked = np.sort(values)
    places = [share * (len(ranked) - 1) for share in shares]
    below = [int(p) for p in places]
    low, high = ranked[below], ranked[[min(b + 1, len(ranked) - 1) for b in below]]
    return [float(a + (b - a) * (p - i)) for a, b, p, i in zip(low, high, places, below, strict=True)]


def ttft_s(one: Iteration) -> float:
    """Seconds from the submission of the prompt to the first token; NaN where there is none."""
    return (one.token_t_ns[0] - one.prefill.t_start_ns) * S_PER_NS if one.token_t_ns else math.nan


def of_durations(prefill_s: float, tpot_s: float, prompt_tokens: int) -> dict[str, float]:
    """The same of a program that tells how long a phase took and not when; what follows from stamps is NaN."""
    times = {"prefill_s": prefill_s, "tpot_s": tpot_s}
    return {**{m.name: math.nan for m in METRICS}, **times, **speeds(times, prompt_tokens)}


def speeds(times: Mapping[str, float], prompt_tokens: float) -> dict[str, float]:
    """Tokens per second of each phase, from a row's own times."""
    return {m.name: rate(prompt_tokens if m.of_tokens else 1.0, times[m.of_time]) for m in SPEEDS}


def rate(amount: float, seconds: float) -> float:
    """Amount a second; NaN where no time has passed."""
    return amount / seconds if seconds > 0 else math.nan
