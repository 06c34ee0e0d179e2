"""One holder a device, whatever folders, user or container the other has."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from melt.drivers.lease import lease
from melt.errors import DeviceError

HOLDER = """
import os, sys
from melt.drivers.lease import lease
if sys.argv[1:]:
    os.setgid(int(sys.argv[1]))
    os.setuid(int(sys.argv[1]))
with lease("local-x"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(*words: str, before: tuple[str, ...] = (), **environment: str) -> Iterator[int]:
    """Another process that holds the device, by its pid."""
    argv = [*before, sys.executable, "-c", HOLDER, *words]
    env = os.environ | environment
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        yield other.pid
        assert other.stdin is not None
        other.stdin.close()


def refused(pid: int) -> bool:
    with pytest.raises(DeviceError, match=f"board: is being measured by process {pid}$"), lease("local-x", "board"):
        pass
    return True


def test_a_holder_with_folders_of_its_own_is_seen(tmp_path: Path) -> None:
    with holder(TMPDIR=str(tmp_path), MELT_CACHE=str(tmp_path / "other"), HOME=str(tmp_path)) as pid:
        assert refused(pid)
        with lease("local-y"):
            pass
    with lease("local-x"):
        pass


@pytest.mark.root
def test_a_holder_who_is_another_user_is_seen(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents:
        if folder.owner() == "root" and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o001)
    with holder("65534", MELT_CACHE=str(tmp_path / "others")) as pid:
        assert refused(pid)


@pytest.mark.root
def test_a_holder_in_another_container_is_seen_where_the_cache_is_one() -> None:
    with holder(before=("unshare", "--net", "--ipc")) as pid:
        assert refused(pid)


def test_a_holder_that_dies_lets_go() -> None:
    with holder() as pid:
        assert refused(pid)
        os.kill(pid, 9)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with lease("local-x"):
            pass


def test_one_that_holds_another_device_is_in_nobodys_way() -> None:
    with holder(), lease("adb-x"):
        pass


def test_a_cache_that_cannot_be_written_is_named_and_no_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leases").write_text("in the way")
    monkeypatch.setenv("MELT_CACHE", str(tmp_path))
    with (
        pytest.raises(DeviceError, match=f"^{tmp_path}/leases: holds no locks: "),
        lease("local-0123456789abcdef", "nano"),
    ):
        pass


def test_a_cache_without_locks_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(fd: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("melt.drivers.lease.fcntl.flock", none)
    with lease("local-x"), pytest.raises(DeviceError, match="is being measured by"), lease("local-x"):
        pass
