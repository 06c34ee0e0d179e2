"""Following a runner: its lines kept as they come, its end explained."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from melt.spec.events import (
    Compiled,
    Done,
    Event,
    Failed,
    Hello,
    Iteration,
    ModelLoaded,
    Ops,
    Repetitions,
    UnknownLine,
    parse_event,
)
from melt.spec.job import PROTOCOL
from melt.spec.plan import Timeouts
from melt.spec.transcript import Transcript, TranscriptWriter
from melt.store.manifest import RunFailure
from melt.util.text import plural

if TYPE_CHECKING:
    from melt.drivers.base import Driver, Process

_EXIT_WAIT_S = 15.0
_ASK_S = 2.0
_LOW_MEMORY = ("out of memory", "lowmemorykiller", "lmkd", "jetsam")  # Linux's killer, Android's and iOS's


def follow(
    process: "Process",
    keep: Callable[[str], object],
    timeouts: Timeouts,
    on_event: Callable[[Event | UnknownLine], None],
    stop: Callable[[], RunFailure | None] = lambda: None,
) -> tuple[Transcript, RunFailure | None]:
    """Reads a runner's stdout to its end, giving every line to ``keep``.

    ``stop`` is asked every few seconds whether the run is to be ended, and why.

    Returns:
        What it said, and why it had to be ended by the host (time-out, wrong protocol, a limit), if it had to.
    """
    said = TranscriptWriter()
    deadline = time.monotonic() + timeouts.load_s
    asked_s = 0.0
    while True:
        left_s = deadline - time.monotonic()
        if time.monotonic() - asked_s >= _ASK_S and not (said.transcript().done or said.transcript().failed):
            if reason := stop():
                return said.transcript(), reason
            asked_s = time.monotonic()
        try:
            if left_s <= 0:  # also where lines keep coming that are no progress
                raise TimeoutError
            line = process.next_line(min(left_s, _ASK_S))
        except TimeoutError:
            if left_s > _ASK_S:
                continue
            return said.transcript(), _timed_out(said.transcript(), timeouts)
        if line is None:
            return said.transcript(), None
        keep(line + "\n")
        event = parse_event(line)
        said.add(event)
        on_event(event)
        if isinstance(event, Hello) and event.protocol != PROTOCOL:
            message = f"the runner speaks protocol {event.protocol} and this melt speaks {PROTOCOL}"
            return said.transcript(), RunFailure(kind="protocol", message=message)
        if isinstance(event, Compiled):
            deadline = time.monotonic() + timeouts.load_s
        if isinstance(event, ModelLoaded | Iteration | Repetitions | Ops):
            deadline = time.monotonic() + timeouts.iteration_s
        if isinstance(event, Done | Failed):
            deadline = time.monotonic() + _EXIT_WAIT_S


def _timed_out(said: Transcript, timeouts: Timeouts) -> RunFailure | None:
    if said.failed is not None:
        return RunFailure(kind=said.failed.kind, message=said.failed.message)
    if said.done is not None:
        return None
    if said.loaded is None and not said.n_timed:
        return RunFailure(
            kind="timeout", message=f"the model did not load within {timeouts.load_s:g} s (the plan's timeouts: load_s)"
        )
    after = f"after {plural(said.n_timed, 'timed iteration')}"
    return RunFailure(
        kind="timeout",
        message=f"no iteration within {timeouts.iteration_s:g} s {after} (the plan's timeouts: iteration_s)",
    )


def explain_end(said: Transcript, process: "Process", driver: "Driver") -> RunFailure | None:
    """What went wrong with a runner that ended by itself; None where it ended well.

    Whether what it said is a measurement is another question (``melt.analysis.judge``).
    """
    try:
        status = process.wait(_EXIT_WAIT_S)
    except TimeoutError:
        return RunFailure(kind="hung", message="the runner closed its output and did not end")
    if said.failed is not None:
        return RunFailure(kind=said.failed.kind, message=said.failed.message)
    if status.signal is not None:
        pid = process.pid if process.pid is not None or said.hello is None else said.hello.pid
        return _signalled(status.signal, process, driver.death_notes(pid) if pid is not None else "")
    if not status.ok or said.done is None:
        without = "" if said.done else " and without a done event"
        return RunFailure(kind="runner", message=f"the runner ended with {status}{without}: {_last_words(process)}")
    return None


def _signalled(signal: str, process: "Process", notes: str) -> RunFailure:
    if signal == "SIGKILL" and any(word in notes.lower() for word in _LOW_MEMORY):
        return RunFailure(kind="out_of_memory", message=f"killed by the system because memory ran out: {notes}")
    if signal == "SIGKILL":
        return RunFailure(
            kind="killed",
            message="killed from outside by SIGKILL, as a system does when memory runs out; its log does not say so",
        )
    return RunFailure(kind=signal, message=f"the runner crashed with {signal}. {notes or _last_words(process)}".strip())


def _last_words(process: "Process") -> str:
    lines = [line for line in process.stderr().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing on stderr"
