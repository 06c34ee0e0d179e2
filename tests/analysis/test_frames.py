"""Frames: every number is what its definition says."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import melt
from melt.analysis import parallel
from melt.analysis.measures.latency import TAILS
from melt.analysis.metrics import METRICS, SPEEDS
from melt.analysis.observation import observe
from melt.analysis.parallel import observe_all
from melt.telemetry.source import Site
from tests.analysis.frames import results
from tests.support.store_factory import CONTEXTS, MAMBA, SMOLLM, Recipe, with_, write_run, write_store

__all__ = ["results"]


def test_metrics_follow_their_definitions(results: melt.Results) -> None:
    run = results.recorded[0]
    timed = [p for p in run.passes if not p.warmup]
    assert len(timed) == 3
    row = results.runs.iloc[0]
    ttft = sorted((p.token_t_ns[0] - p.prefill.t_start_ns) / 1e9 for p in timed)
    tpot = sorted((p.token_t_ns[-1] - p.token_t_ns[0]) / 1e9 / (len(p.token_t_ns) - 1) for p in timed)
    prefill = sorted((p.prefill.t_end_ns - p.prefill.t_start_ns) / 1e9 for p in timed)
    assert row["ttft_s"] == pytest.approx(ttft[1], rel=1e-12)
    assert row["tpot_s"] == pytest.approx(tpot[1], rel=1e-9)
    assert row["decode_tok_per_s"] == pytest.approx(1 / tpot[1], rel=1e-9)
    assert row["prefill_tok_per_s"] == pytest.approx(row["prompt_tokens"] / prefill[1], rel=1e-12)
    itl = np.concatenate([np.diff(p.token_t_ns) / 1e9 for p in timed])
    assert row["itl_p50_s"] == pytest.approx(np.percentile(itl, 50), rel=1e-9)
    assert row["itl_max_s"] == itl.max()


def test_cold_start_is_loading_and_the_first_pass(results: melt.Results) -> None:
    run, row = results.recorded[0], results.runs.iloc[0]
    first = run.passes[0]
    assert first.warmup
    expected = row["load_s"] + (first.token_t_ns[0] - first.prefill.t_start_ns) / 1e9
    assert row["cold_ttft_s"] == pytest.approx(expected, rel=1e-12)


def test_memory_stands_side_by_side(results: melt.Results) -> None:
    row = results.runs[results.runs["family"] == "ssm"].iloc[0]
    assert row["kv_bytes"] == 0  # the engine listed its buffers, and has no cache
    assert row["state_bytes"] == MAMBA.state_bytes
    assert row["explained_memory_bytes"] == row["predicted_memory_bytes"]
    assert row["runtime_baseline_bytes"] == 61 * 2**20
    assert row["unexplained_memory_bytes"] == pytest.approx(2**20, abs=1)
    assert row["available_drop_bytes"] > 100 * 2**20


def test_tokens_are_those_of_timed_iterations(results: melt.Results) -> None:
    tokens = results.tokens
    assert len(tokens) == len(results.runs) * 3 * 32
    assert (tokens["itl_s"].isna() == (tokens["index"] == 0)).all()
    one = tokens[(tokens["run_id"] == results.recorded[0].run_id) & (tokens["iteration"] == 1)]
    assert one["t_ns"].tolist() == list(results.recorded[0].timed[1].token_t_ns)


def test_missing_is_nan_never_zero(results: melt.Results) -> None:
    row = results.runs.iloc[0]
    for name in ("energy_prefill_j", "decode_j_per_token", "idle_power_w", "peak_pss_bytes", "prompts_per_charge"):
        assert math.isnan(row[name]), name
    [why] = {a.reason for a in results.manifests[row["run_id"]].telemetry.absent if a.quantity == "energy_j"}
    assert row["energy_prefill_reason"] == why


def test_cells_are_medians_over_sessions(results: melt.Results) -> None:
    cell = results.cells.iloc[0]
    of_cell = results.runs[(results.runs["cell_id"] == cell["cell_id"])]
    assert cell["n_sessions"] == len(of_cell) == 3
    for metric in METRICS.keys() - {m.name for m in SPEEDS} - TAILS.keys():
        values = of_cell[metric].dropna()
        if len(values):
            assert cell[metric] == pytest.approx(values.median())
            assert values.min() <= cell[f"{metric}_lo"] <= cell[metric] <= cell[f"{metric}_hi"] <= values.max()


@settings(max_examples=20)
@given(n_sessions=st.integers(1, 4), iterations=st.integers(1, 4), noise=st.floats(0.01, 1.0))
def test_every_speed_is_that_of_the_time_beside_it(n_sessions: int, iterations: int, noise: float) -> None:
    recipe = Recipe(iterations=iterations, noise=noise, session_noise=noise, gen_tokens=4, telemetry=False)
    with TemporaryDirectory() as folder:
        write_store(Path(folder), models=(MAMBA,), contexts=(128,), sessions=n_sessions, recipe=recipe)
        results = melt.load(folder)
        frames = results.iterations, results.runs, results.cells
    for frame in frames:
        bounds = (("", ""), ("_lo", "_hi"), ("_hi", "_lo")) if "tpot_s_lo" in frame else (("", ""),)
        for speed, time in bounds:
            assert frame["decode_tok_per_s" + speed].to_numpy() == pytest.approx(
                1 / frame["tpot_s" + time], nan_ok=True
            )
            expected = frame["prompt_tokens"] / frame["prefill_s" + time]
            assert frame["prefill_tok_per_s" + speed].to_numpy() == pytest.approx(expected, nan_ok=True)


def test_ops_shares_make_a_whole(results: melt.Results) -> None:
    shares = results.ops.groupby(["run_id", "phase"])["share"].sum()
    assert shares.to_numpy() == pytest.approx(1.0)


def test_samples_are_read_only_when_asked_for(tmp_path: Path) -> None:
    run = write_run(tmp_path, MAMBA, 128)
    results = melt.load(tmp_path)
    assert "samples" not in vars(results)
    assert set(results.samples_of(run.manifest.run_id)["source"]) >= {"process:rss", "thermal:x86_pkg_temp"}


def test_energy_is_the_replayed_truth(tmp_path: Path) -> None:
    recipe = Recipe(power_w=(3.0, 12.0, 9.0), gen_tokens=128)
    write_run(tmp_path, SMOLLM, 2048, recipe=recipe)
    row = melt.load(tmp_path).runs.iloc[0]
    assert row["idle_power_w"] == pytest.approx(3.0, rel=0.01)
    assert row["energy_prefill_j"] == pytest.approx(12.0 * row["prefill_s"], rel=0.02)
    assert row["decode_j_per_token"] == pytest.approx(9.0 * row["tpot_s"], rel=0.02)
    assert row["energy_prefill_net_j"] == pytest.approx(9.0 * row["prefill_s"], rel=0.02)
    assert row["energy_sensor"] == "RAPL"
    assert row["flags"] == ""


@pytest.mark.parametrize(("site", "is_all"), [("input", True), ("wall", True), ("cpu_package", False)])
def test_prompts_a_charge_need_a_sensor_of_the_whole_device(tmp_path: Path, site: Site, is_all: bool) -> None:
    recipe = Recipe(power_w=(3.0, 12.0, 9.0), gen_tokens=128, power_site=site)
    facts = recipe.facts.model_copy(update={"battery_capacity_j": 180_000.0})
    write_run(tmp_path, SMOLLM, 2048, recipe=with_(recipe, facts=facts))
    row = melt.load(tmp_path).runs.iloc[0]
    used = row["energy_prefill_j"] + row["energy_decode_j"]
    assert used > 0
    assert row["prompts_per_charge"] == pytest.approx(180_000 / used if is_all else math.nan, rel=0.05, nan_ok=True)


def test_a_phase_too_short_for_its_sensor_has_no_energy_but_a_flag_and_its_pass_has(tmp_path: Path) -> None:
    write_run(tmp_path, MAMBA, 32, recipe=Recipe(power_w=(3.0, 12.0, 9.0), gen_tokens=64))
    results = melt.load(tmp_path)
    row = results.runs.iloc[0]
    assert math.isnan(row["energy_prefill_j"])
    assert "fewer than 3" in row["energy_prefill_reason"]
    assert row["flags"] == "low_energy_coverage"
    assert "fewer than 3" in results.flags.iloc[0]["evidence"]
    truth = 12.0 * row["prefill_s"] + 9.0 * 63 * row["tpot_s"]
    assert row["energy_pass_j"] == pytest.approx(truth, abs=2 * row["energy_pass_method_uncertainty_j"])
    assert row["energy_pass_mwh"] == pytest.approx(row["energy_pass_j"] / 3.6)
    assert math.isnan(row["energy_pass_mah"])


def test_the_idle_power_says_why_it_is_missing(tmp_path: Path) -> None:
    write_run(tmp_path, SMOLLM, 512, recipe=Recipe(power_w=(3.0, 12.0, 9.0), idle_s=0.2))
    row = melt.load(tmp_path).runs.iloc[0]
    assert math.isnan(row["idle_power_w"])
    assert math.isnan(row["energy_prefill_net_j"])
    assert row["energy_prefill_j"] > 0
    assert "fewer than 3" in row["idle_power_reason"]


def test_large_stores_give_the_same_by_helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(tmp_path, models=(MAMBA,), contexts=CONTEXTS[:2], sessions=2, recipe=Recipe(power_w=(3, 12, 9)))
    alone = melt.load(tmp_path).runs
    monkeypatch.setattr("melt.analysis.frames.WORTH_A_PROCESS", 1)
    helped = melt.load(tmp_path).runs
    assert alone.equals(helped)


def test_helpers_give_the_same_answers(tmp_path: Path) -> None:
    for i in range(3):
        write_run(tmp_path, MAMBA, 32 * (i + 1), recipe=Recipe(power_w=(5.0, 20.0, 12.0)))
    recorded = melt.load(tmp_path).recorded
    by_helpers = observe_all(recorded, least=1)
    assert [repr(o) for o in by_helpers] == [repr(observe(r)) for r in recorded]
    assert "fewer than 3" in repr(by_helpers[0])


def test_what_a_helper_cannot_do_is_done_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(2):
        write_run(tmp_path, MAMBA, 128 * (i + 1))
    recorded = melt.load(tmp_path).recorded
    monkeypatch.setattr(parallel, "_SERVE", "raise SystemExit(3)")
    assert [repr(o) for o in observe_all(recorded, least=1)] == [repr(observe(r)) for r in recorded]
