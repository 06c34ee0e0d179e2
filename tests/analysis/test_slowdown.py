"""Falls of speed among the passes of a process, with their truth known; the whole table is benchmarks/throttling.py."""

import numpy as np
import pytest

from benchmarks.throttling import SHAPES, found, sensible
from melt.analysis.slowdown import slowdown

TRIALS = 60


@pytest.mark.parametrize(("n", "length_s"), [(6, 5.0), (6, 10.0), (12, 2.0), (30, 5.0), (100, 0.5)])
def test_steady_speed_is_no_slowdown(n: int, length_s: float) -> None:
    assert found("steady", n, length_s, TRIALS) == 0


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "steady"])
@pytest.mark.parametrize(("n", "length_s"), [(6, 5.0), (12, 10.0), (30, 2.0), (100, 0.5)])
def test_a_fall_that_lasts_is_found(shape: str, n: int, length_s: float) -> None:
    assert not sensible(shape, n, length_s) or found(shape, n, length_s, TRIALS) >= 0.93


def test_it_says_from_which_pass_on_and_by_how_much() -> None:
    speed = np.array([1.0] * 8 + [0.7] * 6)
    told = slowdown(np.arange(14) * 5.0, np.full(14, 5.0), speed)
    assert told is not None
    assert (told.first, told.fresh[0]) == (8, 0)
    assert told.ratio == pytest.approx(0.7)
    assert told.slow[0] >= 7  # a window in which most passes are slow


def test_a_start_that_is_slow_is_no_fall() -> None:
    assert slowdown(np.arange(14) * 5.0, np.full(14, 5.0), np.array([0.7] * 4 + [1.0] * 10)) is None


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_a_few_short_passes_tell_nothing(n: int) -> None:
    assert slowdown(np.arange(n) * 1.0, np.ones(n), np.linspace(1, 0.5, n)) is None


def test_three_long_passes_do() -> None:
    told = slowdown(np.arange(3) * 20.0, np.full(3, 20.0), np.array([1.0, 0.99, 0.6]))
    assert told is not None
    assert told.first == 2
