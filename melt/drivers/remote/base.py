"""A device's shell and files from afar: the Remote protocol, which adb and SSH fill in, and its nouns."""

import contextlib
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import BinaryIO, Literal, Protocol

from melt.drivers.base import ExitStatus
from melt.errors import TransientDeviceError

Kind = Literal["stdout", "stderr", "exit"]
# The hash of stdin, in hex, as the first word: openssl uses the processor's instructions for it, few sha256sum do.
SHA256 = "{ openssl dgst -sha256 -r 2>/dev/null || sha256sum; }"
Sent = Callable[[int], None]  # bytes so far


class ConnectionLostError(TransientDeviceError):
    """The way to the device broke, at its end or at ours."""


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


class ShellStream(Protocol):
    """One script at work in a shell of the device."""

    def read(self, timeout_s: float | None = None) -> tuple[Kind, bytes]:
        """A piece of what it says; as its last one "exit" and the exit code as a byte, 128 and more for a signal.

        Raises:
            TimeoutError: nothing came in time.
            ConnectionLostError: the device is gone.
        """
        ...

    def write(self, data: bytes, timeout_s: float | None = None) -> None:
        """More for its stdin; raises what ``read`` raises."""
        ...

    def close_input(self, timeout_s: float | None = None) -> None:
        """Its stdin ends."""
        ...

    def close(self) -> None:
        """Lets it go, and ends a read that waits in another thread; safe to call again."""
        ...


class Remote(Protocol):
    """A connected device. Its methods may be called from several threads."""

    name: str  # what messages call it: the profile's name
    what: str  # what people call it: phone, board
    back_hint: str  # how to get at it again once it is gone
    appends: bool  # whether ``send`` can go on where an earlier one stopped
    input_ends_with_host: bool  # a program's stdin ends when this host dies; a link may die in silence

    def open_shell(self, script: str, group_and_pid: bool, timeout_s: float) -> ShellStream:
        """Starts a shell with this script.

        Args:
            script: for a POSIX shell.
            group_and_pid: first of all its process group and process id on a line of stdout. The group is that of
                all it starts, and the id that of a program which the script becomes by ``exec``.
            timeout_s: for the start.

        Raises:
            DeviceError: the device refuses it.
            ConnectionLostError: the device is gone.
        """
        ...

    def check_alive(self) -> None:
        """Raises ConnectionLostError where the device gives no sign of life; starts no program on it."""
        ...

    def size_bytes(self, path: str) -> int | None:
        """The size of a file; None where there is none."""
        ...

    def send(self, content: BinaryIO, path: str, mode: int, sent: Sent = ..., offset: int = 0) -> None:
        """Writes a file; what of the content is below the offset is there already.

        Raises:
            DeviceError: the device refuses it, or its disk is full.
            ConnectionLostError: the device went away; a part of the file may be there.
        """
        ...

    def receive_file(self, path: str, destination: Path) -> None:
        """Brings a file, whole or not at all; raises OSError where the host cannot write it."""
        ...

    def close(self) -> None:
        """Lets the device go."""
        ...


class Deadline:
    """What is left of a time-out that several waits share."""

    def __init__(self, timeout_s: float | None) -> None:
        self._end = None if timeout_s is None else time.monotonic() + timeout_s

    def left_s(self) -> float | None:
        """Seconds, never below zero; None without a limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())


def exit_status(code: int) -> ExitStatus:
    """A shell gives a program's end by a signal as 128 and its number."""
    if code > 128:
        with contextlib.suppress(ValueError):
            return ExitStatus(None, Signals(code - 128).name)
    return ExitStatus(code)


def quoted(*words: str) -> str:
    """Words as one shell takes them, whatever they hold."""
    return " ".join(shlex.quote(w) for w in words)


def last_words(done: Completed) -> str:
    """What a command said last, or its exit code."""
    lines = (done.stderr.strip() or done.text.strip()).splitlines()
    return lines[-1][:300] if lines else f"exit code {done.code}"
