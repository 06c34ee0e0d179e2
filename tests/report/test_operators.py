"""Shares of operator time: medians over runs, what dominates in words, and where it ran."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.analysis.columns import OP_CATEGORIES
from melt.report.figures.operators import _placement, _rows, dominance, shares_by_kind
from melt.report.palette import KINDS, PHASE_SHADES
from melt.spec.events import PHASES


def ops(*rows: tuple[int, str, str, str, float]) -> pd.DataFrame:
    """Rows of (context, run, kind, device, seconds)."""
    frame = pd.DataFrame(rows, columns=["context", "run_id", "category", "device", "total_s"])
    return frame.assign(count=10)


def test_shares_are_medians_over_runs() -> None:
    frame = ops(
        (128, "a", "gemm", "CPU", 3.0),
        (128, "a", "scan", "CPU", 1.0),
        (128, "b", "gemm", "CPU", 6.0),  # a run twice as slow, with the same shares
        (128, "b", "scan", "CPU", 2.0),
        (128, "c", "gemm", "CPU", 1.0),  # one that differs does not move the median
        (2048, "d", "scan", "CPU", 9.0),
        (2048, "d", "gemm", "CPU", 1.0),
    )
    shares = shares_by_kind(frame)
    assert shares.loc[128].to_dict() == pytest.approx({"gemm": 75.0, "scan": 25.0})
    assert shares.loc[2048].to_dict() == pytest.approx({"gemm": 10.0, "scan": 90.0})
    assert dominance(shares) == (
        "At 128 tokens: matmul 75 % and scan 25 %. At 2,048 tokens: scan 90 % and matmul 10 %."
    )


def test_one_context_is_told_once() -> None:
    assert dominance(shares_by_kind(ops((512, "a", "attention", "CPU", 1.0)))) == "At 512 tokens: attention 100 %."


def test_work_on_another_device_is_told() -> None:
    here = ops((128, "a", "scan", "CPU", 1.0))
    assert _placement(here, "cpu") == ""
    assert _placement(here, "gpu") == "Asked for gpu; by device: CPU 100%. "
    both = pd.concat([ops((128, "a", "gemm", "Vulkan0", 3.0)), here])
    assert _placement(both, "gpu") == "Asked for gpu; by device: Vulkan0 75%, CPU 25%. "
    assert [r[1:3] for r in _rows(both)] == [("matmul", "Vulkan0"), ("scan", "CPU")]


kinds = st.sampled_from(["gemm", "scan", "attention", "odd <b>kind</b>"])
rows = st.tuples(st.sampled_from([1, 128]), st.sampled_from("ab"), kinds, st.just("CPU"), st.floats(1e-6, 1e3))


@given(st.lists(rows, min_size=1, max_size=20))
def test_shares_always_sum_to_all(found: list[tuple[int, str, str, str, float]]) -> None:
    shares = shares_by_kind(ops(*found))
    assert shares.sum(axis=1).to_list() == pytest.approx([100.0] * len(shares))
    assert dominance(shares)
    assert len(_rows(ops(*found))) == len({(r[0], r[2]) for r in found})


def test_every_kind_of_operator_and_every_phase_has_a_colour() -> None:
    assert set(KINDS) == {*OP_CATEGORIES, "other"}
    assert tuple(PHASE_SHADES) == PHASES
