"""Programs on a device from afar: one that is waited for, and one that is followed."""

import contextlib
import threading

from melt.drivers.base import ExitStatus
from melt.drivers.output import Output
from melt.drivers.remote.base import Completed, ConnectionLostError, Deadline, Kind, Remote, exit_status
from melt.errors import DeviceError, MeltError
from melt.spec.events import MAX_LINE_CHARS

_KILL_S = 10.0
_HEARTBEAT_S = 10.0


def run_command(remote: Remote, script: str, timeout_s: float = 30.0, max_bytes: int = 2**26) -> Completed:
    """Runs a script to its end; its input is empty.

    Raises:
        DeviceError: it says more than ``max_bytes``.
        ConnectionLostError: the device does not answer in time, or is gone.
    """
    deadline = Deadline(timeout_s)
    stream = remote.open_shell(script, False, timeout_s)
    out, err = bytearray(), bytearray()
    try:
        with contextlib.suppress(ConnectionLostError):  # a quick command has ended before
            stream.close_input(deadline.left_s())
        while True:
            kind, content = stream.read(deadline.left_s())
            if kind == "exit":
                return Completed(content[0], bytes(out), err.decode(errors="replace"))
            (out if kind == "stdout" else err).extend(content)
            if len(out) + len(err) > max_bytes:
                raise DeviceError(f"{remote.name}: a command's answer is larger than {max_bytes} bytes")
    except TimeoutError as e:
        raise ConnectionLostError(
            f"{remote.name}: no answer within {timeout_s:.0f} s to a command", remote.back_hint
        ) from e
    except ConnectionLostError as e:
        raise ConnectionLostError(f"{remote.name}: the {remote.what} went away in a command", remote.back_hint) from e
    finally:
        stream.close()


class RemoteProcess:
    """A program on a device. See ``melt.drivers.base.Process``.

    Its shell tells its process group first: closing the stream would end the shell only, and the group is what it
    started.
    """

    def __init__(self, remote: Remote, script: str, heartbeat: bool = False) -> None:
        self._remote = remote
        self._stream = remote.open_shell(script, True, _KILL_S)
        self._output = Output()
        self._code: int | None = None
        self._failure: MeltError | None = None
        self._ended = threading.Event()
        self._writing = threading.Lock()
        self._partial: dict[Kind, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._group, pid = self._read_ids()
        self.pid: int | None = pid
        if heartbeat:
            threading.Thread(target=self._beat, daemon=True).start()

    def _read_ids(self) -> tuple[int, int]:
        try:
            line = self.next_line(_KILL_S)
        except TimeoutError as e:
            self._stream.close()
            raise ConnectionLostError(f"{self._remote.name}: no program starts: {e}", self._remote.back_hint) from e
        ids = (line or "").split()
        if len(ids) != 2 or not all(w.isascii() and w.isdigit() for w in ids):
            self._stream.close()
            self._raise_failure()
            raise DeviceError(
                f"{self._remote.name}: its shell begins with {line!r} and not with its process ids",
                "Its login shell prints something first: in its .bashrc, put `[ -t 1 ] &&` before whatever prints.",
            )
        return int(ids[0]), int(ids[1])

    def _read(self) -> None:
        try:
            while self._code is None:
                kind, content = self._stream.read()
                if kind == "exit":
                    self._code = content[0]
                else:
                    self._take(kind, content)
        except (MeltError, OSError) as e:
            self._failure = self._failure or self._lost(e)
        finally:
            for kind, rest in self._partial.items():
                self._put_line(kind, rest)
            self._ended.set()
            self._output.put(None)
            self._stream.close()

    def _lost(self, e: Exception) -> MeltError:
        return e if isinstance(e, MeltError) else ConnectionLostError(str(e), self._remote.back_hint)

    def _take(self, kind: Kind, content: bytes) -> None:
        *lines, last = content.split(b"\n")
        rest = self._partial[kind]
        for line in lines:
            self._put_line(kind, rest + line, whole=True)
            rest.clear()
        rest += last
        while len(rest) > MAX_LINE_CHARS:  # a stream without line ends cannot fill the host's memory
            self._put_line(kind, rest[: MAX_LINE_CHARS + 1])
            del rest[: MAX_LINE_CHARS + 1]

    def _put_line(self, kind: Kind, line: bytes | bytearray, whole: bool = False) -> None:
        if line or whole:
            text = line.decode(errors="replace").rstrip("\r")
            (self._output.put if kind == "stdout" else self._output.put_error)(text)

    def _beat(self) -> None:
        """Tells the program that its host is there, and asks the device whether it is: a link may die in silence."""
        while not self._ended.wait(_HEARTBEAT_S):
            self.tell("")
            try:
                self._remote.check_alive()
            except (MeltError, OSError) as e:
                self._failure = self._failure or self._lost(e)
                self._stream.close()

    def next_line(self, timeout_s: float) -> str | None:
        """The next line of stdout, None at its end; raises TimeoutError."""
        return self._output.next_line(timeout_s)

    def tell(self, text: str) -> None:
        """Writes a line to its stdin; nothing happens where it has already ended."""
        with self._writing, contextlib.suppress(MeltError, OSError):
            self._stream.write(text.encode() + b"\n", _KILL_S)

    def end_of_input(self) -> None:
        """Closes its stdin."""
        with self._writing, contextlib.suppress(MeltError, OSError):
            self._stream.close_input(_KILL_S)

    def wait(self, timeout_s: float) -> ExitStatus:
        """How it ended.

        Raises:
            TimeoutError: it still runs.
            ConnectionLostError: the device is gone, and how it ended cannot be known.
        """
        if not self._ended.wait(timeout_s):
            raise TimeoutError(f"still running after {timeout_s:.0f} s")
        if self._code is None:
            self._raise_failure()
            raise ConnectionLostError(f"the {self._remote.what} went away while a program ran", self._remote.back_hint)
        return exit_status(self._code)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise type(self._failure)(self._failure.message, self._failure.hint)

    def stderr(self) -> str:
        """The last part of what it wrote to stderr."""
        return self._output.stderr()

    def kill(self) -> None:
        """Ends it and all it started; where the device is gone, its watch on stdin does that over there."""
        self._output.abandon()
        if not self._ended.is_set():
            with contextlib.suppress(MeltError, TimeoutError):
                run_command(self._remote, f"kill -9 -{self._group}", _KILL_S)
                self._ended.wait(_KILL_S)
        self._stream.close()
        self._reader.join(_KILL_S)
