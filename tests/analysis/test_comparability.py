"""What is never on one curve, and what is never compared."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import melt
from melt.analysis.compare import incomparable
from melt.analysis.curves import curves, pairs
from melt.analysis.flags import NOT_COMPARED
from melt.analysis.placement import share_elsewhere
from melt.report import write_report
from melt.store.manifest import Flag
from tests.analysis.frames import events_of, rewrite
from tests.support.store_factory import MAMBA, SMOLLM, Recipe, write_run, write_store
from tests.support.store_recipe import FACTS


def flagged(name: str) -> Recipe:
    return Recipe(flags=(Flag(name=name, evidence="seen"),), session_noise=0.0)


@pytest.mark.parametrize("flag", NOT_COMPARED)
def test_one_flagged_run_leaves_the_curve_and_the_others_stay(flag: str, tmp_path: Path) -> None:
    for session in range(3):
        write_run(tmp_path, MAMBA, 128, session, flagged(flag) if session == 0 else Recipe())
    results = melt.load(tmp_path)
    [curve] = curves(results.runs, results.cells)
    assert set(curve.sessions["session"]) == {1, 2}
    assert curve.cells["n_sessions"].iloc[0] == 2
    assert curve.of("tpot_s")[0] == pytest.approx(curve.sessions["tpot_s"].median())
    assert len(results.runs) == 3, "it stands in the tables"
    page = write_report(results, tmp_path / "page").read_text()
    assert "1 such run stands in the tables, and in no figure or comparison" in page


@pytest.mark.parametrize("flag", ["charging", "extra_buffers_off"])
def test_runs_with_and_without_a_condition_are_not_pooled(flag: str, tmp_path: Path) -> None:
    for session in range(6):
        write_run(tmp_path, MAMBA, 128, session, flagged(flag) if session % 2 else Recipe())
    cells = melt.load(tmp_path).cells
    assert sorted(cells["n_sessions"]) == [3, 3]
    assert cells["passport_id"].nunique() == 2


def test_a_charging_device_is_compared_with_charging_ones_alone(tmp_path: Path) -> None:
    write_store(tmp_path, models=(SMOLLM,), contexts=(128,))
    write_store(tmp_path, models=(MAMBA,), contexts=(128,), recipe=flagged("charging"))
    results = melt.load(tmp_path)
    found = curves(results.runs, results.cells)
    assert not list(pairs(found))
    mamba, smollm = sorted(found, key=lambda c: c.name)
    assert "charging: yes against unknown" in incomparable(mamba, smollm, results.manifests)


@pytest.mark.parametrize(
    ("facts", "other"),
    [
        ({"clocks": "locked", "clock_cap": "0.60 GHz"}, {"clocks": "locked", "clock_cap": "2.40 GHz"}),
        ({"clocks": "free", "clock_cap": "1.20 GHz"}, {"clocks": "free", "clock_cap": "2.40 GHz"}),
        ({"battery_saver": "on"}, {"battery_saver": "off"}),
        ({"energy_preference": "power"}, {"energy_preference": "performance"}),
        ({"platform_profile": "low-power"}, {"platform_profile": "performance"}),
        ({"turbo": "off"}, {"turbo": "on"}),
        ({"supply": "battery"}, {"supply": "mains"}),
        ({"governor": "powersave"}, {"governor": "performance"}),
        ({"supply": "mains"}, {}),  # unknown on one side
    ],
)
def test_a_device_in_another_state_is_refused(facts: dict[str, Any], other: dict[str, Any], tmp_path: Path) -> None:
    for model, state in ((SMOLLM, facts), (MAMBA, other)):
        write_store(tmp_path, models=(model,), contexts=(128,), recipe=Recipe(facts=FACTS.model_copy(update=state)))
    results = melt.load(tmp_path)
    found = curves(results.runs, results.cells)
    assert len(found) == 2
    assert not list(pairs(found))
    name = next(k for k in facts if facts[k] != other.get(k))
    [reason] = incomparable(found[0], found[1], results.manifests)
    assert reason.startswith(f"{name}: ")


@pytest.mark.parametrize("field", ["sustained_s", "cpu_fallback"])
def test_cells_of_other_settings_are_refused(field: str, tmp_path: Path) -> None:
    values: dict[str, tuple[Any, Any]] = {"sustained_s": (60.0, 600.0), "cpu_fallback": (False, True)}
    more = {"workload": "sustained"} if field == "sustained_s" else {}
    for model, value in zip((SMOLLM, MAMBA), values[field], strict=True):
        write_store(tmp_path, models=(model,), contexts=(128,), recipe=Recipe(cell={**more, field: value}))
    results = melt.load(tmp_path)
    found = curves(results.runs, results.cells)
    assert len(found) == 2
    assert not list(pairs(found))
    assert any(r.startswith(f"{field}: ") for r in incomparable(found[0], found[1], results.manifests))


@pytest.mark.parametrize(
    ("share", "flag", "evidence"),
    [
        (0.49, "accelerator_fallback", "ran on cpu"),
        (0.51, "partial_fallback", "49%"),
        (0.60, "partial_fallback", "40%"),
        (0.985, "", ""),
        (1.0, "", ""),
    ],
)
def test_weights_that_stay_with_the_processor_are_told(share: float, flag: str, evidence: str, tmp_path: Path) -> None:
    run = write_run(tmp_path, SMOLLM, 128, recipe=Recipe(cell={"accelerator": "gpu"}, telemetry=False))
    events: list[Any] = events_of(run)
    whole = next(b for b in events[1]["buffers"] if b["kind"] == "weights")
    mapped = {"device": "CPU_Mapped", "kind": "weights", "bytes": whole["bytes"]}  # the file from its first to its last
    events[1]["buffers"] = [mapped, {**whole, "device": "GPUOpenCL", "bytes": int(whole["bytes"] * share)}]
    events[1]["effective_accelerator"] = "gpu" if share >= 0.5 else "cpu"
    rewrite(run, events)
    results = melt.load(tmp_path)
    flags = results.flags[results.flags["flag"].isin(["accelerator_fallback", "partial_fallback"])]
    assert list(flags["flag"]) == ([flag] if flag else [])
    assert all(evidence in said for said in flags["evidence"])
    assert len(curves(results.runs, results.cells)) == (0 if flag else 1)


def test_the_embedding_stays_with_the_processor_in_every_run(tmp_path: Path) -> None:
    run = write_run(tmp_path, SMOLLM, 128, recipe=Recipe(cell={"accelerator": "gpu"}, telemetry=False))
    events: list[Any] = events_of(run)
    whole = next(b for b in events[1]["buffers"] if b["kind"] == "weights")
    events[1]["buffers"] = [{**whole, "device": "CUDA0", "bytes": int(whole["bytes"] * 0.8)}]
    rewrite(run, events)
    [rec] = melt.load(tmp_path).recorded
    assert share_elsewhere(rec) == pytest.approx(0.2, abs=0.001)
    assert rec.manifest.model is not None
    shaped = rec.manifest.model.model_copy(update={"shape": {"embedding_bytes": whole["bytes"] // 5}})
    known = replace(rec, run=replace(rec.run, manifest=rec.manifest.model_copy(update={"model": shaped})))
    assert share_elsewhere(known) == pytest.approx(0.0, abs=0.001)
