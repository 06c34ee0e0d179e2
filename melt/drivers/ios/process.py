"""melt's app at work. See ``melt.drivers.base.Process``.

What it says is in a file of its run, which it writes and flushes itself. Its stdout only says when to look: so
nothing is lost where stdout is, and while it computes nobody asks the phone for anything but once in seconds.
"""

import contextlib
import json
import threading

from melt.drivers.base import ExitStatus
from melt.drivers.ios.pymd3.container import Container
from melt.drivers.ios.pymd3.instruments import Ended, Instruments
from melt.drivers.output import Output
from melt.drivers.remote.files import safe_name
from melt.errors import DeviceError, MeltError, TransientDeviceError
from melt.spec.events import MAX_LINE_CHARS

DOCUMENTS = "Documents"
JOB, EVENTS, OWN_SAMPLES = "job.json", "events.jsonl", "telemetry.jsonl"  # how a run's files end
_LOOK_S = 3.0  # without a word from stdout
_PART_BYTES = 2**20
_KILL_S = 10.0
_TIDY_S = 3.0
_TOLD_LATE_S = 1.0  # how long the word on an end may take once the process is gone
_SIGNALS = {  # Darwin's
    3: "SIGQUIT",
    4: "SIGILL",
    5: "SIGTRAP",
    6: "SIGABRT",
    8: "SIGFPE",
    9: "SIGKILL",
    10: "SIGBUS",
    11: "SIGSEGV",
    12: "SIGSYS",
    15: "SIGTERM",
}


def file_of(run_id: str, kind: str) -> str:
    """Where the app finds its job or leaves what it has to say, a file a run: two computers have none in common."""
    return f"{DOCUMENTS}/{safe_name(run_id)}.{kind}"


def left_by_runs(container: Container) -> list[str]:
    """Such files in the app's container."""
    names = container.names(DOCUMENTS)
    kinds = (JOB, EVENTS, OWN_SAMPLES)  # alone they are of an app from before a run had files of its own
    return [f"{DOCUMENTS}/{name}" for name in names if name in kinds or name.endswith(tuple(f".{k}" for k in kinds))]


class AppProcess:
    """Follows the file until the app has ended."""

    def __init__(self, container: Container, instruments: Instruments, pid: int, run_id: str) -> None:
        self._container, self._instruments, self._run_id = container, instruments, run_id
        self._events, self._tidied = file_of(run_id, EVENTS), False
        self.pid: int | None = pid
        self._output = Output()
        self._rest = b""
        self._offset = 0
        self._last_line = ""
        self._told: Ended | None = None
        self._failure: MeltError | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, args=(pid,), daemon=True)
        self._thread.start()

    def _follow(self, pid: int) -> None:
        try:
            while True:
                event = self._instruments.next_event(_LOOK_S)
                if isinstance(event, Ended) and event.pid == pid:
                    self._told = event
                    break
                if event is None and not self._instruments.is_running(pid):
                    last = self._instruments.next_event(_TOLD_LATE_S)
                    self._told = last if isinstance(last, Ended) and last.pid == pid else None
                    break
                self._read_on()
            self._read_on()
            if self._rest:
                self._put(self._rest)
        except MeltError as e:
            self._failure = e
        finally:
            self._ended.set()
            self._output.put(None)

    def _read_on(self) -> None:
        while part := self._container.read(self._events, self._offset, _PART_BYTES):
            self._offset += len(part)
            *lines, self._rest = (self._rest + part).split(b"\n")
            for line in lines:
                self._put(line)
            if len(self._rest) > MAX_LINE_CHARS:  # a file without line ends cannot fill the host's memory
                self._put(self._rest[: MAX_LINE_CHARS + 1])
                self._rest = b""

    def _put(self, line: bytes) -> None:
        self._last_line = line.decode(errors="replace").rstrip("\r")
        self._output.put(self._last_line)

    def next_line(self, timeout_s: float) -> str | None:
        """The next line that the app wrote, None at its end; raises TimeoutError."""
        return self._output.next_line(timeout_s)

    def wait(self, timeout_s: float) -> ExitStatus:
        """How it ended, as the phone tells it, or else by the app's last word.

        Raises:
            TimeoutError: it still runs.
            ConnectionLostError: the phone is gone, and how it ended cannot be known.
        """
        if not self._ended.wait(timeout_s):
            raise TimeoutError(f"still running after {timeout_s:.0f} s")
        if self._failure is not None:
            kind = TransientDeviceError if isinstance(self._failure, TransientDeviceError) else DeviceError
            raise kind(self._failure.message, self._failure.hint) from self._failure
        if self._told is None:
            return ExitStatus(0 if _is_done(self._last_line) else None)
        if self._told.signal:
            return ExitStatus(None, _SIGNALS.get(self._told.signal, f"signal {self._told.signal}"))
        return ExitStatus(self._told.code)

    def stderr(self) -> str:
        """What an app writes to stderr goes to the phone's log and is not brought."""
        return self._output.stderr()

    def end_of_input(self) -> None:
        """An app has no stdin; it ends with its job."""

    def kill(self) -> None:
        """Ends it; where the phone is gone it goes on to the end of its job, and the next run ends it."""
        self._output.abandon()
        if not self._ended.is_set() and self.pid is not None:
            try:
                self._instruments.kill(self.pid)
                self._ended.wait(_KILL_S)
            except MeltError:
                pass  # it has ended by itself, or is out of reach
        self._thread.join(_KILL_S)
        self._tidy()

    def _tidy(self) -> None:
        """Once: an iPhone that is out of reach is not waited for, and the next run removes what is left."""
        if not self._tidied:
            self._tidied = True
            with contextlib.suppress(MeltError):
                for path in (self._events, file_of(self._run_id, JOB)):
                    self._container.remove(path, _TIDY_S)


def _is_done(line: str) -> bool:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(event, dict) and event.get("event") == "done" and event.get("status") == "ok"
