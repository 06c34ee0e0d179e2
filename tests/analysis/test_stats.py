"""Bounds of medians: what they hold, and their laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from melt.analysis.stats import bounds_are, coverage, median, median_with_bounds

numbers = st.floats(-1e9, 1e9, allow_subnormal=False)


@given(hnp.arrays(float, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=numbers))
def test_bounds_hold_the_median_and_stay_in_the_range(columns: np.ndarray) -> None:
    middle, low, high = median_with_bounds(columns)
    np.testing.assert_allclose(middle, np.median(columns, axis=0))
    if len(columns) == 1:
        assert np.isnan(low).all()
        assert np.isnan(high).all()
        return
    slack = 1e-9 * (1 + np.abs(columns).max(axis=0))
    assert (columns.min(axis=0) - slack <= low).all()
    assert (low <= middle + slack).all()
    assert (middle <= high + slack).all()
    assert (high <= columns.max(axis=0) + slack).all()


@given(hnp.arrays(float, st.integers(2, 9), elements=numbers), st.floats(0.001, 1000), st.randoms())
def test_bounds_scale_and_do_not_care_for_order(values: np.ndarray, factor: float, random: object) -> None:
    shuffled = values.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one = np.array(median_with_bounds(values[:, None]))
    other = np.array(median_with_bounds(shuffled[:, None] * factor))
    rounding = 1e-15 * factor * np.abs(values).max()  # opposite numbers of like size cancel out
    np.testing.assert_allclose(other, one * factor, rtol=1e-9, atol=1e-12 + rounding)


def test_missing_values_are_left_out() -> None:
    columns = np.array([[1.0, math.nan], [2.0, 5.0], [3.0, math.nan]])
    middle, low, high = median_with_bounds(columns)
    assert middle.tolist() == [2.0, 5.0]
    assert (low[0], high[0]) == (1.0, 3.0)
    assert math.isnan(low[1])


DRAWS = {
    "lognormal": lambda rng, shape: np.exp(rng.normal(0, 0.08, shape)),
    "two modes": lambda rng, shape: rng.choice([1.0, 1.2], shape) + rng.normal(0, 0.02, shape),
    "heavy tail": lambda rng, shape: rng.standard_t(2, shape),
}
TRUE_MEDIAN = {"lognormal": 1.0, "two modes": 1.1, "heavy tail": 0.0}


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("n", range(6, 13))
def test_bounds_called_an_interval_hold_the_true_median(n: int, draw: str) -> None:
    assert bounds_are(n) == "95 % interval"
    _, low, high = median_with_bounds(DRAWS[draw](np.random.default_rng(n), (n, 20_000)))
    held = np.mean((low <= TRUE_MEDIAN[draw]) & (high >= TRUE_MEDIAN[draw]))
    assert held >= 0.94
    if draw != "two modes":  # whose median is hard to place at all
        assert held == pytest.approx(coverage(n), abs=0.01)


@pytest.mark.parametrize("n", range(2, 6))
def test_bounds_of_few_sessions_are_their_range_and_are_called_so(n: int) -> None:
    values = np.random.default_rng(n).normal(0, 1, (n, 20_000))
    _, low, high = median_with_bounds(values)
    assert bounds_are(n) == f"range of {n} sessions"
    np.testing.assert_array_equal([low, high], [values.min(axis=0), values.max(axis=0)])
    assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(coverage(n), abs=0.01)
    assert coverage(n) < 0.95


def test_one_session_has_no_bounds_to_name() -> None:
    assert bounds_are(1) == ""
    assert math.isnan(coverage(1))


@given(st.lists(numbers, max_size=9))
def test_median_of_few(values: list[float]) -> None:
    expected = float(np.median(values)) if values else math.nan
    np.testing.assert_allclose(median([*values, math.nan]), expected)
