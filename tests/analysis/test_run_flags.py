"""Why a run is doubted, with its evidence."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import melt
from melt.store.manifest import Flag
from melt.store.store import TELEMETRY, Run
from tests.analysis.frames import events_of, results, rewrite
from tests.support.store_factory import MAMBA, Recipe, write_run

__all__ = ["results"]


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


def slower_at_the_end(run: Run, clocks: str = "", by: float = 1.5) -> None:
    """The last three of nine passes decode more slowly; their clocks read what is said."""
    events: list[Any] = events_of(run)
    late_ns, since_ns = 0, 0
    for event in events:
        if event["event"] == "iteration" and not event["warmup"] and event["index"] >= 6:
            prefill, stamps = event["prefill"], event["token_t_ns"]
            since_ns = since_ns or prefill["t_start_ns"]
            event["prefill"] = prefill | {t: prefill[t] + late_ns for t in ("t_start_ns", "t_end_ns")}
            event["token_t_ns"] = [late_ns + stamps[0] + int((s - stamps[0]) * by) for s in stamps]
            late_ns += int((stamps[-1] - stamps[0]) * (by - 1))
    rewrite(run, events)
    if clocks:
        samples = [json.loads(line) for line in (run.folder / TELEMETRY).read_text().splitlines()]
        for sample in samples:
            if sample["probe"] == "cpu0:frequency" and sample["t_ns"] >= since_ns:
                sample["raw"] = clocks
        (run.folder / TELEMETRY).write_text("".join(json.dumps(s) + "\n" for s in samples))


def test_a_fall_of_speed_with_that_of_clocks_is_throttling(tmp_path: Path) -> None:
    run = write_run(tmp_path, MAMBA, 512, recipe=Recipe(iterations=9, noise=0.0))
    slower_at_the_end(run, clocks="1600000\n")
    results = melt.load(tmp_path)
    row = results.runs.iloc[0]
    assert row["flags"] == "throttled"
    assert row["tokens_to_throttle"] == 6 * 32
    assert row["time_to_throttle_s"] > 0
    evidence = results.flags.iloc[0]["evidence"]
    assert re.fullmatch(r"decode speed fell to 6\d% after \d+ s; the CPU's clocks fell to \d\d%", evidence)


def test_a_fall_of_speed_at_the_same_clocks_has_no_known_cause(tmp_path: Path) -> None:
    for telemetry in (True, False):
        run = write_run(
            tmp_path / str(telemetry), MAMBA, 512, recipe=Recipe(iterations=9, noise=0.0, telemetry=telemetry)
        )
        slower_at_the_end(run)
        results = melt.load(tmp_path / str(telemetry))
        assert results.runs.iloc[0]["flags"] == "slowdown"
        assert results.runs.iloc[0][["tokens_to_throttle", "time_to_throttle_s"]].isna().all()
        assert "cause unknown" in results.flags.iloc[0]["evidence"]


def test_a_fall_of_a_tenth_is_none(tmp_path: Path) -> None:
    slower_at_the_end(write_run(tmp_path, MAMBA, 512, recipe=Recipe(iterations=9, noise=0.0)), by=1.08)
    assert melt.load(tmp_path).runs.iloc[0]["flags"] == ""
