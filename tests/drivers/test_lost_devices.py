"""A device that cannot be had, or is lost for good, costs the others nothing."""

import subprocess
import time
from pathlib import Path

import pytest

import melt
from melt.errors import DeviceError
from melt.execution.plan import run
from melt.store.store import Run
from tests.doubles.sshd import Sshd
from tests.drivers.conftest import board, board_profile, home
from tests.execution.recorder import Recorder
from tests.support.cli import melt_cli
from tests.support.plans import a_plan
from tests.support.profiles import write_profile

__all__ = ["board", "home"]


class Cutting(Recorder):
    """Cuts a board for good after the first run on it."""

    def __init__(self, board: Sshd) -> None:
        super().__init__()
        self._board = board

    def end(self, run: Run) -> None:
        super().end(run)
        if run.manifest.cell.device == "board":
            self._board.stop()


def test_what_is_not_there_is_left_out_and_the_rest_measured(tmp_path: Path, tiny_model: Path) -> None:
    away = write_profile(tmp_path / "away.yaml", "ssh", address={"host": "127.0.0.1", "port": 1})
    few = ("--context", "32", "--gen", "4", "--sessions", "1", "--iterations", "1", "--threads", "1")
    words = ("run", "--device", away, "--device", "local", "--model", tiny_model, *few, "--no-report")
    done = melt_cli(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert "left out: away: " in done.stderr
    assert "not tried 1 cell of away: " in done.stdout
    assert set(melt.load(tmp_path / "results").runs["device"]) == {"local"}
    alone = melt_cli("run", "--device", away, "--model", tiny_model, *few, "--no-report", cwd=tmp_path)
    assert alone.returncode == 3


def test_a_board_lost_for_good_is_waited_for_once(
    board: Sshd, tmp_path: Path, tiny_model: Path, kept_builds: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("melt.drivers.remote.driver.RETURN_S", 3.0)
    plan = a_plan(board_profile(tmp_path, board), tiny_model, runners=("native",), context=(32, 48, 64), sessions=2)
    watcher, began = Cutting(board), time.monotonic()
    outcome = run(plan.model_copy(update={"devices": (*plan.devices, "local")}), tmp_path / "r", watcher)
    took_s = time.monotonic() - began
    of_board = [r.manifest.status for r in outcome.made if r.manifest.cell.device == "board"]
    assert of_board == ["ok", "failed"]
    assert sum(r.manifest.cell.device == "local" for r in outcome.made) == 6
    assert {c.device for c in outcome.not_tried} == {"board"}
    assert [said for said in watcher.said if "board is gone" in said]
    assert took_s < 90
    assert not outcome.complete


def test_an_accelerator_that_is_not_there_is_asked_for_once(tmp_path: Path, tiny_model: Path) -> None:
    words = ("--accelerator", "gpu", "--context", "32,48", "--gen", "4", "--sessions", "3", "--no-report")
    done = melt_cli("run", "--device", "local", "--model", tiny_model, *words, cwd=tmp_path)
    assert done.returncode == DeviceError.exit_code
    assert done.stdout.count("no gpu device") == 2  # of the run that was made, and of the cells that were not tried
    assert len(melt.load(tmp_path / "results").runs) == 1


def test_a_report_that_cannot_be_written_is_told_before_anything_is_measured(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "out").write_text("mine")
    words = ("run", "--device", "local", "--model", tiny_model, "--out", tmp_path / "out")
    done: subprocess.CompletedProcess[str] = melt_cli(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert "out: exists and is not a folder" in done.stderr
    assert not (tmp_path / "results").exists()
