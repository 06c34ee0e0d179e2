"""A disturbed unit is measured again at the end of its round, and only so often; the disturbed run stays."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest

import melt
from melt.execution.agenda import rounds
from melt.execution.executor import Outcome
from melt.execution.extra_time import ExtraTimeBudget
from melt.execution.plan import run
from melt.spec.cell import Cell
from melt.spec.events import Event, Hello, Iteration, UnknownLine
from melt.spec.plan import ExtraTime, Plan
from melt.spec.schedule import interleave
from tests.execution.recorder import Recorder
from tests.support.plans import a_plan

STOPPED_S = 0.6
LONG = 64  # tokens of the prompt of the cell with a long decode


class Stopper(Recorder):
    """Stops the runner of the one long cell for a moment after its warm-up, so often: the timed pass then stalls."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._times, self._pid, self._at = times, 0, 0

    def begin(self, cell: Cell, session: int) -> None:
        super().begin(cell, session)
        self._at = cell.prompt_tokens

    def event(self, event: Event | UnknownLine) -> None:
        super().event(event)
        if isinstance(event, Hello):
            self._pid = event.pid or 0
        if isinstance(event, Iteration) and event.warmup and self._at == LONG and self._times > 0:
            self._times -= 1
            threading.Timer(0.05, self._stop, (self._pid,)).start()

    def _stop(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(STOPPED_S, os.kill, (pid, signal.SIGCONT)).start()


def a_plan_of_three(model: Path, share: float) -> Plan:
    """Two cells whose phases are too short to be judged, and one that is judged."""
    long = {"prompt_tokens": LONG, "gen_tokens": 900}
    return a_plan("local", model, context=(32, 96), include=(long,), iterations=1, extra_time={"share": share})


def attempts(outcome: Outcome) -> list[tuple[int, int]]:
    return [(r.manifest.cell.prompt_tokens, r.manifest.attempt) for r in outcome.made]


@pytest.mark.timing
def test_a_stalled_session_is_made_again_after_the_others_of_its_round(tiny_model: Path, tmp_path: Path) -> None:
    outcome = run(a_plan_of_three(tiny_model, 10.0), tmp_path / "r", Stopper(times=1))
    assert sorted(attempts(outcome)[:3]) == [(32, 0), (LONG, 0), (96, 0)]
    assert attempts(outcome)[3] == (LONG, 1)
    first = next(r for r in outcome.made if r.manifest.cell.prompt_tokens == LONG)
    assert "stalled" in first.manifest.disturbed
    [cell] = melt.load(tmp_path / "r").cells.query(f"prompt_tokens == {LONG}").to_dict("records")
    assert cell["n_sessions"] > cell["n_clean"]
    assert outcome.complete


@pytest.mark.timing
def test_a_session_that_stalls_each_time_is_left_so_after_two_more_tries(tiny_model: Path, tmp_path: Path) -> None:
    outcome = run(a_plan_of_three(tiny_model, 10.0), tmp_path / "r", Stopper(times=9))
    assert attempts(outcome)[3:] == [(LONG, 1), (LONG, 2)]
    assert melt.load(tmp_path / "r").cells.set_index("prompt_tokens").loc[LONG, "n_clean"] == 0
    assert outcome.complete


@pytest.mark.timing
def test_without_extra_time_nothing_is_made_again(tiny_model: Path, tmp_path: Path) -> None:
    outcome = run(a_plan_of_three(tiny_model, 0.0), tmp_path / "r", Stopper(times=1))
    assert [number for _, number in attempts(outcome)] == [0, 0, 0]


def test_the_same_command_measures_a_disturbed_session_again(tiny_model: Path, tmp_path: Path) -> None:
    [made] = run(a_plan("local", tiny_model, extra_time={"share": 0.5}), tmp_path / "r").made
    path = made.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"disturbed": ["waited"]}))
    again = run(a_plan("local", tiny_model, extra_time={"share": 0.5}), tmp_path / "r")
    assert (len(again.made), again.already_there) == (1, 0)
    assert path.exists()
    once_more = run(a_plan("local", tiny_model, extra_time={"share": 0.5}), tmp_path / "r")
    assert (len(once_more.made), once_more.already_there) == (0, 1)


def test_a_round_is_a_session_of_every_cell_or_in_sequence_every_session_of_a_cell() -> None:
    cells = [Cell(device="local", model=name) for name in "ab"]
    units = interleave(cells, 3, 0)
    assert [{u.session for u in one} for one in rounds(units, Plan())] == [{0}, {1}, {2}]
    in_sequence = sorted(units, key=lambda u: u.cell.model)
    assert [{u.cell.model for u in one} for one in rounds(in_sequence, Plan(order="sequential"))] == [{"a"}, {"b"}]


def test_second_tries_have_a_share_of_the_plans_own_time_and_a_limit() -> None:
    none, half = ExtraTimeBudget(ExtraTime(share=0.0)), ExtraTimeBudget(ExtraTime(share=0.5))
    short = ExtraTimeBudget(ExtraTime(share=10.0, limit_s=0.01))
    for tries in (none, half, short):
        assert not tries.allow(0.02)
        with tries.clocked(extra=False):
            threading.Event().wait(0.1)
    assert [tries.allow(0.02) for tries in (none, half, short)] == [False, True, False]
    with half.clocked(extra=True):
        threading.Event().wait(0.05)
    assert not half.allow(0.02)


def test_without_extra_time_a_disturbed_session_is_there(tiny_model: Path, tmp_path: Path) -> None:
    [made] = run(a_plan("local", tiny_model), tmp_path / "r").made
    path = made.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"disturbed": ["waited"]}))
    again = run(a_plan("local", tiny_model, extra_time={"share": 0.0}), tmp_path / "r")
    assert (len(again.made), again.already_there) == (0, 1)
