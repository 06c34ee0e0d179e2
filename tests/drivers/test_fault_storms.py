"""Whole plans through storms of faults: whatever comes when, nothing is lost, counted twice or left behind.

Which faults come, and when, follows from ``--seed`` and the storm's number.
"""

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from melt.errors import MeltError
from melt.execution.plan import Outcome, run
from melt.spec.plan import Plan
from melt.store.store import Store
from tests.doubles.phone.box import PhoneBox
from tests.doubles.sshd import Sshd
from tests.drivers.conftest import address_of, enrol_all, ssh_profile_of
from tests.support.plans import a_plan
from tests.support.processes import Process, running
from tests.support.profiles import write_profile
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.long(part="faults"), pytest.mark.timeout(1200)]

STORMS = range(12)
FAULTS = 5  # in one storm
CALLS = 6  # of the plan: the first half in the storm, the others after it
WORK = {"context": (500, 1000), "gen": (200,), "sessions": 2, "runners": ("native",), "retries": 1}


@dataclass(frozen=True)
class Fault:
    """What befalls a device, and what ends it."""

    begin: Callable[[], object]
    end: Callable[[], object] = lambda: None


@pytest.fixture(autouse=True)
def quick_to_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("melt.drivers.remote.process._HEARTBEAT_S", 0.5)
    monkeypatch.setattr("melt.drivers.remote.process._KILL_S", 3.0)
    monkeypatch.setattr("melt.drivers.adb.remote.SIGN_OF_LIFE_S", 3.0)
    monkeypatch.setattr("melt.drivers.ssh.remote.SIGN_OF_LIFE_S", 3.0)
    monkeypatch.setattr("melt.drivers.ssh.connect.CONNECT_S", 5.0)
    monkeypatch.setattr("melt.drivers.remote.driver.RETURN_S", 15.0)


@contextmanager
def storm(choices: random.Random, faults: Mapping[str, Fault]) -> Iterator[list[str]]:
    """Faults one after the other for the length of the block, each of which ends; gives the names of those made."""
    over = threading.Event()
    made: list[str] = []

    def blow() -> None:
        for name in choices.choices(sorted(faults), k=FAULTS):
            before_s, length_s = choices.uniform(0.1, 4.0), choices.uniform(0.1, 6.0)
            if over.wait(before_s):
                return
            made.append(name)
            faults[name].begin()
            over.wait(length_s)
            faults[name].end()

    thread = threading.Thread(target=blow)
    thread.start()
    try:
        yield made
    finally:
        over.set()
        thread.join(60)
        assert not thread.is_alive()


def measure_through(faults: Mapping[str, Fault], plan: Plan, results: Path, choices: random.Random) -> None:
    """Calls melt again and again, as a person would; in the end all is measured, once."""
    with storm(choices, faults) as made:
        for _ in range(CALLS // 2):
            call(plan, results)
    outcome = next((o for o in (call(plan, results) for _ in range(CALLS // 2)) if o and o.complete), None)
    assert outcome, made
    runs, damaged = Store(results).runs()
    assert not damaged, made
    assert not list(results.glob(".partial-*")), made
    measured = sorted((r.manifest.cell_id, r.manifest.session) for r in runs if r.manifest.status == "ok")
    assert measured == sorted((cell.id, s) for cell in outcome.cells for s in range(plan.sessions)), made
    assert all(r.manifest.error for r in runs if r.manifest.status != "ok"), made


def call(plan: Plan, results: Path) -> Outcome | None:
    """None where the device is away at the beginning or for too long: a clear refusal, and no crash."""
    try:
        return run(plan, results)
    except MeltError:
        return None


def kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", STORMS)
def test_a_phone_in_a_storm(
    number: int, seed: int, phone: PhoneBox, tmp_path: Path, tiny_model: Path, kept_builds: None
) -> None:
    faults = {
        "out of reach": Fault(phone.cut, phone.mend),
        "adbd dies": Fault(phone.kill_adbd, phone.start_adbd),
        "reboot": Fault(lambda: phone.reboot(2.0)),
        "hangs": Fault(phone.freeze, phone.thaw),
        "programs die": Fault(lambda: kill(p.pid for p in phone.processes())),
    }
    host, port = address_of(phone)
    address = {"host": host, "port": port, "connector": "direct"}
    profile = write_profile(tmp_path / "phone.yaml", "adb", address=address)
    choices = random.Random(f"phone {seed} {number}")
    measure_through(faults, a_plan(profile, tiny_model, **WORK), tmp_path / "results", choices)
    wait_until(lambda: not phone.processes())


@pytest.mark.parametrize("number", STORMS)
def test_a_board_in_a_storm(
    number: int, seed: int, board: Sshd, tmp_path: Path, tiny_model: Path, kept_builds: None
) -> None:
    work = board.folder / "work"

    def programs() -> list[Process]:
        return running(lambda p: p.program is not None and p.program.is_relative_to(work))

    faults = {
        "connections break": Fault(board.cut),
        "server down": Fault(board.stop, board.start),
        "hangs": Fault(board.freeze, board.thaw),
        "programs die": Fault(lambda: kill(p.pid for p in programs())),
    }
    enrol_all(ssh_profile_of(board))
    address = {"host": "127.0.0.1", "port": board.port}
    profile = write_profile(tmp_path / "board.yaml", "ssh", address=address, work_folder=str(work))
    choices = random.Random(f"board {seed} {number}")
    measure_through(faults, a_plan(profile, tiny_model, **WORK), tmp_path / "results", choices)
    wait_until(lambda: not programs())
