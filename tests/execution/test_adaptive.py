"""Where two curves cross, both are measured once more at the length itself."""

import math
from pathlib import Path

import pytest

import melt
from melt.analysis.compare import claim
from melt.analysis.crossover import crossover
from melt.analysis.curves import Curve, curves, pairs
from melt.execution import executor
from melt.execution.adaptive import STEP, most_near_crossovers, near_crossovers
from melt.execution.executor import Outcome
from melt.execution.extra_time import ExtraTimeBudget
from melt.execution.plan import run
from melt.execution.preflight import Preflight, preflight
from melt.spec.cell import Cell
from melt.spec.plan import ExtraTime, Plan
from melt.store.store import Store
from tests.execution.recorder import Recorder
from tests.support.plans import a_plan
from tests.support.store_factory import MAMBA, SMOLLM, FakeModel, Recipe, with_, write_run, write_store

QUIET = Recipe(noise=0.01, session_noise=0.0, telemetry=False)
ASKED = (128, 512, 2048)


def admitted_as(folder: Path) -> Preflight:
    """A plan as the runs of a store came from it; no other part of it is looked at."""
    runs, _ = Store(folder).runs()
    cells = tuple(dict.fromkeys(r.manifest.cell for r in runs if not r.manifest.adaptive))
    return Preflight(Plan(devices="local", models="m.gguf"), cells, {}, {}, {}, {}, {})


def added_to(folder: Path) -> list[tuple[Cell, Cell]]:
    counted = [r.manifest for r in Store(folder).runs()[0] if not r.manifest.adaptive]
    return near_crossovers(admitted_as(folder), counted, Store(folder))


def two(folder: Path) -> tuple[Curve, Curve]:
    results = melt.load(folder)
    return next(pairs(curves(results.runs, results.cells)))


def measured_at(folder: Path, length: int, sessions: int) -> None:
    for session in range(sessions):
        for model in (SMOLLM, MAMBA):
            write_run(folder, model, length, session, with_(QUIET, adaptive=True))


def test_both_models_are_added_where_they_cross(tmp_path: Path) -> None:
    write_store(tmp_path, models=(SMOLLM, MAMBA), contexts=ASKED, sessions=6, recipe=QUIET)
    added = added_to(tmp_path)
    places = {m: crossover(*two(tmp_path), m).context for m in ("ttft_s", "tpot_s")}
    for cells in added:
        assert {c.model for c in cells} == {SMOLLM.ref, MAMBA.ref}
        length = cells[0].prompt_tokens
        assert length % STEP == 0
        assert length == cells[1].prompt_tokens
        assert any(abs(length - place) <= STEP / 2 for place in places.values())
    told = [place for place in places.values() if not math.isnan(place)]
    assert len(added) == len(told) >= 1


def test_the_place_stays_when_it_has_been_measured(tmp_path: Path) -> None:
    write_store(tmp_path, models=(SMOLLM, MAMBA), contexts=ASKED, sessions=6, recipe=QUIET)
    before = added_to(tmp_path)
    for cells in before:
        measured_at(tmp_path, cells[0].prompt_tokens, 4)
    assert added_to(tmp_path) == before


@pytest.mark.parametrize(
    "model", [FakeModel("Fast", "ssm", "mamba", 10**8, 3e-4, 0, 0.001, 0, 0, 2**20), MAMBA], ids=["faster", "few"]
)
def test_nothing_is_added_where_no_crossing_is_told(model: FakeModel, tmp_path: Path) -> None:
    write_store(tmp_path, models=(SMOLLM, model), contexts=ASKED, sessions=5 if model is MAMBA else 6, recipe=QUIET)
    assert added_to(tmp_path) == []


def test_a_length_added_is_in_the_crossover_and_in_no_mean_over_lengths(tmp_path: Path) -> None:
    write_store(tmp_path, models=(SMOLLM, MAMBA), contexts=ASKED, sessions=6, recipe=QUIET)
    (cells, *_), before = added_to(tmp_path), crossover(*two(tmp_path), "ttft_s")
    measured_at(tmp_path, cells[0].prompt_tokens, 6)
    after, both = crossover(*two(tmp_path), "ttft_s"), two(tmp_path)
    assert cells[0].prompt_tokens in after.contexts
    assert after.hi - after.lo < before.hi - before.lo
    told = claim(*both, "ttft_s", melt.load(tmp_path).manifests)
    assert told is not None
    assert told.contexts == ASKED


def test_a_length_added_that_lacks_a_session_costs_no_round(tmp_path: Path) -> None:
    write_store(tmp_path, models=(SMOLLM, MAMBA), contexts=ASKED, sessions=6, recipe=QUIET)
    before = crossover(*two(tmp_path), "ttft_s")
    measured_at(tmp_path, 560, 5)
    assert crossover(*two(tmp_path), "ttft_s") == before


def test_a_plan_measures_what_is_added_and_goes_on_with_it(
    tiny_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def added(admitted: Preflight, counted: object, store: Store) -> list[tuple[Cell, Cell]]:
        short = [c for c in admitted.cells if c.prompt_tokens == 32]
        return [
            (a.model_copy(update={"prompt_tokens": 48}), b.model_copy(update={"prompt_tokens": 48})) for a, b in [short]
        ]

    monkeypatch.setattr(executor, "near_crossovers", added)
    models = (tiny_models["transformer"], tiny_models["ssm"])
    plan = a_plan("local", *models, context=(32, 64), sessions=2, adaptive=True, extra_time={"share": 10.0})
    watcher = Recorder()
    outcome = run(plan, tmp_path / "r", watcher)
    mine = [(r.manifest.cell.prompt_tokens, r.manifest.session) for r in outcome.made if r.manifest.adaptive]
    assert sorted(set(mine)) == [(48, 0), (48, 1)]
    assert len(outcome.cells) == 6
    assert any("also measured at 48 tokens" in said for said in watcher.said)
    again = run(plan, tmp_path / "r")
    assert not [r for r in again.made if r.manifest.attempt == 0 and not r.manifest.disturbed]
    frame = melt.load(tmp_path / "r").cells
    assert set(frame[frame["adaptive"]]["prompt_tokens"]) == {48}
    none = run(plan.model_copy(update={"extra_time": ExtraTime(share=0.0)}), tmp_path / "none")
    assert without_added(none)


def without_added(outcome: Outcome) -> bool:
    return len(outcome.cells) == 4 and not any(r.manifest.adaptive for r in outcome.made)


def test_the_most_that_may_be_added_is_known_beforehand(tiny_models: dict[str, Path]) -> None:
    plan = a_plan("local", *tiny_models.values(), context=(32, 64), type_k=("f16", "q8_0"), adaptive=True)
    # a Transformer beside a state-space model and a hybrid, in two settings, of two metrics, two cells each
    assert most_near_crossovers(preflight(plan)) == 2 * 2 * 2 * 2
    assert most_near_crossovers(preflight(plan.model_copy(update={"context": (32,)}))) == 0


def test_the_time_of_earlier_runs_counts(tmp_path: Path) -> None:
    write_store(tmp_path, models=(SMOLLM,), contexts=ASKED, sessions=2, recipe=QUIET)
    own = [r.manifest for r in Store(tmp_path).runs()[0]]
    budget = ExtraTimeBudget(ExtraTime(share=0.5))
    assert not budget.allow(1.0)
    budget.add(own)
    assert budget.allow(1.0)
    budget.add([m.model_copy(update={"adaptive": True}) for m in own])
    assert not budget.allow(0.0)
