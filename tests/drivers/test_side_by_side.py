"""Devices of one plan at once, each in a process of its own."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

import melt
from melt.execution.plan import run
from melt.execution.progress import Watcher
from melt.spec.plan import Plan, to_yaml
from melt.store.store import Run
from tests.doubles.board.box import BoardBox
from tests.doubles.paced.fixture import paced
from tests.doubles.phone.box import PhoneBox
from tests.drivers.boards import Box, a_profile, box
from tests.drivers.conftest import address_of, enrol_all, ssh_profile_of
from tests.execution.recorder import Recorder
from tests.support.cli import MELT, without_second_tries
from tests.support.plans import a_plan
from tests.support.processes import running
from tests.support.profiles import write_profile
from tests.support.waiting import wait_until

__all__ = ["box", "paced"]
pytestmark = pytest.mark.root

Boards = Callable[..., list[tuple[str, BoardBox]]]


@pytest.fixture
def boards(box: Box, tmp_path: Path) -> Boards:
    """So many boards, each with the file of its profile."""

    def make(count: int) -> list[tuple[str, BoardBox]]:
        made = []
        for i in range(count):
            board = box()
            enrol_all(ssh_profile_of(board))
            made.append((a_profile(board, tmp_path / f"board{i}.yaml", driver="ssh"), board))
        return made

    return make


def paced_plan(model: Path, *profiles: str, pass_ms: float = 200.0, sessions: int = 2) -> Plan:
    options = {"base_ms": pass_ms, "token_us": 0.0, "decode_ms": 5.0}
    few = {"warmups": 0, "iterations": 2, "sessions": sessions, "context": (32, 64)}
    of_one = a_plan(profiles[0], model, backends=("paced",), options=options, **few)
    return of_one.model_copy(update={"devices": profiles})


class WhoIsAtWork(Watcher):
    """Which devices' units were under way at once, and what else was told."""

    def __init__(self) -> None:
        self.now = ""
        self.at_work: set[str] = set()
        self.together: set[frozenset[str]] = set()
        self.said: list[str] = []
        self.planned: list[int] = []

    def at(self, device: str) -> None:
        self.now = device

    def plan(self, left: object, admitted: object) -> None:
        self.planned.append(len(left.todo))  # type: ignore[attr-defined]

    def begin(self, cell: object, session: int) -> None:
        self.at_work.add(cell.device)  # type: ignore[attr-defined]
        self.together.add(frozenset(self.at_work))

    def end(self, run: Run) -> None:
        self.at_work.discard(run.manifest.cell.device)

    def say(self, text: str) -> None:
        self.said.append(text)


def test_boards_are_measured_at_once_and_this_machine_by_itself(
    boards: Boards, tmp_path: Path, tiny_model: Path, paced: Path
) -> None:
    (one, _), (two, _) = boards(2)
    watcher = WhoIsAtWork()
    outcome = run(paced_plan(tiny_model, one, two, "local"), tmp_path / "results", watcher)
    assert outcome.complete, [r.manifest.error for r in outcome.made]
    assert len(outcome.made) == 12
    assert frozenset({"board0", "board1"}) in watcher.together
    assert all(group == {"local"} for group in watcher.together if "local" in group)
    assert watcher.planned == [12]
    again = run(paced_plan(tiny_model, one, two, "local"), tmp_path / "results")
    assert (len(again.made), again.already_there) == (0, 12)


@pytest.fixture
def four(boards: Boards, tmp_path: Path) -> Iterator[tuple[list[str], BoardBox]]:
    """Two boards and two phones, and of the boards the second."""
    (one, _), (two, board) = boards(2)
    with contextlib.ExitStack() as stack:
        # Of two makers: two of one recording would have one serial, and be one phone.
        phones = [stack.enter_context(PhoneBox(name, tmp_path / name)) for name in ("pixel-8", "galaxy-s23")]
        addresses = [dict(zip(("host", "port"), address_of(phone), strict=True)) for phone in phones]
        profiles = [
            write_profile(tmp_path / f"phone{i}.yaml", "adb", address={**address, "connector": "direct"})
            for i, address in enumerate(addresses)
        ]
        yield [one, two, *profiles], board


@pytest.mark.timeout(1800)
@pytest.mark.long(part="faults")
def test_two_boards_and_two_phones_take_as_long_as_one_and_one_that_is_cut_costs_the_others_nothing(
    four: tuple[list[str], BoardBox], tmp_path: Path, tiny_model: Path, paced: Path
) -> None:
    profiles, second_board = four
    alone_s, all_s = [], 0.0
    for name in profiles:
        began = time.monotonic()
        assert run(paced_plan(tiny_model, name, pass_ms=10_000.0), tmp_path / "alone").complete
        alone_s.append(time.monotonic() - began)
    began = time.monotonic()
    assert run(paced_plan(tiny_model, *profiles, pass_ms=10_000.0), tmp_path / "all").complete
    all_s = time.monotonic() - began
    assert all_s < 1.15 * max(alone_s), alone_s

    watcher = Cut(second_board)
    outcome = run(paced_plan(tiny_model, *profiles, pass_ms=10_000.0), tmp_path / "cut", watcher)
    of_others = [r.manifest for r in outcome.made if r.manifest.cell.device != "board1"]
    assert len(of_others) == 12
    assert all(m.status == "ok" for m in of_others)
    assert watcher.others_took_s < 1.15 * max(alone_s), alone_s
    assert {c.device for c in outcome.not_tried} == {"board1"}


class Cut(Watcher):
    """Cuts a board for good after its first run, and times all others."""

    def __init__(self, board: BoardBox) -> None:
        self._board = board
        self._began = time.monotonic()
        self.others_took_s = 0.0

    def end(self, run: Run) -> None:
        if run.manifest.cell.device == "board1":
            self._board.stop()
        else:
            self.others_took_s = time.monotonic() - self._began


@pytest.mark.long(part="faults")
def test_one_address_more_of_a_board_is_the_same_board(
    boards: Boards, tmp_path: Path, tiny_model: Path, paced: Path
) -> None:
    [(one, board)] = boards(1)
    other = a_profile(board, tmp_path / "again.yaml", driver="ssh")
    outcome = run(paced_plan(tiny_model, one, other), tmp_path / "results")
    assert len({r.manifest.cell.device for r in outcome.made}) == 1
    [reason] = outcome.ended.values()
    assert "is being measured by process" in reason
    assert not outcome.complete


def test_ctrl_c_ends_every_device_and_keeps_what_is_done(
    boards: Boards, tmp_path: Path, tiny_model: Path, paced: Path
) -> None:
    (one, first), (two, second) = boards(2)
    path = tmp_path / "plan.yaml"
    path.write_text(to_yaml(paced_plan(tiny_model, one, two, sessions=20)))
    words = without_second_tries(("run", str(path), "--results", str(tmp_path / "r"), "--no-report"))
    unignored = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in the background ignore it
    with subprocess.Popen([*MELT, *words], stderr=subprocess.PIPE, text=True, preexec_fn=unignored) as host:
        wait_until(lambda: len(list((tmp_path / "r").glob("2*/manifest.json"))) >= 2)
        host.send_signal(signal.SIGINT)
        assert host.wait(60) == 130
    for board in (first, second):
        work = board.folder / "work"
        wait_until(lambda work=work: not running(lambda p: p.program is not None and p.program.is_relative_to(work)))  # type: ignore[misc]
    assert not running(lambda p: "melt.execution.worker" in p.argv)
    assert set(melt.load(tmp_path / "r").runs["status"]) == {"ok"}
    assert not list((tmp_path / "r").glob(".partial-*"))


@pytest.mark.long(part="faults")
def test_a_host_that_is_killed_leaves_no_worker(boards: Boards, tmp_path: Path, tiny_model: Path, paced: Path) -> None:
    (one, _), (two, _) = boards(2)
    (tmp_path / "plan.yaml").write_text(to_yaml(paced_plan(tiny_model, one, two, sessions=20)))
    words = ("run", str(tmp_path / "plan.yaml"), "--results", str(tmp_path / "r"), "--no-report")
    with subprocess.Popen([*MELT, *words], stderr=subprocess.DEVNULL) as host:
        wait_until(lambda: list((tmp_path / "r").glob("2*/manifest.json")))
        host.kill()
    wait_until(lambda: not running(lambda p: "melt.execution.worker" in p.argv))


@pytest.mark.long(part="faults")
def test_a_board_whose_process_dies_costs_the_other_nothing(
    boards: Boards, tmp_path: Path, tiny_model: Path, paced: Path
) -> None:
    (one, _), (two, _) = boards(2)

    class Killing(Recorder):
        def end(self, run: Run) -> None:
            super().end(run)
            if run.manifest.cell.device == "board0" and not self.said.count("killed"):
                self.said.append("killed")
                [worker] = running(lambda p: p.argv[-2:] == ("melt.execution.worker", "board0"))
                os.kill(worker.pid, signal.SIGKILL)

    outcome = run(paced_plan(tiny_model, one, two), tmp_path / "results", Killing())
    assert outcome.ended == {"board0": "its process ended with exit code -9"}
    assert sum(r.manifest.cell.device == "board1" for r in outcome.made) == 4
    assert run(paced_plan(tiny_model, one, two), tmp_path / "results").complete
