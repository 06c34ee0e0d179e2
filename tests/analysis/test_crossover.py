"""Crossovers, cliffs and comparisons on curves whose answer is known by hand."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import melt
from melt.analysis.cliff import cliffs, unexplained
from melt.analysis.compare import claim, incomparable, ratio
from melt.analysis.crossover import Study, common_range, crossover, kind_of, match, settle
from melt.analysis.curves import Curve, curves, pairs
from melt.analysis.gap import Gap
from melt.analysis.metrics import METRICS
from melt.errors import ReportError
from tests.support.store_factory import CONTEXTS, MAMBA, SMOLLM, FakeModel, Recipe, with_, write_run, write_store

QUIET = Recipe(noise=0.0, session_noise=0.0, telemetry=False)


def two(folder: Path, models: tuple[FakeModel, ...] = (SMOLLM, MAMBA), **how: object) -> tuple[Curve, Curve]:
    write_store(folder, models=models, **how)  # type: ignore[arg-type]
    results = melt.load(folder)
    return next(pairs(curves(results.runs, results.cells)))


GRIDS = {
    "one grid": ((128, 512, 1024, 4096), (128, 512, 1024, 4096)),
    "steps of four": ((128, 512, 2048, 8192), (128, 512, 2048, 8192)),
    "two lengths": ((128, 4096), (128, 4096)),
    "other lengths": ((128, 512, 1024, 4096), (128, 300, 900, 3000, 5000)),
}
TRUTH = 1250.0


def gap_of(
    rng: np.random.Generator,
    grids: tuple[tuple[int, ...], tuple[int, ...]],
    noise: float,
    n: int = 6,
    metric: str = "ttft_s",
) -> tuple[Gap, np.ndarray]:
    """Rounds of two models that cross at ``TRUTH``, each round with a level of its own, and the lengths in reach."""
    a, b = (np.array(g, dtype=float) for g in grids)
    level = np.exp(rng.normal(0, 0.03, (6, 1)))
    of_ssm, of_transformer = (3.9e-3 * a, 3e-3 * b + 0.9e-3 / TRUTH * b**2)
    if metric == "tpot_s":
        of_ssm, of_transformer = 0.0128 + 0 * a, 0.0103 + 0.0025 / TRUTH * b
    values = tuple(level * v * np.exp(rng.normal(0, noise, (6, len(v)))) for v in (of_ssm, of_transformer))
    return Gap(METRICS[metric], (a, b), (values[0], values[1])), common_range(a, b)


@pytest.mark.parametrize("metric", ["ttft_s", "tpot_s"])
@pytest.mark.parametrize("grids", GRIDS)
def test_the_crossing_of_cost_laws_is_found_exactly_on_any_grid(grids: str, metric: str) -> None:
    gap, contexts = gap_of(np.random.default_rng(0), GRIDS[grids], 0.0, metric=metric)
    place, low, high = gap.crossing(contexts[0], contexts[-1])
    assert place == pytest.approx(TRUTH, rel=1e-3)
    assert low <= place <= high


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.06])
@pytest.mark.parametrize("grids", GRIDS)
def test_the_interval_of_a_crossing_holds_it(grids: str, noise: float) -> None:
    rng = np.random.default_rng(7)
    found = []
    for _ in range(120):
        gap, contexts = gap_of(rng, GRIDS[grids], noise)
        found.append(gap.crossing(contexts[0], contexts[-1]))
    places, low, high = np.array(found).T
    assert np.mean((low <= TRUTH) & (high >= TRUTH)) >= 0.93
    assert np.median(places) == pytest.approx(TRUTH, rel=0.02 if noise < 0.06 else 0.05)


def test_models_that_are_alike_do_not_cross() -> None:
    """As in a report of one pair, which tells crossovers of four metrics."""
    rng = np.random.default_rng(11)
    grid = np.array([128.0, 512.0, 1024.0, 4096.0])
    found = []
    for _ in range(200):
        values = [np.exp(rng.normal(0, 0.03, (6, 4))) for _ in range(8)]
        gaps = [Gap(METRICS["ttft_s"], (grid, grid), both) for both in zip(values[::2], values[1::2], strict=True)]
        found.append([one.kind for one in settle([Study("ttft_s", "a", "b", grid, 6, gap) for gap in gaps])])
    assert np.mean([set(kinds) == {"not_settled"} for kinds in found]) >= 0.95
    assert {k for kinds in found for k in kinds} <= {"not_settled", "partly"}


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=2, max_size=7))
def test_kinds_agree_with_the_settled_signs(signs: list[int]) -> None:
    known = [s for s in signs if s]
    turns = sum(a != b for a, b in pairwise(known))
    kind = kind_of(tuple(signs))
    if turns:
        assert kind == ("multiple" if turns > 1 else "crosses" if known[-1] < 0 else "crosses_back")
    elif 0 in signs:
        assert kind == ("partly" if known else "not_settled")
    else:
        assert kind == ("better_everywhere" if known[0] < 0 else "never_better")


def test_the_crossover_of_known_cost_laws(tmp_path: Path) -> None:
    """3.0 S + 1.6e-3 S^2 = 3.9 S milliseconds at S = 562."""
    found = crossover(*two(tmp_path, contexts=CONTEXTS, sessions=6, recipe=QUIET), "ttft_s")
    assert found.kind == "crosses"
    assert found.context == pytest.approx(562.5, rel=0.001)


def test_the_interval_holds_the_truth_and_is_the_same_again(tmp_path: Path) -> None:
    curves_of = two(tmp_path, contexts=CONTEXTS, sessions=6, recipe=Recipe(telemetry=False))
    one, other = crossover(*curves_of, "ttft_s"), crossover(*curves_of, "ttft_s")
    assert one == other
    assert one.lo < 562.5 < one.hi
    assert one.lo < one.context < one.hi


def test_speed_crosses_where_its_time_does(tmp_path: Path) -> None:
    curves_of = two(tmp_path, contexts=CONTEXTS, sessions=6, recipe=QUIET)
    by_time, by_speed = crossover(*curves_of, "prefill_s"), crossover(*curves_of, "prefill_tok_per_s")
    assert by_speed.kind == by_time.kind == "crosses"
    assert by_speed.context == pytest.approx(by_time.context)


def test_none_within_the_range_is_an_answer(tmp_path: Path) -> None:
    found = crossover(*two(tmp_path, contexts=(128, 256, 512), sessions=6, recipe=QUIET), "ttft_s")
    assert (found.kind, found.crossings) == ("never_better", ())
    assert math.isnan(found.context)


def test_one_context_or_no_energy_cannot_be_compared(tmp_path: Path) -> None:
    curves_of = two(tmp_path, contexts=(128,), recipe=QUIET)
    assert crossover(*curves_of, "ttft_s").kind == "not_comparable"
    assert crossover(*curves_of, "decode_j_per_token").kind == "not_comparable"


@pytest.mark.parametrize("sessions", [1, 5])
def test_fewer_than_six_rounds_settle_no_crossing(tmp_path: Path, sessions: int) -> None:
    found = crossover(*two(tmp_path, contexts=CONTEXTS, sessions=sessions, recipe=QUIET), "ttft_s")
    assert (found.kind, found.rounds) == ("not_settled", sessions)
    assert math.isnan(found.context)


def test_a_length_of_one_model_alone_is_read_on_its_own_curve(tmp_path: Path) -> None:
    for session in range(6):
        for model, contexts in ((SMOLLM, (128, 700, 4096)), (MAMBA, (128, 512, 2048, 4096))):
            for context in contexts:
                write_run(tmp_path, model, context, session=session, recipe=QUIET)
    results = melt.load(tmp_path)
    found = crossover(*next(pairs(curves(results.runs, results.cells))), "ttft_s")
    assert found.contexts == (128.0, 512.0, 700.0, 2048.0, 4096.0)
    assert found.context == pytest.approx(562.5, rel=0.001)


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


def test_a_claim_is_of_whole_rounds_over_every_shared_length(tmp_path: Path) -> None:
    a, b = two(tmp_path, contexts=(512, 4096), sessions=6, recipe=QUIET)
    found = claim(a, b, "ttft_s", melt.load(tmp_path).manifests)
    assert found is not None
    truth = [MAMBA.ttft_s(c) / SMOLLM.ttft_s(c) for c in (512, 4096)]
    assert found.rounds.n == 6
    assert found.rounds.ratio == pytest.approx(math.sqrt(truth[0] * truth[1]), rel=1e-3)
    assert [one.rounds.ratio for one in found.single] == pytest.approx(truth, rel=1e-3)
    assert found.rounds.verdict("lower") == "better"


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
