"""Building on the device itself, over a real shell; CMake is a stub but for the conformance suite's own build."""

import fcntl
import subprocess
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from melt.cli import cli
from melt.drivers import connect
from melt.drivers.base import Process, ShellDriver
from melt.errors import RunnerError
from melt.toolchain import on_device
from melt.toolchain.device_tools import look
from melt.toolchain.on_device import build_on_device, built_on_device, source_archive
from melt.toolchain.targets import TARGETS
from tests.doubles.sshd import Sshd, make_key
from tests.drivers.conftest import enrol_all, ssh_profile_of
from tests.support.waiting import wait_until
from tests.toolchain.on_device import CMAKE, FAILING, SLOW, board, log, put, stub

__all__ = ["board"]


def test_the_program_is_built_there_brought_back_and_found_again(board: ShellDriver) -> None:
    steps: list[tuple[int, int]] = []
    assert built_on_device(board.facts(), ["none"]) is None
    binary = build_on_device(board, "none", lambda done, total: steps.append((done, total)))
    assert binary.read_text() == "exit # main 1\n# llama\n"
    assert binary.stat().st_mode & 0o111
    assert steps == [(0, 100), (7, 100), (16, 100)]
    assert built_on_device(board.facts(), ["none"]) == binary
    assert build_on_device(board, "none") == binary
    assert len(steps) == 3
    assert "-S source/native -B build" in log()


def test_changed_sources_are_sent_and_llama_cpp_is_not_compiled_again(board: ShellDriver, tmp_path: Path) -> None:
    first = build_on_device(board, "none")
    (unpacked,) = Path(board.work_folder).glob("on-device-*/source/llama.cpp/src/llama.cpp")
    stamp = unpacked.stat().st_mtime_ns
    for text in ("exit # 2\n", "exit # 1\n", "exit # 3\n"):
        put(tmp_path / "native" / "main.cpp", text)
        put(tmp_path / "native" / "ops.cpp", "# ops\n")
        assert build_on_device(board, "none").read_text() == f"{text}# ops\n# llama\n"
    assert unpacked.stat().st_mtime_ns == stamp
    assert build_on_device(board, "none") != first


def test_a_tool_that_the_build_does_not_use_changes_nothing(
    board: ShellDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_on_device(board, "none")
    stub(tmp_path, monkeypatch, "glslc", "#!/bin/sh\necho shaderc 2026\n")
    assert look(board).versions["glslc"] == "shaderc 2026"
    assert build_on_device(board, "none") == first
    stub(tmp_path, monkeypatch, "c++", "#!/bin/sh\necho c++ 99\n")
    assert build_on_device(board, "none") != first


def test_a_failed_build_shows_its_first_error_and_leaves_nothing(
    board: ShellDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(tmp_path, monkeypatch, "cmake", FAILING)
    with pytest.raises(RunnerError) as failed:
        build_on_device(board, "none")
    assert "engine.cpp:3:1: error: no such thing" in failed.value.message
    assert "engine.cpp" in Path(failed.value.hint.removeprefix("The whole log: ")).read_text()
    assert built_on_device(board.facts(), on_device.GPUS) is None


def test_the_archive_is_the_same_bytes_for_the_same_sources(board: ShellDriver, tmp_path: Path) -> None:
    first = source_archive()
    first.path.unlink()
    for source in (tmp_path / "native").iterdir():
        source.touch()
    assert source_archive().sha256 == first.sha256
    listed = subprocess.run(["tar", "-tzf", str(first.path)], capture_output=True, text=True, check=True).stdout
    assert listed.split() == ["native/main.cpp", "llama.cpp/src/llama.cpp"]


@pytest.mark.parametrize("how", ["killed", "its host has gone"])
def test_a_build_that_was_cut_off_leaves_nothing_that_passes_for_whole(
    board: ShellDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    stub(tmp_path, monkeypatch, "cmake", SLOW)
    started: list[Process] = []
    start = board.shell

    def shell(script: str) -> Process:
        started.append(start(script))
        return started[-1]

    monkeypatch.setattr(board, "shell", shell)
    done: list[object] = []

    def build_it() -> None:
        with pytest.raises(RunnerError) as failed:
            build_on_device(board, "none")
        done.append(failed.value)

    thread = threading.Thread(target=build_it)
    thread.start()
    (half,) = wait_until(lambda: list(Path(board.work_folder).glob("on-device-*/build/melt-runner")))
    assert half.read_text() == "half\n"
    if how == "killed":
        started[-1].kill()
    else:
        started[-1].end_of_input()
    thread.join(30)
    assert len(done) == 1
    assert (half.parents[1] / "building").exists() == (how == "killed")
    assert built_on_device(board.facts(), on_device.GPUS) is None
    stub(tmp_path, monkeypatch, "cmake", CMAKE)
    assert build_on_device(board, "none").read_text() == "exit # main 1\n# llama\n"


def test_two_builds_in_one_folder_are_one_too_many(board: ShellDriver, tmp_path: Path) -> None:
    build_on_device(board, "none")
    (folder,) = Path(board.work_folder).glob("on-device-*/")
    put(tmp_path / "native" / "main.cpp", "exit # main 2\n")
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RunnerError, match="another build is running"):
            build_on_device(board, "none")
    assert build_on_device(board, "none").read_text() == "exit # main 2\n# llama\n"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("tar: source/x: Cannot write: No space left on device", "No space left on device"),
        ("make: *** [Makefile:91: all] Killed", "Killed"),
        ("/usr/bin/ld: cannot find -lcuda", "cannot find -lcuda"),
        ("client_loop: send disconnect", "exit code 255: client_loop: send disconnect"),
        ("", "exit code 255: it said nothing"),
    ],
)
def test_how_a_build_failed_is_told_whatever_failed(
    board: ShellDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, message: str
) -> None:
    text = FAILING.replace('"engine.cpp:3:1: error: no such thing"', f"'{said}'").replace("exit 2", "exit 255")
    stub(tmp_path, monkeypatch, "cmake", text)
    with pytest.raises(RunnerError) as failed:
        build_on_device(board, "none")
    assert message in failed.value.message


def test_the_devices_own_settings_do_not_get_into_a_build(
    board: ShellDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXXFLAGS", "-DBAD")
    monkeypatch.setenv("CMAKE_GENERATOR", "Ninja")
    stub(tmp_path, monkeypatch, "cmake", CMAKE.replace("configured:", "configured $CXXFLAGS $CMAKE_GENERATOR:"))
    build_on_device(board, "none")
    assert "configured  :" in log()


def test_a_board_behind_ssh_builds_its_own(board: ShellDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "home" / ".ssh"
    ssh.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(ssh.parent))
    public = make_key(ssh / "id_ed25519")
    (ssh / "config").write_text(f"IdentityFile {ssh}/id_ed25519\nUserKnownHostsFile {ssh}/known_hosts\n")
    with Sshd(tmp_path / "sshd", None, f"SetEnv HOME={tmp_path} PATH={tmp_path}/stubs:/usr/bin:/bin") as server:
        server.authorised.write_text(public)
        enrol_all(ssh_profile_of(server))
        driver = connect(ssh_profile_of(server))
        assert isinstance(driver, ShellDriver)
        binary = build_on_device(driver, "none")
        assert binary.read_text() == "exit # main 1\n# llama\n"
        assert built_on_device(driver.facts(), ["none"]) == binary
        driver.close()


def test_the_command(board: ShellDriver) -> None:
    made = CliRunner().invoke(cli, ["runner", "build", "on-device", "--device", "local", "--gpu", "none"])
    assert made.exit_code == 0, made.output
    assert Path(made.stdout.splitlines()[-1]).read_text() == "exit # main 1\n# llama\n"
    listed = CliRunner().invoke(cli, ["runner", "list"])
    assert "on-device" in listed.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["on-device"], "--device NAME"),
        ([next(iter(TARGETS)), "--device", "local"], "go with the target on-device"),
        ([next(iter(TARGETS)), "--gpu", "cuda"], "go with the target on-device"),
    ],
)
def test_a_wrong_use_says_what_is_missing(words: list[str], said: str) -> None:
    done = CliRunner().invoke(cli, ["runner", "build", *words])
    assert done.exit_code == 2
    assert said in done.stderr
