"""This machine as a device: its programs, all that they start, and its files."""

import hashlib
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from melt.drivers import connect
from melt.drivers.base import DeviceFile, ExitStatus
from melt.drivers.local.remote import LocalRemote
from melt.drivers.profiles import load_profile
from melt.drivers.remote.base import ConnectionLostError
from melt.drivers.remote.process import RemoteProcess, run_command
from melt.errors import DeviceError, ProfileError
from melt.spec.profile import DeviceProfile, Sensors
from tests.support.waiting import wait_until


@pytest.fixture
def remote() -> LocalRemote:
    return LocalRemote("here")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 3", ExitStatus(3)),
        ("kill -SEGV $$", ExitStatus(None, "SIGSEGV")),
        ("exec sh -c 'kill -9 $$'", ExitStatus(None, "SIGKILL")),
        ("exec no-such-program", ExitStatus(127)),
    ],
)
def test_how_a_program_ends_is_told(script: str, status: ExitStatus, remote: LocalRemote) -> None:
    process = RemoteProcess(remote, script)
    assert process.wait(10) == status
    process.kill()


def test_a_program_that_a_shell_becomes_has_the_process_id_that_is_told(remote: LocalRemote) -> None:
    process = RemoteProcess(remote, "exec sh -c 'echo $$'")
    assert process.next_line(10) == str(process.pid)
    process.kill()


def test_killing_a_program_ends_all_it_started(remote: LocalRemote) -> None:
    process = RemoteProcess(remote, "sleep 1000 & echo $!; wait")
    child = int(process.next_line(10) or "")
    assert is_running(child)
    process.kill()
    process.kill()
    assert not is_running(child)
    assert not is_running(process.pid or 0)


def test_what_a_program_leaves_running_ends_with_it(remote: LocalRemote) -> None:
    process = RemoteProcess(remote, "sleep 1000 >/dev/null 2>&1 & echo $!")
    child = int(process.next_line(10) or "")
    assert process.wait(10) == ExitStatus(0)
    wait_until(lambda: not is_running(child))
    process.kill()


def test_a_read_that_waits_ends_when_the_program_is_let_go(remote: LocalRemote) -> None:
    stream = remote.open_shell("sleep 1000")
    closing_it = threading.Timer(0.2, stream.close)
    closing_it.start()
    began = time.monotonic()
    with pytest.raises(ConnectionLostError, match="was let go"):
        stream.read(100)
    assert time.monotonic() - began < 50
    closing_it.join()


def test_a_command_that_takes_too_long_is_ended(remote: LocalRemote, tmp_path: Path) -> None:
    with pytest.raises(ConnectionLostError, match="no answer within 1 s"):
        run_command(remote, f"echo $$ > {tmp_path}/pid; sleep 1000", 1.0)
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_much_output_comes_whole_and_apart(remote: LocalRemote) -> None:
    done = run_command(remote, "seq 1 200000; seq 1 50000 >&2; exit 4")
    assert done.code == 4
    assert done.text.split() == [str(n) for n in range(1, 200001)]
    assert done.stderr.split() == [str(n) for n in range(1, 50001)]


def test_files_are_used_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.gguf").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    file = DeviceFile("model.gguf", Path("model.gguf"), hashlib.sha256(b"weights").hexdigest(), 7)
    with closing(connect(load_profile("local"))) as driver:
        placed = driver.push(file)
        assert (placed.device_path, placed.pushed) == (str(tmp_path / "model.gguf"), False)
        assert driver.clean() == 0
        assert driver.free_bytes() > 0
        (tmp_path / "model.gguf").unlink()
        with pytest.raises(DeviceError, match="is gone"):
            driver.push(file)


def test_a_file_comes_whole_or_the_right_side_is_blamed(remote: LocalRemote, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"x" * 3_000_000)
    remote.receive_file(str(tmp_path / "there"), tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"x" * 3_000_000
    with pytest.raises(DeviceError, match="missing: No such file"):
        remote.receive_file(str(tmp_path / "missing"), tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    assert remote.size_bytes(str(tmp_path / "here")) == 3_000_000
    assert remote.size_bytes(str(tmp_path / "missing")) is None


def test_every_processor_s_governor_is_set_however_many_there_are_and_put_back(tmp_path: Path) -> None:
    """Some processors have a policy for each of their cores."""
    files = [tmp_path / f"odd tree/sys/devices/system/cpu/cpufreq/policy{n}/scaling_governor" for n in (0, 9, 40)]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("schedutil\n")
    profile = DeviceProfile(name="many", driver="local", sensors=Sensors(root=str(tmp_path / "odd tree")))
    with closing(connect(profile)) as driver:
        assert driver.condition({"governor": "performance"}) == ()
        assert [file.read_text().strip() for file in files] == ["performance"] * 3
        assert driver.held()["governor"] == "performance"
    assert [file.read_text().strip() for file in files] == ["schedutil"] * 3


def test_a_work_folder_in_the_home_is_found_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with closing(connect(DeviceProfile(name="here", driver="local", work_folder="~/mine"))) as device:
        assert not list(tmp_path.iterdir())  # whoever only looks makes nothing
        device.condition({})
    assert (tmp_path / "mine" / "files").is_dir()
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_work_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DeviceError, match=r"here: .*/file is not a folder"):
        connect(DeviceProfile(name="here", driver="local", work_folder=str(tmp_path / "file" / "x")))
    (tmp_path / "here.yaml").write_text("name: here\ndriver: local\nwork_folder: ~other/melt\n")
    with pytest.raises(ProfileError, match=r"here.yaml:3: work_folder: .*write the whole path"):
        load_profile(str(tmp_path / "here.yaml"))
