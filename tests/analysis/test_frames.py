"""Frames: the columns are the documented ones, and every number is what its definition says."""

import json
import math
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import melt
from melt.analysis import parallel
from melt.analysis.columns import COLUMNS, FRAMES, names, page_table
from melt.analysis.metrics import METRICS, SPEEDS
from melt.analysis.observation import observe
from melt.analysis.parallel import observe_all
from melt.errors import StoreError
from melt.store.manifest import MANIFEST, Flag, RunFailure
from melt.store.store import EVENTS, TELEMETRY, Run
from tests.support.store_factory import CONTEXTS, MAMBA, SMOLLM, Recipe, with_, write_run, write_store

DOCS = Path(__file__).parents[2] / "docs" / "results.md"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> melt.Results:
    folder = tmp_path_factory.mktemp("store")
    write_store(folder, models=(SMOLLM, MAMBA), contexts=(128, 1024), recipe=Recipe(ops=True))
    return melt.load(folder)


def events_of(run: Run) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run.folder / EVENTS).read_text().splitlines()]


def rewrite(run: Run, events: list[dict[str, object]]) -> None:
    (run.folder / EVENTS).write_text("".join(json.dumps(e) + "\n" for e in events))


@pytest.mark.parametrize("frame", FRAMES)
def test_columns_are_the_documented_ones(results: melt.Results, frame: str) -> None:
    assert list(getattr(results, frame).columns) == names(frame)


def test_docs_table_equals_the_code() -> None:
    sections = re.split(r"^## (\w+)$", DOCS.read_text(encoding="utf-8"), flags=re.M)
    documented = {
        name: "\n".join(re.findall(r"^\|.*\|$", body, flags=re.M))
        for name, body in zip(sections[1::2], sections[2::2], strict=True)
    }
    assert documented == {f: page_table(f) for f in FRAMES}, "write the tables anew with melt.analysis.columns"


def test_column_names_end_in_their_unit() -> None:
    endings = {"s": "_s", "bytes": "_bytes", "J": "_j", "W": "_w", "J/token": "_j_per_token", "°C": "_c"}
    endings["tokens/s"] = "_tok_per_s"
    for columns in COLUMNS.values():
        for column in columns:
            if column.unit in endings:
                assert column.name.endswith(endings[column.unit]), column.name


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
    itl = [np.diff(p.token_t_ns) / 1e9 for p in timed]
    for share, name in ((50, "itl_p50_s"), (90, "itl_p90_s"), (99, "itl_p99_s"), (100, "itl_max_s")):
        assert row[name] == pytest.approx(np.median([np.percentile(i, share) for i in itl]), rel=1e-9)


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
    assert row["energy_prefill_reason"] == "no power sensor"


def test_cells_are_medians_over_sessions(results: melt.Results) -> None:
    cell = results.cells.iloc[0]
    of_cell = results.runs[(results.runs["cell_id"] == cell["cell_id"])]
    assert cell["n_sessions"] == len(of_cell) == 3
    for metric in METRICS.keys() - {m.name for m in SPEEDS}:
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


def test_a_battery_gives_prompts_per_charge(tmp_path: Path) -> None:
    recipe = Recipe(power_w=(3.0, 12.0, 9.0), gen_tokens=128)
    facts = recipe.facts.model_copy(update={"battery_capacity_j": 180_000.0})
    write_run(tmp_path, SMOLLM, 2048, recipe=with_(recipe, facts=facts))
    row = melt.load(tmp_path).runs.iloc[0]
    used = row["energy_prefill_j"] + row["energy_decode_j"]
    assert row["prompts_per_charge"] == pytest.approx(180_000 / used, rel=0.05)


def test_too_few_power_samples_give_no_energy_but_a_flag(tmp_path: Path) -> None:
    write_run(tmp_path, MAMBA, 128, recipe=Recipe(power_w=(3.0, 12.0, 9.0)))
    results = melt.load(tmp_path)
    row = results.runs.iloc[0]
    assert math.isnan(row["energy_prefill_j"])
    assert "fewer than 10" in row["energy_prefill_reason"]
    assert row["flags"] == "low_energy_coverage"
    assert "fewer than 10" in results.flags.iloc[0]["evidence"]


def test_flags_of_the_session_are_kept(tmp_path: Path) -> None:
    flag = Flag(name="charging", evidence="the charger was in")
    write_run(tmp_path, MAMBA, 128, recipe=Recipe(flags=(flag,)))
    results = melt.load(tmp_path)
    assert results.flags.to_dict("records") == [
        {"run_id": results.runs.iloc[0]["run_id"], "flag": "charging", "evidence": "the charger was in"}
    ]


def test_another_accelerator_than_asked_for_is_flagged(tmp_path: Path) -> None:
    run = write_run(tmp_path, MAMBA, 128)
    events = events_of(run)
    events[1]["effective_accelerator"] = "gpu"
    rewrite(run, events)
    flags = melt.load(tmp_path).flags.set_index("flag")
    assert str(flags.loc["accelerator_fallback", "evidence"]).startswith("asked for cpu, ran on gpu: weights ")


def test_a_memory_gap_is_flagged(tmp_path: Path) -> None:
    run = write_run(tmp_path, MAMBA, 128)
    events = events_of(run)
    for event in events:
        if event["event"] == "iteration":
            event["memory"] = {"rss_bytes": 2**30, "peak_rss_bytes": 2**30}
    rewrite(run, events)
    results = melt.load(tmp_path)
    assert results.runs.iloc[0]["flags"] == "memory_gap"
    assert "measured 1024 MiB" in results.flags.iloc[0]["evidence"]


def test_the_vocabulary_and_the_repacked_copy_are_no_gap(tmp_path: Path) -> None:
    recipe = Recipe(tables_bytes=60 * 2**20, repacked_bytes=57 * 2**20)
    write_run(tmp_path, MAMBA, 128, recipe=recipe)
    row = melt.load(tmp_path).runs.iloc[0]
    assert row["flags"] == ""
    assert (row["tables_bytes"], row["repacked_bytes"]) == (recipe.tables_bytes, recipe.repacked_bytes)
    assert row["explained_memory_bytes"] == row["predicted_memory_bytes"] + row["repacked_bytes"]
    assert row["unexplained_memory_bytes"] == pytest.approx(2**20, abs=1)


def test_load_of_others_during_the_timed_iterations_is_flagged(tmp_path: Path) -> None:
    write_run(tmp_path / "quiet", MAMBA, 128, recipe=Recipe(others_cores=0.05))
    write_run(tmp_path / "busy", MAMBA, 128, recipe=Recipe(others_cores=0.5))
    assert melt.load(tmp_path / "quiet").flags.empty
    flag = melt.load(tmp_path / "busy").flags.iloc[0]
    assert flag["flag"] == "background_load"
    assert re.search(r"other processes used 0\.[45]\d processor cores .* between \d+ and \d+ s after", flag["evidence"])


def test_a_sustained_fall_of_speed_is_throttling(tmp_path: Path) -> None:
    run = write_run(tmp_path, MAMBA, 128, recipe=Recipe(iterations=9, noise=0.0, telemetry=False))
    events: list[Any] = events_of(run)
    late_ns = 0
    for event in events:
        if event["event"] == "iteration" and not event["warmup"] and event["index"] >= 6:
            prefill, stamps = event["prefill"], event["token_t_ns"]
            event["prefill"] = prefill | {t: prefill[t] + late_ns for t in ("t_start_ns", "t_end_ns")}
            event["token_t_ns"] = [late_ns + stamps[0] + int((s - stamps[0]) * 1.5) for s in stamps]
            late_ns += (stamps[-1] - stamps[0]) // 2
    rewrite(run, events)
    row = melt.load(tmp_path).runs.iloc[0]
    assert row["flags"] == "throttled"
    assert row["tokens_to_throttle"] == 6 * 32
    assert row["time_to_throttle_s"] > 0


class TestDamage:
    def test_hostile_and_truncated_lines_do_not_matter(self, tmp_path: Path) -> None:
        clean = write_run(tmp_path / "a", MAMBA, 128)
        text = (clean.folder / EVENTS).read_text()
        write_run(tmp_path / "b", MAMBA, 128)
        other = tmp_path / "b" / clean.manifest.run_id / EVENTS
        other.write_bytes(
            b'\xff\xfe{"event":"iteration"\n[[[[\n{"event":"nonsense"}\n' + text.encode() + b'{"event":"do'
        )
        one, two = (melt.load(tmp_path / x).runs.iloc[0] for x in "ab")
        assert one["ttft_s"] == two["ttft_s"]
        assert two["n_unknown_lines"] == 4
        assert two["flags"] == "unknown_lines"

    @pytest.mark.parametrize(
        ("keep", "kind"),
        [(slice(0, -1), "incomplete_events"), (slice(0, 0), "incomplete_events"), (slice(2, 3), "incomplete_events")],
    )
    def test_ok_without_its_events_is_a_failed_run(self, tmp_path: Path, keep: slice, kind: str) -> None:
        run = write_run(tmp_path, MAMBA, 128)
        rewrite(run, events_of(run)[keep])
        results = melt.load(tmp_path)
        row = results.runs.iloc[0]
        assert (row["status"], row["error_kind"]) == ("failed", kind)
        assert math.isnan(row["ttft_s"])
        assert results.cells.iloc[0]["n_sessions"] == 0
        assert results.tokens.empty

    def test_an_iteration_missing_from_ok_is_a_failed_run(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, MAMBA, 128)
        events = events_of(run)
        rewrite(run, events[:3] + events[4:])
        assert "2 of 3 timed iterations" in melt.load(tmp_path).runs.iloc[0]["error_message"]

    @pytest.mark.parametrize(
        "change",
        [
            {"token_t_ns": [10**13 + 5, 10**13]},
            {"token_t_ns": [1, 2, 3]},
            {"token_t_ns": [10**15]},
            {"token_t_ns": [10**15] * 32},
            {"token_t_ns": [10**15 + i for i in range(31)]},
            {"token_t_ns": [10**15 + i for i in range(33)]},
            {"token_t_ns": [10**15 + i for i in range(31)] + [2**62]},
            {"prefill": {"tokens": 128, "t_start_ns": 0, "t_end_ns": 1}},
            {"prefill": {"tokens": 128, "t_start_ns": 50, "t_end_ns": 50}},
        ],
    )
    def test_impossible_times_are_a_failed_run(self, tmp_path: Path, change: dict[str, object]) -> None:
        run = write_run(tmp_path, MAMBA, 128)
        events = events_of(run)
        events[4] |= change
        rewrite(run, events)
        assert melt.load(tmp_path).runs.iloc[0]["error_kind"] == "invalid_events"

    def test_a_damaged_run_is_listed(self, tmp_path: Path) -> None:
        write_run(tmp_path, MAMBA, 128)
        broken = write_run(tmp_path, MAMBA, 1024)
        (broken.folder / MANIFEST).write_text("{")
        results = melt.load(tmp_path)
        assert len(results.runs) == 1
        assert [d.folder.name for d in results.damaged] == [broken.folder.name]

    def test_telemetry_may_be_gone_or_rubbish(self, tmp_path: Path) -> None:
        gone, rubbish = write_run(tmp_path, MAMBA, 128), write_run(tmp_path, MAMBA, 1024)
        (gone.folder / TELEMETRY).unlink()
        (rubbish.folder / TELEMETRY).write_bytes(os.urandom(5000))
        results = melt.load(tmp_path)
        assert results.runs["status"].tolist() == ["ok", "ok"]
        assert results.runs["max_temp_c"].isna().all()
        assert len(results.samples) == 0

    def test_a_failed_run_has_its_reason_and_no_numbers(self, tmp_path: Path) -> None:
        failure = RunFailure(kind="killed", message="out of memory")
        write_run(tmp_path, SMOLLM, 128, recipe=Recipe(status="failed", error=failure))
        row = melt.load(tmp_path).runs.iloc[0]
        assert (row["error_kind"], row["error_message"]) == ("killed", "out of memory")
        assert row[list(METRICS)].isna().all()

    def test_an_empty_store_says_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="holds no run") as caught:
            melt.load(tmp_path)
        assert "melt run" in caught.value.hint

    def test_a_missing_store_says_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="no such results folder"):
            melt.load(tmp_path / "nowhere")


def test_other_passports_are_never_pooled(tmp_path: Path) -> None:
    for session in range(2):
        write_run(tmp_path / "a", MAMBA, 128, session)
        write_run(tmp_path / "b", MAMBA, 128, session + 5, Recipe(passport={"governor": "powersave"}))
    cells = melt.load(tmp_path / "a", tmp_path / "b").cells
    assert cells["n_sessions"].tolist() == [2, 2]
    assert cells["conditions_id"].nunique() == 2


def test_a_run_found_twice_is_read_once(tmp_path: Path) -> None:
    write_run(tmp_path, MAMBA, 128)
    assert len(melt.load(tmp_path, tmp_path).runs) == 1


def test_failures_count_with_their_cell(tmp_path: Path) -> None:
    write_run(tmp_path, MAMBA, 128, 0)
    write_run(tmp_path, MAMBA, 128, 1, Recipe(status="failed"))
    write_run(tmp_path, MAMBA, 128, 2, Recipe(status="skipped", passport={"kernel": "unknown"}))
    cells = melt.load(tmp_path).cells
    assert cells[["n_sessions", "n_failed", "n_skipped"]].to_numpy().tolist() == [[1, 1, 1]]


def test_large_stores_give_the_same_by_helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(tmp_path, models=(MAMBA,), contexts=CONTEXTS[:2], sessions=2, recipe=Recipe(power_w=(3, 12, 9)))
    alone = melt.load(tmp_path).runs
    monkeypatch.setattr("melt.analysis.frames.WORTH_A_PROCESS", 1)
    helped = melt.load(tmp_path).runs
    assert alone.equals(helped)


def test_helpers_give_the_same_answers(tmp_path: Path) -> None:
    for i in range(3):
        write_run(tmp_path, MAMBA, 128 * (i + 1), recipe=Recipe(power_w=(5.0, 20.0, 12.0)))
    recorded = melt.load(tmp_path).recorded
    by_helpers = observe_all(recorded, least=1)
    assert [repr(o) for o in by_helpers] == [repr(observe(r)) for r in recorded]
    assert "fewer than 10" in repr(by_helpers[0])


def test_what_a_helper_cannot_do_is_done_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(2):
        write_run(tmp_path, MAMBA, 128 * (i + 1))
    recorded = melt.load(tmp_path).recorded
    monkeypatch.setattr(parallel, "_SERVE", "raise SystemExit(3)")
    assert [repr(o) for o in observe_all(recorded, least=1)] == [repr(observe(r)) for r in recorded]
