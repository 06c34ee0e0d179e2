"""What the kernel counted of a pass, as every flavour of the runner tells it."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from melt.spec.events import Iteration
from tests.runner.running import Ran, job


@pytest.mark.every_flavour
def test_every_pass_tells_what_the_kernel_counted(program: list[str], tmp_path: Path, model: Path) -> None:
    for one in passes_of(Ran(program, tmp_path, job(model, threads=1))):
        assert one.kernel is not None
        prefill, decode, whole = (c.model_dump(exclude_none=True) for c in vars(one.kernel).values())
        took_ns = one.token_t_ns[-1] - one.prefill.t_start_ns
        assert set(prefill) == set(decode) == set(whole) - {"swapped_bytes", "busy_ns", "stolen_ns"}
        assert len(whole) == 9
        assert prefill["cpu_ns"] + decode["cpu_ns"] == pytest.approx(whole["cpu_ns"], abs=2000)
        assert whole["cpu_ns"] < took_ns * (os.cpu_count() or 1) + 20_000_000
        assert whole["suspended_ns"] < 50_000_000


@pytest.mark.timing
def test_a_thread_that_shares_its_processor_says_how_long_it_waited(
    program: list[str], tmp_path: Path, model: Path
) -> None:
    alone = {min(os.sched_getaffinity(0))}
    given = job(model, threads=1, cpu_mask=1 << min(alone), iterations=60)
    with _busy(alone):
        passes = [e for e in passes_of(Ran(program, tmp_path, given)) if not e.warmup]
    counts = [e.kernel.whole.model_dump() for e in passes if e.kernel]
    took_ns = sum(e.token_t_ns[-1] - e.prefill.t_start_ns for e in passes)
    assert 0.2 < sum(c["run_delay_ns"] for c in counts) / took_ns < 0.95
    assert sum(c["involuntary_switches"] for c in counts) > 2


def passes_of(ran: Ran) -> list[Iteration]:
    return [e for e in ran.events if isinstance(e, Iteration)]


@contextmanager
def _busy(processors: set[int]) -> Iterator[None]:
    """A loop that wants a processor all the time."""
    context = multiprocessing.get_context("spawn")
    spinning = context.Event()
    loop = context.Process(target=_spin, args=(processors, spinning), daemon=True)
    loop.start()
    try:
        assert spinning.wait(120)
        yield
    finally:
        loop.kill()
        loop.join()


def _spin(processors: set[int], spinning: Event) -> None:
    os.sched_setaffinity(0, processors)
    spinning.set()
    while True:
        pass
