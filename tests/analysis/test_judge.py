"""What a run must have said to be a measurement."""

from dataclasses import replace

import pytest

from melt.analysis.judge import CLOCKS_MAY_DIFFER_S, why_no_measurement
from melt.spec.cell import Cell
from melt.spec.events import Done, Iteration, Prefill, Repetitions
from melt.spec.transcript import Transcript

S = 10**9
CELL = Cell(device="d", model="m", prompt_tokens=8, gen_tokens=2, iterations=2, warmups=1)


def one_pass(start_s: int, warmup: bool = False, tokens: int = 8) -> Iteration:
    """A second of prefill and two tokens, a second each."""
    prefill = Prefill(tokens=tokens, t_start_ns=start_s * S, t_end_ns=(start_s + 1) * S)
    stamps = ((start_s + 2) * S, (start_s + 3) * S)
    return Iteration(index=0, warmup=warmup, prefill=prefill, token_t_ns=stamps)


def durations(phase: str, tokens: int, depth: int, *took_s: int) -> Repetitions:
    took_ns = [t * S for t in took_s]
    return Repetitions.model_validate({"phase": phase, "tokens": tokens, "depth": depth, "took_ns": took_ns})


WHOLE = Transcript(passes=(one_pass(0, warmup=True, tokens=4), one_pass(10), one_pass(20)), done=Done(status="ok"))
DURATIONS = Transcript(
    repetitions=(durations("prefill", 8, 0, 1, 1), durations("decode", 2, 8, 1, 1)), done=Done(status="ok")
)


@pytest.mark.parametrize("said", [WHOLE, DURATIONS], ids=["stamps", "durations"])
def test_a_whole_run_is_one(said: Transcript) -> None:
    assert why_no_measurement(said, CELL, duration_s=30) is None


@pytest.mark.parametrize(
    ("said", "kind", "reason"),
    [
        (replace(WHOLE, done=None), "incomplete_events", "no ok end"),
        (replace(WHOLE, done=Done(status="error")), "incomplete_events", "no ok end"),
        (replace(WHOLE, passes=WHOLE.passes[:2]), "incomplete_events", "1 of 2 timed iterations"),
        (replace(WHOLE, passes=(one_pass(10), one_pass(12))), "invalid_events", "before the end of the pass before"),
        (replace(WHOLE, passes=(one_pass(10), one_pass(20, tokens=7))), "invalid_events", "7 prompt tokens"),
        (replace(DURATIONS, repetitions=DURATIONS.repetitions[:1]), "invalid_events", "one of each phase"),
        (
            replace(DURATIONS, repetitions=(durations("prefill", 8, 0, 1), DURATIONS.repetitions[1])),
            "invalid_events",
            "1 of 2 repetitions",
        ),
        (
            replace(DURATIONS, repetitions=(durations("prefill", 9, 0, 1, 1), DURATIONS.repetitions[1])),
            "invalid_events",
            "9 tokens at depth 0",
        ),
    ],
)
def test_anything_less_is_none_and_says_why(said: Transcript, kind: str, reason: str) -> None:
    failure = why_no_measurement(said, CELL, duration_s=30)
    assert failure is not None
    assert failure.kind == kind
    assert reason in failure.message


def test_no_pass_is_longer_than_its_run() -> None:
    """But for what two clocks may differ by."""
    late = one_pass(10).model_copy(update={"token_t_ns": (500 * S, 600 * S)})
    said = replace(WHOLE, passes=(late, one_pass(700)))
    assert why_no_measurement(said, CELL, duration_s=600 - CLOCKS_MAY_DIFFER_S) is None
    failure = why_no_measurement(said, CELL, duration_s=200)
    assert failure is not None
    assert "took 590 s" in failure.message


def test_a_job_may_ask_for_other_iterations_than_its_cell() -> None:
    assert why_no_measurement(WHOLE, CELL, iterations=3) is not None
    assert why_no_measurement(replace(WHOLE, passes=WHOLE.passes[:2]), CELL, iterations=1) is None


def test_a_sustained_run_is_one_with_a_single_pass() -> None:
    sustained = CELL.model_copy(update={"workload": "sustained", "sustained_s": 5.0})
    assert why_no_measurement(replace(WHOLE, passes=WHOLE.passes[:2]), sustained) is None
