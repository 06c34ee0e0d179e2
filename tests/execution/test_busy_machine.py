"""A report of what was measured while other programs kept the processors busy claims nothing, and says why."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import melt
from melt.analysis.compare import claim
from melt.analysis.curves import curves, pairs
from melt.execution.plan import run
from melt.report import write_report
from tests.doubles.paced.fixture import paced
from tests.support.plans import a_plan

__all__ = ["paced"]
PACES = {"base_ms": 300.0, "token_us": 0.0, "decode_ms": 20.0}  # passes of 0.6 s: long enough to tell others' load


def test_with_two_busy_loops_beside_nothing_is_settled(
    paced: Path, tmp_path: Path, tiny_models: dict[str, Path]
) -> None:
    models = tiny_models["transformer"], tiny_models["ssm"]
    few = {"context": (64, 128), "gen": (16,), "iterations": 1, "warmups": 0}
    with _busy(2):
        run(a_plan("local", *models, backends=("paced",), options=PACES, sessions=6, **few), tmp_path / "r")
    results = melt.load(tmp_path / "r")
    assert (results.runs["disturbed"] != "").all()
    [(challenger, reference)] = pairs(curves(results.runs, results.cells))
    assert claim(challenger, reference, "ttft_s", results.manifests) is None
    page = write_report(results, tmp_path / "page").read_text()
    top = page[page.index("<main>") :]
    assert top.index("24 of 24 sessions disturbed: ") < top.index('id="conditions"')
    assert "4 of 4 cells therefore have fewer than 6 undisturbed sessions" in top
    assert "What to do: Close other programs" in top


@contextmanager
def _busy(loops: int) -> Iterator[None]:
    """So many loops that want a processor all the time."""
    made = [multiprocessing.get_context("spawn").Process(target=_spin, daemon=True) for _ in range(loops)]
    for loop in made:
        loop.start()
    try:
        yield
    finally:
        for loop in made:
            loop.kill()
            loop.join()


def _spin() -> None:
    while True:
        pass
