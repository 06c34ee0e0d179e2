"""A driver of somebody else's: installed as a package of its own, found by its entry point, and measured through."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import melt
from tests.support.packages import TESTS, install, melt_with
from tests.support.waiting import wait_until

PACKAGE = TESTS / "example_driver" / "melt_agent"
FEW = ("--context", "32", "--gen", "8", "--sessions", "1", "--iterations", "1", "--threads", "1", "--no-report")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install("example_driver", tmp_path_factory.mktemp("package"))


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A device with its agent at work, whose python3 is that of the tests; gives the socket."""
    with tempfile.TemporaryDirectory() as short:  # a socket's path may not be long
        path = Path(short) / "desk.sock"
        monkeypatch.setenv("MELT_AGENTS", short)
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        with subprocess.Popen([sys.executable, str(PACKAGE / "agent.py"), str(path)], env=environment) as process:
            wait_until(path.exists)
            yield path
            process.send_signal(signal.SIGTERM)


def write_desk(folder: Path, **address: str) -> str:
    """A profile of the device."""
    profile = {"name": "desk", "driver": "agent", "address": address, "work_folder": str(folder / "work")}
    (folder / "desk.yaml").write_text(yaml.safe_dump(profile, sort_keys=False))
    return str(folder / "desk.yaml")


def test_a_run_on_its_device_is_measured(installed: Path, agent: Path, tmp_path: Path, tiny_model: Path) -> None:
    desk = write_desk(tmp_path, socket=str(agent))
    where = ["--device", desk, "--model", str(tiny_model), "--runner", "python"]
    done = melt_with(installed, "run", *where, *FEW, "--results", str(tmp_path / "results"))
    assert done.returncode == 0, done.stderr
    row = melt.load(tmp_path / "results").runs.iloc[0]
    assert (row["device"], row["status"], row["runner"]) == ("desk", "ok", "python")
    assert row["decode_tok_per_s"] > 0
    assert row["peak_rss_bytes"] > 1e6
    there = [file.name for file in (tmp_path / "work" / "files").glob("*/*")]
    assert tiny_model.name in there  # it travelled
    assert "removed" in melt_with(installed, "devices", "clean", desk).stdout
    assert not list((tmp_path / "work" / "files").glob("*/*"))


def test_its_devices_and_checks_are_listed(installed: Path, agent: Path) -> None:
    assert f"attached: agent {agent}" in melt_with(installed, "devices").stdout
    assert f"agents: 1 in {agent.parent}" in melt_with(installed, "doctor").stdout


def test_a_wrong_key_of_its_address_is_refused_with_file_line_and_the_nearest(installed: Path, tmp_path: Path) -> None:
    done = melt_with(installed, "devices", "show", write_desk(tmp_path, sockte="x"))
    assert done.returncode == 2
    assert "desk.yaml:4: unknown key 'address.sockte' (did you mean 'socket'?)" in done.stderr.replace("\n", " ")


def test_a_device_that_is_not_there_is_told(installed: Path, tmp_path: Path, tiny_model: Path) -> None:
    desk = write_desk(tmp_path, socket=str(tmp_path / "no.sock"))
    done = melt_with(installed, "run", "--device", desk, "--model", str(tiny_model), "--results", str(tmp_path / "r"))
    assert done.returncode == 3
    assert "no agent answers" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_package_nobody_knows_it(tmp_path: Path) -> None:
    done = melt_with(tmp_path, "devices", "show", write_desk(tmp_path, socket="x"))
    assert "no driver 'agent' in this melt" in done.stdout.replace("\n", " ")


def test_the_driver_is_as_short_as_the_docs_say() -> None:
    lines = {file.name: len(file.read_text().splitlines()) for file in PACKAGE.glob("*.py")}
    assert lines["plugin.py"] <= 50
    assert lines["remote.py"] <= 130
