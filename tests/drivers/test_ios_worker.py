"""The process that has the tunnel to an iPhone: one for each, gone when melt is, and what its loss comes to."""

import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.drivers.ios.driver import IosDriver
from melt.drivers.ios.pymd3.pipe import Pipe, check, told_error
from melt.drivers.profiles import read_profile
from melt.drivers.remote.base import ConnectionLostError
from melt.errors import DeviceError, MeltError, TransientDeviceError
from melt.execution.plan import run
from melt.spec.events import ModelLoaded
from tests.doubles.iphone.model import IPHONE_8, IPHONE_13
from tests.doubles.iphone.phone import IPhone
from tests.doubles.iphone.rsd import Loopback
from tests.drivers.iphone import found_by_melt, iphone_17, iphone_17_3, iphone_profile, melts_app, workers_of
from tests.support.cli import MELT
from tests.support.plans import When, a_plan, last
from tests.support.waiting import wait_until

__all__ = ["iphone_17", "iphone_17_3"]
LONG = {"context": (2000,), "gen": (400,)}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_an_iphone_without_a_tunnel_of_melts_has_no_process(
    iphone_17_3: IPhone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Loopback(iphone_17_3) as remote:
        address = {"udid": iphone_17_3.udid, "host": remote.address[0], "port": remote.address[1]}
        profile = read_profile(Path(iphone_profile(tmp_path, iphone_17_3, address=address)))
        with closing(IosDriver(profile)) as driver:
            driver.clock()
            assert not workers_of(os.getpid())
    for phone in found_by_melt(IPHONE_8, tmp_path / "16", monkeypatch):
        with closing(IosDriver(read_profile(Path(iphone_profile(tmp_path / "16", phone))))) as driver:
            driver.clock()
            assert not workers_of(os.getpid())


def test_two_iphones_are_measured_at_once(
    iphone_17: IPhone, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_run = threading.Barrier(2)
    seen: list[tuple[int, int]] = []

    def meet() -> None:
        both_run.wait(60)
        seen.append((len(workers_of(os.getpid())), len(iphone_17.tunnels) + len(other.tunnels)))
        both_run.wait(60)

    def measure(phone: IPhone, folder: Path) -> str:
        plan = a_plan(iphone_profile(folder, phone), tiny_model, **LONG)
        made = last(run(plan, folder / "results", When(ModelLoaded, meet)))
        assert made.manifest.error is None
        return made.manifest.device.serial_hash or ""

    with IPhone(tmp_path / "other", IPHONE_13, iphone_17.usbmuxd) as other, ThreadPoolExecutor() as pool:
        other.install(melts_app())
        jobs = [pool.submit(measure, p, tmp_path / f"job-{i}") for i, p in enumerate((iphone_17, other))]
        assert len({job.result(120) for job in jobs}) == 2
    assert seen == [(2, 2)] * 2


def test_a_process_that_is_killed_in_mid_run_is_replaced_and_the_run_made_again(
    iphone_17: IPhone, tmp_path: Path, tiny_model: Path
) -> None:
    def kill() -> None:
        (pid,) = workers_of(os.getpid())
        os.kill(pid, signal.SIGKILL)

    plan = a_plan(iphone_profile(tmp_path, iphone_17), tiny_model, **LONG)
    outcome = run(plan, tmp_path / "results", When(ModelLoaded, kill))
    assert [r.manifest.error.kind if r.manifest.error else "ok" for r in outcome.made] == ["transient", "ok"]


def test_a_process_that_is_stuck_is_ended(iphone_17: IPhone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("melt.drivers.ios.pymd3.worker_tunnel._END_S", 0.5)
    with closing(IosDriver(read_profile(Path(iphone_profile(tmp_path, iphone_17))))) as driver:
        driver.clock()
        (pid,) = workers_of(os.getpid())
        os.kill(pid, signal.SIGSTOP)
    assert not alive(pid)


def test_a_process_that_cannot_start_says_why(
    iphone_17: IPhone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no such library' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with (
        closing(IosDriver(read_profile(Path(iphone_profile(tmp_path, iphone_17))))) as driver,
        pytest.raises(ConnectionLostError, match="tunnel to the iPhone is gone: no such library"),
    ):
        driver.clock()


def a_run_under_way(phone: IPhone, tmp_path: Path, model: Path) -> "subprocess.Popen[bytes]":
    words = ["run", "--device", iphone_profile(tmp_path, phone), "--model", str(model), "--context", "8000"]
    words += ["--gen", "8000", "--threads", "1", "--results", str(tmp_path / "results"), "--set", "idle_s=0.2"]
    started = subprocess.Popen(
        [*MELT, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    )
    wait_until(lambda: bool(phone.apps.running), 60)
    return started


def test_a_process_ends_with_melt_however_melt_ends(iphone_17: IPhone, tmp_path: Path, tiny_model: Path) -> None:
    with a_run_under_way(iphone_17, tmp_path, tiny_model) as melt:
        (pid,) = workers_of(melt.pid)
        melt.kill()
        melt.communicate(timeout=20)
    wait_until(lambda: not alive(pid), 10)
    wait_until(lambda: not iphone_17.tunnels)
    iphone_17.apps.end_all()


def test_an_interrupted_run_ends_the_app_through_the_tunnel(
    iphone_17: IPhone, tmp_path: Path, tiny_model: Path
) -> None:
    with a_run_under_way(iphone_17, tmp_path, tiny_model) as melt:
        (pid,) = workers_of(melt.pid)
        os.kill(melt.pid, signal.SIGINT)
        _, said = melt.communicate(timeout=60)
    assert melt.returncode == 130
    assert b"Traceback" not in said
    assert not [r for r in iphone_17.apps.running.values() if r.alive]
    assert not alive(pid)


@given(
    st.sampled_from([DeviceError, TransientDeviceError, ConnectionLostError]),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_an_error_crosses_as_what_it_is(kind: type[MeltError], message: str, hint: str) -> None:
    ours, theirs = socket.socketpair()
    with closing(Pipe(ours)) as here, closing(Pipe(theirs)) as there:
        there.send(told_error(kind(message, hint)))
        with pytest.raises(MeltError) as raised:
            check(here.receive()[0])
    assert (type(raised.value), raised.value.message, raised.value.hint) == (kind, message, hint)


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_no_line_breaks_the_pipe_but_as_such(lines: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    with closing(Pipe(ours)) as here:
        with theirs:
            theirs.sendall(b"\n".join(lines))
        while True:
            try:
                assert isinstance(here.receive()[0], dict)
            except ValueError:
                continue
            except EOFError:
                break


def test_a_line_without_an_end_is_given_up() -> None:
    ours, theirs = socket.socketpair()
    with closing(Pipe(ours)) as here, theirs:
        sender = threading.Thread(target=theirs.sendall, args=(b"x" * (2**20 + 70_000),))
        sender.start()
        with pytest.raises(ValueError, match="without an end"):
            here.receive()
        sender.join(5)


def test_an_open_file_crosses_with_its_message(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with closing(Pipe(ours)) as here, closing(Pipe(theirs)) as there, (tmp_path / "f").open("w") as file:
        there.send({"connect": 1}, file.fileno())
        message, got = here.receive()
        assert message == {"connect": 1}
        assert got is not None
        os.write(got, b"by the other one")
        os.close(got)
    assert (tmp_path / "f").read_text() == "by the other one"
