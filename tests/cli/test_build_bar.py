"""What a build tells whoever waits for it."""

import io

import pytest
from rich.console import Console

from melt.cli.build_bar import build_bar


def test_on_a_pipe_a_long_build_says_now_and_then_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    out, now_s = io.StringIO(), 1000.0
    monkeypatch.setattr("melt.cli.build_bar.time.monotonic", lambda: now_s)
    with build_bar(Console(file=out), "the board") as show:
        for step in range(81):
            now_s += 1.0
            show(step, 81)
    assert out.getvalue().splitlines() == [
        "building the runner for the board, once",
        *(f"building the runner for the board, {step} of 81 steps" for step in (15, 30, 45, 60, 75)),
    ]
