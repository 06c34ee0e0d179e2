"""Whatever a runner says and however it ends, the host has an answer."""

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from melt.analysis.judge import why_no_measurement
from melt.drivers.local.remote import LocalRemote
from melt.drivers.remote.base import quoted
from melt.drivers.remote.process import RemoteProcess
from melt.execution.stream import explain_end, follow
from melt.spec.cell import Cell
from melt.spec.events import Event, UnknownLine
from melt.spec.plan import Timeouts
from melt.spec.transcript import Transcript
from melt.store.manifest import RunFailure

RECORDED = (Path(__file__).parents[1] / "data" / "events" / "smollm2-135m-2-cores.jsonl").read_text().splitlines()
CELL = Cell(device="d", model="m", prompt_tokens=512, gen_tokens=16, iterations=2)
FEWER = json.dumps(json.loads(RECORDED[3]) | {"token_t_ns": json.loads(RECORDED[3])["token_t_ns"][:-1]})
STANDING = json.dumps(json.loads(RECORDED[3]) | {"token_t_ns": [10**15] * 16})
# Linux 6.18, x86-64, memory cgroup of 12 MB around a runner; recorded 2026-11-22.
OOM_LINE = (
    "<3>[ 4044.579588] Memory cgroup out of memory: Killed process 27071 (python) total-vm:1598512kB, "
    "anon-rss:34544kB, file-rss:1297040kB, shmem-rss:0kB, UID:0 pgtables:1068kB oom_score_adj:0"
)


class Notes:
    """The part of a driver that is asked when a process died."""

    def __init__(self, notes: str = "") -> None:
        self.notes = notes

    def death_notes(self, pid: int | None) -> str:
        return self.notes


def ended(code: str, notes: str = "", **timeouts: float) -> tuple[Transcript, RunFailure | None, str]:
    """Follows a Python program to its end."""
    process = RemoteProcess(LocalRemote("host"), f"exec {quoted(sys.executable, '-c', code)}")
    raw = io.StringIO()
    seen: list[Event | UnknownLine] = []
    limits = {"load_s": 20.0, "iteration_s": 20.0, **timeouts}
    try:
        driver: Any = Notes(notes)
        said, failure = follow(process, raw.write, Timeouts(**limits), seen.append)
        failure = failure or explain_end(said, process, driver) or why_no_measurement(said, CELL)
        return said, failure, raw.getvalue()
    finally:
        process.kill()


def saying(lines: list[str], then: str = "") -> str:
    return f"import os, sys, time, signal\nprint({chr(10).join(lines)!r}, flush=True)\n{then}"


def test_a_whole_stream_is_a_measurement_and_is_kept_as_it_came() -> None:
    said, failure, raw = ended(saying(RECORDED))
    assert failure is None
    assert said.n_timed == 2
    assert raw.splitlines() == RECORDED


@pytest.mark.parametrize(
    ("lines", "then", "kind", "said"),
    [
        (RECORDED[:-1], "", "runner", "without a done event"),
        (RECORDED[:-1], "sys.exit('llama: no such op')", "runner", "llama: no such op"),
        (RECORDED, "sys.exit(5)", "runner", "exit code 5"),
        ([RECORDED[0], RECORDED[-1]], "", "incomplete_events", "0 of 2 timed iterations"),
        ([*RECORDED[:4], RECORDED[-1]], "", "incomplete_events", "1 of 2 timed iterations"),
        (RECORDED[:3], "os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV", "SIGSEGV"),
        (RECORDED[:3], "os.kill(os.getpid(), signal.SIGKILL)", "killed", "SIGKILL"),
        (['{"event":"error","kind":"nan_logits","message":"NaN"}'], "sys.exit(1)", "nan_logits", "NaN"),
        ([RECORDED[0].replace('"protocol":1', '"protocol":7')], "time.sleep(60)", "protocol", "7"),
        ([], "", "runner", "exit code 0"),
        ([*RECORDED[:3], FEWER, *RECORDED[4:]], "", "invalid_events", "15 token stamps for 16"),
        ([*RECORDED[:3], STANDING, *RECORDED[4:]], "", "invalid_events", "do not increase"),
    ],
)
def test_every_other_end_is_a_failed_run_with_its_cause(lines: list[str], then: str, kind: str, said: str) -> None:
    _, failure, _ = ended(saying(lines, then))
    assert failure is not None
    assert failure.kind == kind
    assert said in failure.message


def test_an_out_of_memory_kill_is_named_by_the_kernels_own_words() -> None:
    _, failure, _ = ended(saying(RECORDED[:2], "os.kill(os.getpid(), signal.SIGKILL)"), OOM_LINE)
    assert failure is not None
    assert failure.kind == "out_of_memory"
    assert "anon-rss:34544kB" in failure.message


@pytest.mark.parametrize(("lines", "said"), [([], "did not load"), (RECORDED[:4], "after 1 timed iteration")])
def test_silence_is_a_timeout(lines: list[str], said: str) -> None:
    load_s, iteration_s = (20.0, 0.5) if lines else (0.5, 20.0)
    _, failure, _ = ended(saying(lines, "time.sleep(60)"), load_s=load_s, iteration_s=iteration_s)
    assert failure is not None
    assert failure.kind == "timeout"
    assert said in failure.message


def test_what_is_no_event_is_kept_counted_and_no_failure() -> None:
    noise = ["ggml_vulkan: found 1 device", '{"event":"progress","share":0.5}']
    said, failure, raw = ended(saying([*noise, *RECORDED]))
    assert failure is None
    assert said.n_unknown_lines == 2
    assert "2 lines" in said.spoken_warnings[-1]
    assert raw.splitlines()[:2] == noise


def test_bytes_that_are_no_text_do_not_stop_it() -> None:
    code = "import sys\nsys.stdout.buffer.write(b'\\xff\\xfe\\x00{\\n' * 3)"
    said, failure, _ = ended(code)
    assert said.n_unknown_lines == 3
    assert failure is not None


def test_a_program_that_has_said_what_failed_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("melt.execution.stream._EXIT_WAIT_S", 0.5)
    began = time.monotonic()
    line = '{"event": "error", "kind": "invalid_events", "message": "half a run"}'
    _, failure, _ = ended(f"import time; print({line!r}, flush=True); time.sleep(60)")
    assert failure is not None
    assert (failure.kind, failure.message) == ("invalid_events", "half a run")
    assert time.monotonic() - began < 20


def test_what_is_told_to_stop_is_ended_and_what_is_done_is_done() -> None:
    def follow_until(lines: list[str], then: str) -> tuple[Transcript, RunFailure | None]:
        process = RemoteProcess(LocalRemote("host"), f"exec {quoted(sys.executable, '-c', saying(lines, then))}")
        times = iter([None, *[RunFailure(kind="limit", message="too warm")] * 9])
        try:
            limits = Timeouts(load_s=60.0, iteration_s=60.0)
            return follow(process, lambda _line: None, limits, lambda _event: None, lambda: next(times))
        finally:
            process.kill()

    said, failure = follow_until(RECORDED[:3], "time.sleep(60)")
    assert failure == RunFailure(kind="limit", message="too warm")
    assert said.hello
    said, failure = follow_until(RECORDED, "time.sleep(3)")  # all is measured, and the program takes its time to end
    assert failure is None
    assert said.done
