"""Runs that fail, hang or cannot fit, with the real runner: what is told, and that the plan goes on."""

import os
import signal
from pathlib import Path

import pytest

import melt
from melt.errors import StoreError, TransientDeviceError
from melt.execution.plan import run
from melt.models.formats import inspect
from melt.spec.events import Event, Hello, ModelLoaded, UnknownLine
from melt.store.store import EVENTS, TELEMETRY, Partial, Store
from tests.execution.recorder import Recorder, only
from tests.support.plans import a_plan


def test_what_a_runner_said_is_kept_where_its_device_goes_away_at_the_end(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise TransientDeviceError("gone")

    monkeypatch.setattr("melt.execution.unit.explain_end", gone)
    manifest = only(run(a_plan("local", tiny_model, retries=0), tmp_path / "r")).manifest
    assert manifest.error is not None
    assert (manifest.status, manifest.error.kind, manifest.error.message) == ("failed", "transient", "gone")
    assert manifest.passport["engine"] == "llama.cpp"


@pytest.mark.parametrize(("signal_number", "kind"), [(signal.SIGKILL, "killed"), (signal.SIGABRT, "SIGABRT")])
def test_a_runner_that_dies_is_a_failed_run_and_the_plan_goes_on(
    tiny_model: Path, tmp_path: Path, signal_number: signal.Signals, kind: str
) -> None:
    killed: list[int] = []

    def kill_the_first(event: Event | UnknownLine) -> None:
        if isinstance(event, Hello) and event.pid and not killed:
            killed.append(event.pid)
            os.kill(event.pid, signal_number)

    outcome = run(a_plan("local", tiny_model, context=(32, 64), gen=(200,)), tmp_path / "r", Recorder(kill_the_first))
    failed, fine = outcome.made
    assert failed.manifest.status == "failed"
    assert failed.manifest.error is not None
    assert failed.manifest.error.kind == kind
    assert fine.manifest.status == "ok"
    assert outcome.failed == (failed,)
    assert (failed.folder / TELEMETRY).exists(), "the trace of a run that died is kept"
    frame = melt.load(tmp_path / "r").runs.set_index("status")
    assert frame.loc["failed", "error_kind"] == kind
    assert frame.loc["failed", ["ttft_s", "decode_tok_per_s"]].isna().all()


def test_a_crash_is_tried_again_without_extra_buffers_and_flagged(tiny_model: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def crash_once(event: Event | UnknownLine) -> None:
        if isinstance(event, Hello) and event.pid and not killed:
            killed.append(event.pid)
            os.kill(event.pid, signal.SIGSEGV)

    outcome = run(a_plan("local", tiny_model, context=(32, 64), gen=(200,)), tmp_path / "r", Recorder(crash_once))
    crashed, retried, next_cell = (r.manifest for r in outcome.made)
    assert crashed.error is not None
    assert crashed.error.kind == "SIGSEGV"
    assert (retried.status, retried.attempt, retried.job["extra_buffers"]) == ("ok", 1, False)
    assert [f.name for f in retried.flags] == ["extra_buffers_off"]
    assert next_cell.job["extra_buffers"] is False, "what was learned of the device holds for the next cell"
    assert outcome.complete


def test_a_runner_that_hangs_is_ended(tiny_model: Path, tmp_path: Path) -> None:
    pids: list[int] = []

    def stop(event: Event | UnknownLine) -> None:
        if isinstance(event, ModelLoaded):
            os.kill(pids[0], signal.SIGSTOP)
        if isinstance(event, Hello) and event.pid:
            pids.append(event.pid)

    timeouts = {"load_s": 60, "iteration_s": 0.5}
    # No machine has done all before it is stopped.
    slow = a_plan("local", tiny_model, timeouts=timeouts, iterations=100)
    manifest = only(run(slow, tmp_path / "r", Recorder(stop))).manifest
    assert manifest.error is not None
    assert manifest.error.kind == "timeout"
    assert not Path(f"/proc/{pids[0]}").exists()


def test_what_cannot_fit_is_skipped_with_the_reason(tiny_model: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    for _ in range(2):
        outcome = run(a_plan("local", tiny_model, memory_fraction=1e-9, sessions=3), tmp_path / "r", recorder)
        assert not outcome.made
        assert not outcome.complete
        assert "MiB" in next(iter(outcome.skipped.values()))
        assert "skipped" in recorder.said[-1]
    [stored] = Store(tmp_path / "r").runs()[0]
    assert stored.manifest.error is not None
    assert stored.manifest.error.kind == "predicted_out_of_memory"
    assert melt.load(tmp_path / "r").runs["status"].tolist() == ["skipped"], (
        "once a cell, however often it is asked for"
    )


def test_what_does_not_fit_by_prediction_can_be_run_all_the_same(tiny_model: Path, tmp_path: Path) -> None:
    outcome = run(a_plan("local", tiny_model, memory_fraction=1e-9, memory_check=False), tmp_path / "r")
    assert outcome.complete
    assert not outcome.skipped


def test_a_context_beyond_training_is_flagged(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    trained = inspect(tiny_models["transformer"]).context_trained
    recorder = Recorder()
    beyond = a_plan("local", tiny_models["transformer"], context=(trained + 1,), iterations=1)
    outcome = run(beyond, tmp_path / "r", recorder)
    assert str(trained) in recorder.said[0]
    assert [f.name for f in only(outcome).manifest.flags] == ["context_beyond_training"]


def test_an_accelerator_that_is_not_there_fails_the_run_and_says_what_is(tiny_model: Path, tmp_path: Path) -> None:
    manifest = only(run(a_plan("local", tiny_model, accelerators=("npu",)), tmp_path / "r")).manifest
    assert manifest.error is not None
    assert manifest.error.kind == "accelerator"
    assert "CPU" in manifest.error.message


def test_a_full_disk_ends_the_plan_with_one_message(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Store.begin

    def begin_on_full_disk(self: Store, run_id: str) -> Partial:
        partial = begin(self, run_id)
        (partial.folder / EVENTS).symlink_to("/dev/full")
        return partial

    monkeypatch.setattr(Store, "begin", begin_on_full_disk)
    with pytest.raises(StoreError, match="No space left"):
        run(a_plan("local", tiny_model), tmp_path / "r")
    assert not list((tmp_path / "r").iterdir())
