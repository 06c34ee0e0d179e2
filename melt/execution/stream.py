"""Following a runner: its lines kept as they come, its end explained."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from melt.spec.events import (
    PROTOCOL,
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
    Warned,
    parse_event,
)
from melt.spec.plan import Timeouts
from melt.store.manifest import RunFailure

if TYPE_CHECKING:
    from melt.drivers.base import Driver, ExitStatus, Process

_EXIT_WAIT_S = 15.0
_MAX_UNKNOWN_SHOWN = 3
_LOW_MEMORY = ("out of memory", "lowmemorykiller", "lmkd", "jetsam")  # Linux's killer, Android's and iOS's


@dataclass
class Heard:
    """What a runner said, as far as the session needs it; the whole is on disk."""

    hello: Hello | None = None
    model: ModelLoaded | None = None
    done: Done | None = None
    failed: Failed | None = None
    iterations: int = 0
    invalid: str = ""
    warnings: list[str] = field(default_factory=list)
    unknown: list[UnknownLine] = field(default_factory=list)  # the first few
    n_unknown: int = 0

    def take(self, event: Event | UnknownLine, gen_tokens: int) -> None:
        """Notes one event."""
        match event:
            case Hello():
                self.hello = event
            case ModelLoaded():
                self.model = event
            case Iteration():
                self.iterations += not event.warmup
                problem = event.problem(gen_tokens)
                self.invalid = self.invalid or (problem and f"iteration {event.index}: {problem}")
            case Repetitions():
                self.iterations = max(self.iterations, len(event.took_ns))
            case Warned():
                self.warnings.append(f"{event.kind}: {event.message}")
            case Failed():
                self.failed = self.failed or event
            case Done():
                self.done = event
            case UnknownLine():
                self.n_unknown += 1
                self.unknown += [event] if len(self.unknown) < _MAX_UNKNOWN_SHOWN else []

    def unknown_warning(self) -> list[str]:
        """One warning for all lines that were no events."""
        if not self.unknown:
            return []
        shown = "; ".join(f"{u.raw[:80]!r} ({u.reason})" for u in self.unknown)
        return [f"{self.n_unknown} lines of the runner are no events: {shown}"]


def follow(
    process: "Process",
    raw: IO[str],
    timeouts: Timeouts,
    gen_tokens: int,
    on_event: Callable[[Event | UnknownLine], None],
) -> tuple[Heard, RunFailure | None]:
    """Reads a runner's stdout to its end, writing every line to ``raw``.

    Returns:
        What it said, and why it had to be ended by the host (time-out, wrong protocol), if it had to.
    """
    heard = Heard()
    deadline = time.monotonic() + timeouts.load_s
    while True:
        left_s = deadline - time.monotonic()
        try:
            if left_s <= 0:  # also where lines keep coming that are no progress
                raise TimeoutError
            line = process.next_line(left_s)
        except TimeoutError:
            return heard, _timed_out(heard, timeouts)
        if line is None:
            return heard, None
        raw.write(line + "\n")
        event = parse_event(line)
        heard.take(event, gen_tokens)
        on_event(event)
        if isinstance(event, Hello) and event.protocol != PROTOCOL:
            message = f"the runner speaks protocol {event.protocol} and this melt speaks {PROTOCOL}"
            return heard, RunFailure(kind="protocol", message=message)
        if isinstance(event, Compiled):
            deadline = time.monotonic() + timeouts.load_s
        if isinstance(event, ModelLoaded | Iteration | Repetitions | Ops):
            deadline = time.monotonic() + timeouts.iteration_s
        if isinstance(event, Done | Failed):
            deadline = time.monotonic() + _EXIT_WAIT_S


def _timed_out(heard: Heard, timeouts: Timeouts) -> RunFailure | None:
    if heard.failed is not None:
        return RunFailure(kind=heard.failed.kind, message=heard.failed.message)
    if heard.done is not None:
        return None
    if heard.model is None and not heard.iterations:
        return RunFailure(kind="timeout", message=f"the model did not load within {timeouts.load_s:g} s")
    after = f"after {heard.iterations} timed iterations"
    return RunFailure(kind="timeout", message=f"no iteration within {timeouts.iteration_s:g} s, {after}")


def explain_end(heard: Heard, process: "Process", driver: "Driver") -> RunFailure | None:
    """Why a runner that ended by itself is no measurement; None where it is one."""
    try:
        status = process.wait(_EXIT_WAIT_S)
    except TimeoutError:
        return RunFailure(kind="hung", message="the runner closed its output and did not end")
    if heard.failed is not None:
        return RunFailure(kind=heard.failed.kind, message=heard.failed.message)
    if status.signal is not None:
        pid = process.pid if process.pid is not None or heard.hello is None else heard.hello.pid
        return _signalled(status.signal, process, driver.death_notes(pid) if pid is not None else "")
    if not status.ok or heard.done is None or heard.done.status != "ok":
        return RunFailure(kind="runner", message=f"{_how(status, heard)}: {_last_words(process)}")
    if heard.invalid:
        return RunFailure(kind="invalid_events", message=heard.invalid)
    if heard.iterations == 0:
        return RunFailure(kind="runner", message="the runner ended well without a timed iteration")
    return None


def _signalled(signal: str, process: "Process", notes: str) -> RunFailure:
    if signal == "SIGKILL" and any(word in notes.lower() for word in _LOW_MEMORY):
        return RunFailure(kind="out_of_memory", message=f"killed by the system for want of memory: {notes}")
    if signal == "SIGKILL":
        return RunFailure(kind="killed", message="killed by SIGKILL from outside (an out-of-memory killer does so too)")
    return RunFailure(kind=signal, message=f"the runner died by {signal}. {notes or _last_words(process)}".strip())


def _how(status: "ExitStatus", heard: Heard) -> str:
    return f"the runner ended with {status}" + ("" if heard.done else " and without a done event")


def _last_words(process: "Process") -> str:
    lines = [line for line in process.stderr().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing on stderr"
