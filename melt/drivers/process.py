"""A program on this host as a ``Process``: its lines with a deadline, its whole group ended together."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import IO

from melt.drivers.base import ExitStatus
from melt.drivers.output import Output
from melt.spec.events import MAX_LINE_CHARS

_KILL_WAIT_S = 5.0


class HostProcess:
    """A child in its own process group, whose stdin stays open for as long as the host lives."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._child = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        self.pid: int | None = self._child.pid
        self._output = Output()
        self._readers = [
            threading.Thread(target=self._read_stdout, args=(self._child.stdout,), daemon=True),
            threading.Thread(target=self._read_stderr, args=(self._child.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_stdout(self, stream: IO[bytes]) -> None:
        # A line longer than any event is cut, so that a stream without line ends cannot fill the host's memory.
        while line := stream.readline(MAX_LINE_CHARS + 2):
            self._output.put(line.decode(errors="replace").rstrip("\r\n"))
        self._output.put(None)

    def _read_stderr(self, stream: IO[bytes]) -> None:
        while line := stream.readline(MAX_LINE_CHARS):
            self._output.put_error(line.decode(errors="replace").rstrip("\r\n"))

    def next_line(self, timeout_s: float) -> str | None:
        """The next line of stdout, None at its end; raises TimeoutError."""
        return self._output.next_line(timeout_s)

    def tell(self, text: str) -> None:
        """Writes a line to its stdin; nothing happens where it has already ended."""
        if self._child.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                self._child.stdin.write(text.encode() + b"\n")
                self._child.stdin.flush()

    def end_of_input(self) -> None:
        """Closes its stdin."""
        if self._child.stdin is not None:
            with contextlib.suppress(OSError):
                self._child.stdin.close()

    def wait(self, timeout_s: float) -> ExitStatus:
        """How it ended; raises TimeoutError."""
        try:
            code = self._child.wait(timeout_s)
        except subprocess.TimeoutExpired as e:
            raise TimeoutError(f"still running after {timeout_s:.0f} s") from e
        for reader in self._readers:
            reader.join(_KILL_WAIT_S)
        if code >= 0:
            return ExitStatus(code)
        try:
            return ExitStatus(None, signal.Signals(-code).name)
        except ValueError:
            return ExitStatus(None, f"signal {-code}")

    def stderr(self) -> str:
        """The last part of what it wrote to stderr."""
        return self._output.stderr()

    def kill(self) -> None:
        """Ends it and all it started; safe to call when it has already ended."""
        self._output.abandon()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_KILL_WAIT_S)
        self.end_of_input()
        for reader in self._readers:
            reader.join(_KILL_WAIT_S)
        for stream in (self._child.stdout, self._child.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
