"""Programs over an SSH channel. See ``melt.drivers.remote.base.ShellStream``."""

import contextlib
import queue
import threading
from collections.abc import Callable

import paramiko

from melt.drivers.remote.base import ConnectionLostError, Deadline, Kind, quoted
from melt.drivers.ssh.connect import BACK_HINT, BROKEN

_READ_BYTES = 2**18
_WAITING_PIECES = 64  # beyond, the program has to wait for its reader
_KILLED = 128 + 9
_LOOK_S = 0.2


def command_line(script: str, group_and_pid: bool) -> str:
    """The script for whatever shell the user logs in with.

    sshd makes that shell the leader of a session, and it becomes the outer sh, whose id is the group's. The script
    has a shell of its own, so that its end by a signal comes back as an exit code: paramiko does not tell signals.
    """
    if group_and_pid:
        script = f"sh -c {quoted(f'echo $PPID $$; {script}')}; exit $?"
    return f"exec /bin/sh -c {quoted(script)}"


class SshShell:
    """One channel, read by two threads, as stdout and stderr cannot be waited for at once."""

    def __init__(self, channel: paramiko.Channel, command: str) -> None:
        self._channel = channel
        self._pieces: queue.Queue[tuple[Kind, bytes] | None] = queue.Queue(_WAITING_PIECES)
        self._closed = threading.Event()
        channel.settimeout(None)
        channel.exec_command(command)
        self._errors = threading.Thread(target=self._read, args=("stderr", channel.recv_stderr), daemon=True)
        self._errors.start()
        threading.Thread(target=self._read_to_the_end, daemon=True).start()

    def _read(self, kind: Kind, receive: Callable[[int], bytes]) -> None:
        with contextlib.suppress(OSError, paramiko.SSHException):
            while data := receive(_READ_BYTES):
                self._put((kind, data))

    def _read_to_the_end(self) -> None:
        self._read("stdout", self._channel.recv)
        self._errors.join()
        code = self._channel.recv_exit_status()
        transport = self._channel.get_transport()
        # Of a program that a signal ended the server closes the output; a broken link closes the channel without that,
        # a moment before the transport is known to be gone.
        if code < 0 and (not self._channel.eof_received or transport is None or not transport.is_active()):
            self._put(None)
        else:
            self._put(("exit", bytes([_KILLED if code < 0 else code & 0xFF])))

    def _put(self, piece: tuple[Kind, bytes] | None) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                return self._pieces.put(piece, timeout=_LOOK_S)
        return None

    def read(self, timeout_s: float | None = None) -> tuple[Kind, bytes]:
        """A piece of what the script says, or its exit code."""
        deadline = Deadline(timeout_s)
        while True:
            left = deadline.left_s()
            if self._closed.is_set():
                raise ConnectionLostError("the program was let go", BACK_HINT)
            try:
                piece = self._pieces.get(timeout=_LOOK_S if left is None else min(left, _LOOK_S))
            except queue.Empty:
                if left is not None and left <= 0:
                    raise TimeoutError(f"the device did not answer within {timeout_s:.0f} s") from None
                continue
            if piece is None:
                raise ConnectionLostError("the connection to the device broke", BACK_HINT)
            return piece

    def write(self, data: bytes, timeout_s: float | None = None) -> None:
        """More for its stdin."""
        self._channel.settimeout(timeout_s)
        try:
            self._channel.sendall(data)
        except TimeoutError:
            raise
        except BROKEN as e:
            raise ConnectionLostError(f"the program takes no more: {e or type(e).__name__}", BACK_HINT) from e
        finally:
            self._channel.settimeout(None)

    def close_input(self, timeout_s: float | None = None) -> None:
        """Its stdin ends."""
        with contextlib.suppress(OSError, EOFError):
            self._channel.shutdown_write()

    def close(self) -> None:
        """Lets it go."""
        self._closed.set()
        with contextlib.suppress(*BROKEN):
            self._channel.close()
