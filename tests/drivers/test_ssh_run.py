"""Whole runs on hosts behind real OpenSSH servers."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import melt
from melt.execution.plan import run
from tests.doubles.sshd import Sshd
from tests.drivers.conftest import board_profile, enrol_all, ssh_profile_of
from tests.support.cli import MELT, melt_cli, melt_here
from tests.support.plans import a_plan, last, timed
from tests.support.processes import Process, running
from tests.support.split_models import split
from tests.support.waiting import wait_until


@pytest.fixture
def profile(board: Sshd, tmp_path: Path) -> Iterator[str]:
    """A host that is known; gives its profile's file."""
    yield board_profile(tmp_path, board)
    assert not runners(board)


def runners(board: Sshd) -> list[Process]:
    """Processes whose program lies in the board's work folder."""
    return running(lambda p: p.program is not None and p.program.is_relative_to(board.folder / "work"))


def test_a_run_on_a_board_is_a_run(profile: str, tmp_path: Path, tiny_model: Path, kept_builds: None) -> None:
    outcome = run(a_plan(profile, tiny_model, runners=("native",)), tmp_path / "results")
    made = last(outcome)
    assert made.manifest.status == "ok", made.manifest.error
    assert made.manifest.device.platform == "linux"
    row = melt.load(tmp_path / "results").runs.iloc[0]
    assert row["decode_tok_per_s"] > 0
    assert row["peak_rss_bytes"] > 1e6
    again = run(a_plan(profile, tiny_model, runners=("native",), sessions=2), tmp_path / "results")
    assert (len(again.made), again.already_there) == (1, 1)


def test_a_model_in_several_files_travels_once_and_runs(
    board: Sshd, profile: str, tmp_path: Path, tiny_model: Path, kept_builds: None
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    parts = split(tiny_model, model)
    first = run(a_plan(profile, tiny_model, parts[0], runners=("native",)), tmp_path / "first")
    assert first.complete, [r.manifest.error for r in first.made]
    whole, of_parts = ([e.tokens for e in timed(made)] for made in first.made)
    assert of_parts == whole
    there = {p.name: p for p in (board.folder / "work" / "files").glob("*/split-*")}
    assert {name: p.read_bytes() for name, p in there.items()} == {p.name: p.read_bytes() for p in parts}
    assert {p.parent.name for p in there.values()} == {last(first).manifest.passport["model_sha256"]}
    sent = {name: p.stat().st_ino for name, p in there.items()}
    assert run(a_plan(profile, parts[0], runners=("native",)), tmp_path / "second").complete
    assert {p.name: p.stat().st_ino for p in (board.folder / "work" / "files").glob("*/split-*")} == sent


def test_the_command_line_enrols_and_measures(
    board: Sshd, home: Path, tmp_path: Path, tiny_model: Path, kept_builds: None
) -> None:
    path = tmp_path / "nano.yaml"
    address = {"host": "127.0.0.1", "port": board.port}
    work = str(board.folder / "work")
    path.write_text(yaml.safe_dump({"name": "nano", "driver": "ssh", "address": address, "work_folder": work}))
    refused = melt_here("doctor", "--device", str(path))
    assert refused.returncode == 1
    assert "melt devices enrol nano" in refused.stdout
    alone = melt_cli("devices", "enrol", str(path))
    assert board.fingerprint in alone.stdout
    assert "If you know the fingerprint: --yes" in alone.stderr
    enrolled = melt_cli("devices", "enrol", str(path), "--yes")
    assert board.fingerprint in enrolled.stdout
    assert f"kept in {home}/.ssh/known_hosts" in enrolled.stdout
    assert "known already" in melt_here("devices", "enrol", str(path)).stdout
    words = ["run", "--device", str(path), "--model", str(tiny_model), "--context", "64", "--gen", "16"]
    words += ["--sessions", "1", "--threads", "1", "--runner", "native", "--set", "idle_s=0.5"]
    done = melt_cli(*words, "--results", str(tmp_path / "results"), "--out", str(tmp_path / "report"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report" / "index.html").exists()
    assert "removed" in melt_cli("devices", "clean", str(path)).stdout


def test_a_board_with_llama_cpp_python_is_measured_by_it(
    tmp_path: Path, home: Path, tiny_model: Path, kept_builds: None
) -> None:
    own = Path(sys.executable).parent
    with Sshd(tmp_path / "board", None, f"SetEnv HOME={tmp_path} PATH={own}:/usr/bin:/bin") as board:
        board.authorised.write_text((home / ".ssh" / "id_ed25519.pub").read_text())
        enrol_all(ssh_profile_of(board))
        path = tmp_path / "board.yaml"
        path.write_text(ssh_profile_of(board).model_dump_json(exclude_defaults=True))
        outcome = run(a_plan(str(path), tiny_model, runners=("python",)), tmp_path / "results")
        assert outcome.complete, [r.manifest.error for r in outcome.made]
    row = melt.load(tmp_path / "results").runs.iloc[0]
    assert row["runner"] == "python"
    assert row["peak_rss_bytes"] > 1e6


def test_a_runner_ends_when_its_host_dies(
    board: Sshd, profile: str, tmp_path: Path, tiny_model: Path, kept_builds: None
) -> None:
    words = ["run", "--device", profile, "--model", str(tiny_model), "--context", "64", "--gen", "100000"]
    words += ["--runner", "native", "--iterations", "1000", "--no-memory-check", "--results", str(tmp_path / "r")]
    with subprocess.Popen([*MELT, *words], start_new_session=True, stderr=subprocess.DEVNULL) as host:
        try:
            wait_until(lambda: len(runners(board)) == 2)  # the runner and the sampler
        finally:
            os.killpg(host.pid, signal.SIGKILL)
    wait_until(lambda: not runners(board))
