"""Verdicts of rounds in pairs against simulated truth, and their laws; `benchmarks/verdicts.py` has the long tables."""

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from melt.analysis.paired import Paired, holm, paired
from melt.spec.cell import Cell
from melt.spec.schedule import interleave

Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]
SYMMETRIC: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(0, 1, shape),
    "heavy tail": lambda rng, shape: rng.standard_t(3, shape),
    "one in ten disturbed": lambda rng, shape: rng.normal(0, 1, shape) * np.where(rng.random(shape) < 0.1, 8, 1),
}
rounds = st.lists(st.floats(-2, 2).map(lambda v: round(v, 6)), min_size=6, max_size=14)


@pytest.mark.parametrize("draw", SYMMETRIC)
@pytest.mark.parametrize("n", [6, 9, 10, 12])
def test_equal_things_are_called_different_as_seldom_as_is_said(n: int, draw: str) -> None:
    d = 0.03 * SYMMETRIC[draw](np.random.default_rng(n), (1000, n))
    found = [paired(row) for row in d]
    assert np.mean([f.verdict("lower") in ("better", "worse") for f in found]) <= 0.065
    assert np.mean([f.lo <= 1 <= f.hi for f in found]) >= 0.935


def test_a_change_of_three_percent_at_one_percent_of_noise_is_found_in_six_rounds() -> None:
    d = math.log(1.03) + np.random.default_rng(0).normal(0, 0.01, (500, 6))
    found = [paired(row) for row in d]
    assert np.mean([f.verdict("lower") == "worse" for f in found]) >= 0.9
    assert np.median([f.visible for f in found]) == pytest.approx(1.0165, abs=0.004)


def test_the_smallest_difference_that_would_have_shown_is_shown_nine_times_of_ten() -> None:
    rng = np.random.default_rng(1)
    visible = float(np.median([paired(row).visible for row in rng.normal(0, 0.02, (500, 8))]))
    found = [paired(row).verdict("lower") for row in math.log(visible) + rng.normal(0, 0.02, (1000, 8))]
    assert 0.85 <= np.mean([f == "worse" for f in found]) <= 0.95


@pytest.mark.parametrize("n", range(2, 6))
def test_fewer_than_six_rounds_settle_nothing(n: int) -> None:
    found = paired([math.log(20.0)] * n)
    assert found.verdict("lower") == "not settled"
    assert math.isnan(found.visible)


def test_no_round_has_no_ratio() -> None:
    found = paired([math.nan, math.nan])
    assert (found.n, found.verdict("lower")) == (0, "not settled")
    assert math.isnan(found.ratio)


@pytest.mark.parametrize("n", [6, 12])
def test_what_is_the_same_every_time_is_settled(n: int) -> None:
    assert paired([math.log(0.5)] * n).verdict("lower") == "better"
    assert paired([math.log(0.5)] * n).verdict("higher") == "worse"
    assert paired([0.0] * n).verdict("lower") == "even"


def test_even_needs_the_interval_inside_three_percent() -> None:
    assert Paired(6, 1.005, 0.98, 1.025, 0.4, 1.02).verdict("lower") == "even"
    assert Paired(6, 1.005, 0.96, 1.025, 0.4, 1.02).verdict("lower") == "not settled"
    assert Paired(6, 1.005, 1.003, 1.007, 0.001, 1.02).verdict("lower") == "even"  # sure, and nothing worth telling


@given(rounds)
def test_the_other_way_round_says_the_opposite(d: list[float]) -> None:
    one, other = paired(d), paired([-v for v in d])
    assert other.ratio == pytest.approx(1 / one.ratio)
    assert (other.lo, other.hi) == pytest.approx((1 / one.hi, 1 / one.lo))
    assert other.p == pytest.approx(one.p)
    opposite = {"better": "worse", "worse": "better"}
    assert other.verdict("lower") == opposite.get(one.verdict("lower"), one.verdict("lower"))


@given(st.lists(st.floats(-2, 2).map(lambda v: round(v, 2)), min_size=10, max_size=12))
def test_signed_ranks_are_exact(d: list[float]) -> None:
    """All flips of signs, counted one by one; equal sizes share their ranks."""
    values = np.array([v for v in d if v])
    size = np.abs(values)
    rank = np.array([(size < v).sum() + ((size == v).sum() + 1) / 2 for v in size])
    own = min(rank[values > 0].sum(), rank[values < 0].sum())
    sums = np.array([np.arange(2 ** len(values)) >> i & 1 for i in range(len(values))]).T @ rank
    expected = min(1.0, 2 * float(np.mean(sums <= own + 1e-9))) if len(values) else 1.0
    assert paired(d).p == pytest.approx(expected)


def test_signed_ranks_wait_until_they_can_reach_the_level() -> None:
    d = [0.1 + i / 1000 for i in range(10)]
    assert paired(d).p == pytest.approx(2**-9)
    assert paired(d, claims=100).p < 2**-9  # 100 claims ask for 1 in 2,000, which ten signs cannot give


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_its_definition(p: list[float]) -> None:
    found = holm(p)
    assert all(adjusted >= own for adjusted, own in zip(found, p, strict=True))
    for (a, x), (b, y) in combinations(zip(p, found, strict=True), 2):
        assert (a - b) * (x - y) >= 0
    if p:
        assert min(found) == pytest.approx(min(1.0, len(p) * min(p)))


@pytest.mark.parametrize("drift", ["line", "step", "decay"])
def test_a_drift_of_ten_percent_over_the_plan_biases_no_ratio(drift: str) -> None:
    cells = [Cell(device="local", model=f"m{i}", prompt_tokens=128) for i in range(4)]
    at = np.linspace(0, 1, 4 * 6)
    level = {"line": 1 + 0.1 * at, "step": np.where(at > 0.4, 1.1, 1.0), "decay": 1.1 - 0.1 * np.exp(-5 * at)}[drift]
    ratios = []
    for seed in range(200):
        order = interleave(cells, 6, seed)
        when = {(u.cell.model, u.session): level[i] for i, u in enumerate(order)}
        ratios.append(paired([math.log(when["m0", s] / when["m1", s]) for s in range(6)]).ratio)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.005)
