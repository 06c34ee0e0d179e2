"""Programs on a phone by the shell protocol, version 2: exit codes, and stderr apart from stdout.

Protocol: SHELL.TXT and shell_protocol.h of Android's adb. A packet is an id, a length and so many bytes.
"""

import contextlib
import shlex
import struct
import threading
from dataclasses import dataclass
from signal import Signals

from melt.drivers.adb import sync
from melt.drivers.adb.stream import GONE_HINT, Connection, ConnectionLostError, Deadline, Stream
from melt.drivers.base import ExitStatus
from melt.drivers.output import Output
from melt.errors import DeviceError, MeltError
from melt.events import MAX_LINE_CHARS

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
_MAX_PACKET_BYTES = 2**24
_READ_BYTES = 2**18
_KILL_S = 10.0
_HEARTBEAT_S = 10.0
SIGN_OF_LIFE_S = 10.0
NEEDED = "shell_v2"


class ShellPackets:
    """Cuts a stream into the shell protocol's packets, in whatever pieces it arrives."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The packets that are whole now.

        Raises:
            DeviceError: a length that no packet has.
        """
        self._rest += data
        found, at = [], 0
        while len(self._rest) - at >= 5:
            kind, size = struct.unpack_from("<BI", self._rest, at)
            if size > _MAX_PACKET_BYTES:
                raise DeviceError(f"the phone's shell sent a packet of {size} bytes", "Restart it, and try again.")
            if len(self._rest) - at - 5 < size:
                break
            found.append((kind, bytes(self._rest[at + 5 : at + 5 + size])))
            at += 5 + size
        del self._rest[:at]
        return found


def packet(kind: int, data: bytes = b"") -> bytes:
    """One packet for the phone."""
    return struct.pack("<BI", kind, len(data)) + data


@dataclass(frozen=True)
class Completed:
    """A command that has ended by itself."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """What it wrote to stdout."""
        return self.stdout.decode(errors="replace")


def open_shell(connection: Connection, script: str, timeout_s: float = 10.0) -> Stream:
    """Starts a shell with this script.

    Raises:
        DeviceError: the phone is older than Android 7 and has no version 2.
    """
    if NEEDED not in connection.features:
        raise DeviceError(
            f"{connection.name}: its adb has no {NEEDED} (before Android 7)", "melt cannot measure on such a phone."
        )
    return connection.open(f"shell,v2,raw:{script}", timeout_s)


def run_command(connection: Connection, script: str, timeout_s: float = 30.0, max_bytes: int = 2**26) -> Completed:
    """Runs a script to its end; its input is empty.

    Raises:
        DeviceError: it says more than ``max_bytes``.
        ConnectionLostError: the phone does not answer in time, or is gone.
    """
    deadline = Deadline(timeout_s)
    stream = open_shell(connection, script, timeout_s)
    out, err, packets = bytearray(), bytearray(), ShellPackets()
    try:
        with contextlib.suppress(ConnectionLostError):  # a quick command has ended before
            stream.write(packet(CLOSE_STDIN), deadline.left_s())
        while True:
            data = stream.read(_READ_BYTES, deadline.left_s())
            if not data:
                raise ConnectionLostError(f"{connection.name}: the phone went away in a command", GONE_HINT)
            for kind, content in packets.feed(data):
                if kind == STDOUT:
                    out += content
                elif kind == STDERR:
                    err += content
                elif kind == EXIT:
                    return Completed(content[0] if content else 255, bytes(out), err.decode(errors="replace"))
            if len(out) + len(err) > max_bytes:
                raise DeviceError(f"{connection.name}: a command's answer is larger than {max_bytes} bytes")
    except TimeoutError as e:
        raise ConnectionLostError(
            f"{connection.name}: no answer within {timeout_s:.0f} s to a command", GONE_HINT
        ) from e
    finally:
        stream.close()


class AdbProcess:
    """A program on the phone. See ``melt.drivers.base.Process``.

    The shell says its own process id first and then, where the caller's script says ``exec``, becomes the
    program: closing the stream would end the shell only. adbd makes it the leader of a session, so that its
    whole group can be ended.
    """

    def __init__(self, connection: Connection, script: str, heartbeat: bool = False) -> None:
        self._connection = connection
        self._stream = open_shell(connection, f"echo $$; {script}")
        self._output = Output()
        self._code: int | None = None
        self._failure: MeltError | None = None
        self._ended = threading.Event()
        self._writing = threading.Lock()
        self._partial = {STDOUT: bytearray(), STDERR: bytearray()}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.pid: int | None = self._read_pid()
        if heartbeat:
            threading.Thread(target=self._beat, daemon=True).start()

    def _read_pid(self) -> int:
        try:
            line = self.next_line(_KILL_S)
        except TimeoutError as e:
            self._stream.close()
            raise ConnectionLostError(f"{self._connection.name}: no program starts: {e}", GONE_HINT) from e
        if line is None or not line.strip().isdigit():
            self._stream.close()
            self._raise_failure()
            raise DeviceError(f"{self._connection.name}: its shell begins with {line!r} and not with its process id")
        return int(line)

    def _read(self) -> None:
        packets = ShellPackets()
        try:
            while self._code is None:
                data = self._stream.read(_READ_BYTES)
                if not data:
                    raise ConnectionLostError("the phone went away while a program ran", GONE_HINT)
                for kind, content in packets.feed(data):
                    self._take(kind, content)
        except (MeltError, OSError) as e:
            lost = e if isinstance(e, MeltError) else ConnectionLostError(str(e), GONE_HINT)
            self._failure = self._failure or lost
        finally:
            for kind, rest in self._partial.items():
                self._put_line(kind, rest)
            self._ended.set()
            self._output.put(None)
            self._stream.close()

    def _take(self, kind: int, content: bytes) -> None:
        if kind == EXIT:
            self._code = content[0] if content else 255
        elif kind in self._partial:
            *lines, last = content.split(b"\n")
            rest = self._partial[kind]
            for line in lines:
                self._put_line(kind, rest + line, whole=True)
                rest.clear()
            rest += last
            while len(rest) > MAX_LINE_CHARS:  # a stream without line ends cannot fill the host's memory
                self._put_line(kind, rest[: MAX_LINE_CHARS + 1])
                del rest[: MAX_LINE_CHARS + 1]

    def _put_line(self, kind: int, line: bytes | bytearray, whole: bool = False) -> None:
        if line or whole:
            text = line.decode(errors="replace").rstrip("\r")
            (self._output.put if kind == STDOUT else self._output.put_error)(text)

    def _beat(self) -> None:
        """Tells the program that its host is there, and asks the phone whether it is: a link may die in silence.

        adbd answers for a file's size by itself, without starting a program that the measurement would see.
        """
        while not self._ended.wait(_HEARTBEAT_S):
            self.tell("")
            try:
                sync.size_bytes(self._connection, "/", SIGN_OF_LIFE_S)
            except (MeltError, OSError) as e:
                self._failure = self._failure or (e if isinstance(e, MeltError) else ConnectionLostError(str(e)))
                self._stream.close()

    def next_line(self, timeout_s: float) -> str | None:
        """The next line of stdout, None at its end; raises TimeoutError."""
        return self._output.next_line(timeout_s)

    def tell(self, text: str) -> None:
        """Writes a line to its stdin; nothing happens where it has already ended."""
        self._write(packet(STDIN, text.encode() + b"\n"))

    def end_of_input(self) -> None:
        """Closes its stdin."""
        self._write(packet(CLOSE_STDIN))

    def _write(self, data: bytes) -> None:
        with self._writing, contextlib.suppress(MeltError, OSError):
            self._stream.write(data, _KILL_S)

    def wait(self, timeout_s: float) -> ExitStatus:
        """How it ended.

        Raises:
            TimeoutError: it still runs.
            ConnectionLostError: the phone is gone, and how it ended cannot be known.
        """
        if not self._ended.wait(timeout_s):
            raise TimeoutError(f"still running after {timeout_s:.0f} s")
        if self._code is None:
            self._raise_failure()
            raise ConnectionLostError("the phone went away while a program ran", GONE_HINT)
        return exit_status(self._code)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise type(self._failure)(self._failure.message, self._failure.hint)

    def stderr(self) -> str:
        """The last part of what it wrote to stderr."""
        return self._output.stderr()

    def kill(self) -> None:
        """Ends it and all it started; where the phone is gone, its watch on stdin does that over there."""
        self._output.abandon()
        if not self._ended.is_set():
            with contextlib.suppress(MeltError, TimeoutError):
                run_command(self._connection, f"kill -9 -{self.pid}", _KILL_S)
                self._ended.wait(_KILL_S)
        self._stream.close()
        self._reader.join(_KILL_S)


def exit_status(code: int) -> ExitStatus:
    """adbd gives a program's end by a signal as 128 and its number."""
    if code > 128:
        with contextlib.suppress(ValueError):
            return ExitStatus(None, Signals(code - 128).name)
    return ExitStatus(code)


def quoted(*words: str) -> str:
    """Words as one shell takes them, whatever they hold."""
    return " ".join(shlex.quote(w) for w in words)
