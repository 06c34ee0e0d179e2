"""The bootstrap against its own definition, and its laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from melt.analysis.stats import _drawn_middles, median, median_with_bounds

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


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 9, 10])
def test_middle_ranks_have_the_probabilities_of_a_plain_bootstrap(n: int) -> None:
    lower, upper, weight = _drawn_middles(n)
    assert weight.sum() == pytest.approx(1.0)
    drawn = np.sort(np.random.default_rng(n).integers(n, size=(100_000, n)), axis=1)
    middles = drawn[:, [(n - 1) // 2, n // 2]]
    for a, b, p in zip(lower, upper, weight, strict=True):
        assert np.mean((middles == [a, b]).all(axis=1)) == pytest.approx(p, abs=0.006)


def test_coverage_of_many_sessions_is_about_nominal() -> None:
    rng = np.random.default_rng(3)
    _, low, high = median_with_bounds(rng.normal(0, 1, (15, 1000)))
    assert 0.90 <= np.mean((low <= 0) & (high >= 0)) <= 0.99


@given(st.lists(numbers, max_size=9))
def test_median_of_few(values: list[float]) -> None:
    expected = float(np.median(values)) if values else math.nan
    np.testing.assert_allclose(median([*values, math.nan]), expected)
