"""Crossovers, cliffs and comparisons on curves whose answer is known by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import melt
from melt.analysis.cliff import cliffs, unexplained
from melt.analysis.compare import incomparable, ratio
from melt.analysis.crossover import classify, crossover, last_crossings, match
from melt.analysis.curves import Curve, curves, pairs
from melt.errors import ReportError
from tests.support.store_factory import CONTEXTS, MAMBA, SMOLLM, FakeModel, Recipe, with_, write_run, write_store

QUIET = Recipe(noise=0.0, session_noise=0.0, telemetry=False)


def two(folder: Path, models: tuple[FakeModel, ...] = (SMOLLM, MAMBA), **how: object) -> tuple[Curve, Curve]:
    write_store(folder, models=models, **how)  # type: ignore[arg-type]
    results = melt.load(folder)
    return next(pairs(curves(results.runs, results.cells)))


@given(st.floats(130, 4000), st.floats(0.1, 2), st.lists(st.integers(2, 5000), min_size=2, max_size=7, unique=True))
def test_a_power_law_crossing_is_found_exactly(truth: float, slope: float, at: list[int]) -> None:
    contexts = np.array(sorted({100, 5000, *at}), dtype=float)
    kind, found = classify(np.log(contexts), -slope * np.log(contexts / truth))
    if not np.isin(truth, contexts):
        assert kind == "crosses"
        assert found[0] == pytest.approx(truth, rel=1e-6)


@given(st.lists(st.floats(-5, 5).filter(lambda v: abs(v) > 1e-6), min_size=2, max_size=8))
def test_kinds_and_crossings_agree_with_the_signs(gap: list[float]) -> None:
    x = np.log(2.0 ** np.arange(7, 7 + len(gap)))
    values = np.array(gap)
    kind, found = classify(x, values)
    changes = int(np.sum((values[1:] < 0) != (values[:-1] < 0)))
    assert len(found) == changes
    expected = {0: {"better_everywhere", "never_better"}, 1: {"crosses", "crosses_back"}}.get(changes, {"multiple"})
    assert kind in expected
    assert all(np.exp(x[0]) <= c <= np.exp(x[-1]) * (1 + 1e-9) for c in found)
    last = last_crossings(x, values[None, :])[0]
    if values[-1] > 0:
        assert math.isinf(last)
    elif changes == 0:
        assert last == 0
    else:
        assert last == pytest.approx(found[-1])


def test_the_crossover_of_known_cost_laws(tmp_path: Path) -> None:
    """3.0 S + 1.6e-3 S^2 = 3.9 S milliseconds at S = 562; read between 512 and 1024 in log-log."""
    found = crossover(*two(tmp_path, contexts=(128, 512, 600, 1024, 4096), recipe=QUIET), "ttft_s")
    assert found.kind == "crosses"
    assert found.context == pytest.approx(562.5, rel=0.01)


def test_the_interval_holds_the_truth_and_is_the_same_again(tmp_path: Path) -> None:
    curves_of = two(tmp_path, contexts=CONTEXTS, sessions=6, recipe=Recipe(telemetry=False))
    one, other = crossover(*curves_of, "ttft_s"), crossover(*curves_of, "ttft_s")
    assert one == other
    assert one.lo < 562.5 < one.hi
    assert one.lo < one.context < one.hi


def test_speed_crosses_where_its_time_does(tmp_path: Path) -> None:
    curves_of = two(tmp_path, contexts=CONTEXTS, recipe=QUIET)
    by_time, by_speed = crossover(*curves_of, "tpot_s"), crossover(*curves_of, "prefill_tok_per_s")
    assert by_speed.kind == "crosses"
    assert by_time.kind in ("crosses", "better_everywhere")


def test_none_within_the_range_is_an_answer(tmp_path: Path) -> None:
    found = crossover(*two(tmp_path, contexts=(128, 256, 512), recipe=QUIET), "ttft_s")
    assert (found.kind, found.crossings) == ("never_better", ())
    assert math.isnan(found.context)


def test_one_context_or_no_energy_cannot_be_compared(tmp_path: Path) -> None:
    curves_of = two(tmp_path, contexts=(128,), recipe=QUIET)
    assert crossover(*curves_of, "ttft_s").kind == "not_comparable"
    assert crossover(*curves_of, "decode_j_per_token").kind == "not_comparable"


def test_one_session_gives_no_interval(tmp_path: Path) -> None:
    found = crossover(*two(tmp_path, contexts=CONTEXTS, sessions=1, recipe=QUIET), "ttft_s")
    assert found.kind == "crosses"
    assert math.isnan(found.lo)
    assert math.isnan(found.hi)


def test_how_matched_is_said(tmp_path: Path) -> None:
    found = match(*two(tmp_path, contexts=(128, 512), recipe=QUIET))
    assert found.size_ratio == pytest.approx(0.96, abs=0.01)
    assert found.close
    assert found.synthetic


def test_cost_laws_have_no_cliff(tmp_path: Path) -> None:
    write_store(tmp_path, contexts=CONTEXTS, recipe=Recipe(telemetry=False))
    results = melt.load(tmp_path)
    assert [c for curve in curves(results.runs, results.cells) for c in cliffs(curve)] == []


def test_a_lost_kernel_is_a_cliff(tmp_path: Path) -> None:
    slow = FakeModel("Slow", "transformer", "llama", 10**8, 9e-3, 5e-6, 0.012, 1.4e-5, 23_040, 0)
    lost = FakeModel("Slow", "transformer", "llama", 10**8, 27e-3, 15e-6, 0.012, 1.4e-5, 23_040, 0)
    for context in (128, 256, 512, 1024, 2048, 4096):
        write_run(tmp_path, slow if context < 1024 else lost, context, recipe=QUIET)
    results = melt.load(tmp_path)
    (found,) = [c for c in cliffs(curves(results.runs, results.cells)[0]) if c.metric == "ttft_s"]
    assert (found.before, found.after) == (512, 1024)
    assert found.factor > 1.5


@given(st.floats(1e-4, 1), st.floats(0, 1e-2), st.floats(0, 1e-5))
def test_sums_of_powers_are_explained(a: float, b: float, c: float) -> None:
    x = np.log(2.0 ** np.arange(7, 14))
    s = np.exp(x)
    assert max(map(abs, unexplained(x, np.log(a + b * s + c * s**2), 2.0))) < math.log(1.25)


def test_ratios_are_of_medians_with_their_interval(tmp_path: Path) -> None:
    write_store(tmp_path, models=(SMOLLM, MAMBA), contexts=CONTEXTS, sessions=5, recipe=Recipe(telemetry=False))
    results = melt.load(tmp_path)
    a, b = next(pairs(curves(results.runs, results.cells)))
    found = ratio(a, b, "ttft_s", 4096, results.manifests)
    truth = MAMBA.ttft_s(4096) / SMOLLM.ttft_s(4096)
    assert found.lo <= found.ratio <= found.hi
    assert found.ratio == pytest.approx(truth, rel=0.06)
    assert found.clear


def test_other_conditions_are_refused_and_say_why(tmp_path: Path) -> None:
    write_run(tmp_path, SMOLLM, 512, recipe=QUIET)
    write_run(tmp_path, MAMBA, 512, recipe=with_(QUIET, passport={"governor": "powersave"}))
    results = melt.load(tmp_path)
    found = curves(results.runs, results.cells)
    assert list(pairs(found)) == []
    a, b = sorted(found, key=lambda c: c.family, reverse=True)
    assert incomparable(a, b, results.manifests) == ["governor: unknown against powersave"]
    with pytest.raises(ReportError, match="governor"):
        ratio(a, b, "ttft_s", 512, results.manifests)
