"""The timed loop, the same for every engine."""

import gc
from array import array
from dataclasses import dataclass
from typing import Protocol

from channel import Channel, JobError
from clock import now_ns
from job import Job
from kernel_counters import AFTER, BEFORE, BETWEEN, KernelCounters
from memory import process_memory
from schema import Values

# A warm-up pages the weights in, builds the graphs of both phases and wakes the thread pool. A longer one was not
# seen to change the first timed prefill (docs/measurement.md).
WARMUP_PROMPT_TOKENS = 128
WARMUP_GEN_TOKENS = 8


class Engine(Protocol):
    """A loaded model. Token ids are ints below ``n_vocab``."""

    n_vocab: int

    def reset(self) -> None:
        """Forgets every token."""

    def prepare(self, tokens: list[int]) -> None:
        """Makes ready the buffers for a prompt, so that ``prefill`` allocates nothing."""

    def prefill(self) -> None:
        """Processes the prepared prompt and returns when the device is done."""

    def greedy(self) -> int:
        """The most likely next token; -1 where the logits hold a NaN."""

    def decode(self, token: int) -> None:
        """Processes one token."""


@dataclass
class Timing:
    """Stamps of one iteration; preallocated."""

    start_ns: int
    end_ns: int
    token_t_ns: "array[int]"
    tokens: "array[int]"


def prompt_tokens(count: int, n_vocab: int, seed: int) -> list[int]:
    """Seeded random token ids, the same in every runner: splitmix64 of seed, modulo the vocabulary.

    Source of the generator: Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
    OOPSLA 2014.
    """
    mask = 2**64 - 1
    state, out = seed & mask, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        out.append((z ^ (z >> 31)) % n_vocab)
    return out


def run_workload(engine: Engine, job: Job, channel: Channel) -> None:
    """Warm-ups, then the timed iterations (or as many as fit the seconds asked for), an event after each.

    Raises:
        JobError: the logits hold a NaN, or the engine fails.
    """
    w = job.workload
    few = {"prompt_tokens": WARMUP_PROMPT_TOKENS, "gen_tokens": WARMUP_GEN_TOKENS}
    short = Values(**{**vars(w), **{name: min(getattr(w, name), most) for name, most in few.items()}})
    for index in range(job.warmups):
        _iterate(engine, short, index, True, channel)
    if w.kind == "fixed":
        for index in range(job.iterations):
            _iterate(engine, w, index, False, channel)
        return
    end_ns = now_ns() + int(float(w.seconds or 0) * 1e9)
    index = 0
    while index == 0 or now_ns() < end_ns:
        _iterate(engine, w, index, False, channel)
        index += 1


def _iterate(engine: Engine, w: Values, index: int, warmup: bool, channel: Channel) -> None:
    tokens = prompt_tokens(w.prompt_tokens, engine.n_vocab, w.seed)
    engine.reset()
    engine.prepare(tokens)
    counters = KernelCounters()
    try:
        timing = _timed(engine, w.gen_tokens, counters)
    finally:
        counters.close()
    if -1 in timing.tokens:
        raise JobError("nan_logits", f"the logits hold a NaN after {timing.tokens.index(-1)} generated tokens")
    channel.send(
        "iteration",
        index=index,
        warmup=warmup,
        prefill={"tokens": w.prompt_tokens, "t_start_ns": timing.start_ns, "t_end_ns": timing.end_ns},
        token_t_ns=timing.token_t_ns.tolist(),
        tokens=timing.tokens.tolist(),
        memory=process_memory(pss=True),
        kernel=counters.counts(),
    )


def _timed(engine: Engine, gen_tokens: int, counters: KernelCounters) -> Timing:
    """The timed region: no collection, nothing allocated but small integers, and in both phases no I/O."""
    stamps = array("q", bytes(8 * gen_tokens))
    tokens = array("q", bytes(8 * gen_tokens))
    prefill, greedy, decode = engine.prefill, engine.greedy, engine.decode
    gc.collect()
    gc.disable()
    try:
        counters.read(BEFORE)
        start_ns = now_ns()
        prefill()
        end_ns = now_ns()
        counters.read(BETWEEN)  # a part of the time to the first token, and of neither phase (docs/measurement.md)
        token = greedy()
        stamps[0] = now_ns()
        tokens[0] = token
        for i in range(1, gen_tokens):
            if token < 0:
                break
            decode(token)
            token = greedy()
            stamps[i] = now_ns()
            tokens[i] = token
        counters.read(AFTER)
    finally:
        gc.enable()
    return Timing(start_ns, end_ns, stamps, tokens)
