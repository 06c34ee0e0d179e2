"""Damaged and odd results folders: what can be read is, and the rest is told."""

import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import melt
from melt.analysis.metrics import METRICS
from melt.errors import StoreError
from melt.store.manifest import MANIFEST, RunFailure
from melt.store.store import EVENTS, TELEMETRY, Store
from tests.analysis.frames import events_of, results, rewrite
from tests.support.store_factory import MAMBA, SMOLLM, Recipe, write_run

__all__ = ["results"]


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


def test_events_of_another_model_are_no_measurement_of_this_one(tmp_path: Path) -> None:
    mine, other = (write_run(tmp_path, model, 128, recipe=Recipe(telemetry=False)) for model in (SMOLLM, MAMBA))
    (mine.folder / EVENTS).write_bytes((other.folder / EVENTS).read_bytes())
    results = melt.load(tmp_path)
    told = results.runs.set_index("run_id").loc[mine.manifest.run_id]
    assert (told["status"], told["error_kind"]) == ("failed", "another_model")
    assert "mamba architecture, and the run's is of llama" in told["error_message"]
    assert list(results.cells.query("n_sessions > 0")["model_name"]) == [MAMBA.name]


def test_one_run_stands_for_a_session_whoever_measured_it_too(tmp_path: Path) -> None:
    for session in range(3):
        write_run(tmp_path, MAMBA, 128, session, Recipe(telemetry=False))
    first = next(r for r in Store(tmp_path).runs()[0] if r.manifest.session == 0)
    when = {"started_at": "2030-01-01T00:00:00+00:00", "ended_at": "2030-01-01T00:00:20+00:00"}
    later = first.manifest.model_copy(update={"run_id": "again", **when})
    again = Store(tmp_path).begin("again")
    (again.folder / EVENTS).write_bytes((first.folder / EVENTS).read_bytes())
    Store(tmp_path).publish(again, later)
    results = melt.load(tmp_path)
    assert results.runs.set_index("run_id")["counted"]["again"] == np.False_
    [cell] = results.cells.to_dict("records")
    assert (cell["n_sessions"], cell["n_clean"]) == (3, 3)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(first.folder, elsewhere / "copy")
    (elsewhere / "copy" / MANIFEST).write_text(later.model_dump_json())
    shutil.rmtree(tmp_path / "again")
    [cell] = melt.load(tmp_path, elsewhere).cells.to_dict("records")
    assert cell["n_clean"] == 4  # another results folder has sessions of its own
