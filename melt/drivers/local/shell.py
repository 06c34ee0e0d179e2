"""Programs of this machine. See ``melt.drivers.remote.base.ShellStream``."""

import contextlib
import os
import selectors
import signal
import subprocess
import threading
from collections.abc import Mapping

from melt.drivers.remote.base import ConnectionLostError, Deadline, Kind

_READ_BYTES = 2**16
_END_S = 5.0


class LocalShell:
    """A child that leads a session of its own, so that its process id is its group's."""

    def __init__(self, script: str, group_and_pid: bool, env: Mapping[str, str]) -> None:
        self._is_program = group_and_pid
        script = f"echo $$ $$; {script}" if group_and_pid else script
        self._child = subprocess.Popen(
            ["/bin/sh", "-c", script],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            start_new_session=True,
        )
        self._closed = threading.Event()
        self._reading = threading.Lock()
        self._woken, self._wake = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        for kind, pipe in (("stdout", self._child.stdout), ("stderr", self._child.stderr)):
            assert pipe is not None
            self._selector.register(pipe, selectors.EVENT_READ, kind)
        self._open_pipes = 2

    def read(self, timeout_s: float | None = None) -> tuple[Kind, bytes]:
        """A piece of what the script says, or its exit code."""
        deadline = Deadline(timeout_s)
        with self._reading:
            while not self._closed.is_set():
                if self._open_pipes == 0:
                    return "exit", bytes([self._exit_code(deadline.left_s())])
                ready = [key for key, _ in self._selector.select(deadline.left_s()) if key.data]
                if not ready and not self._closed.is_set():
                    raise TimeoutError(f"the program said nothing for {timeout_s or 0:.0f} s")
                for key in ready:
                    if data := os.read(key.fd, _READ_BYTES):
                        return key.data, data
                    self._selector.unregister(key.fileobj)
                    self._open_pipes -= 1
        raise ConnectionLostError("the program was let go")

    def _exit_code(self, timeout_s: float | None) -> int:
        """As a shell has it: 128 and more for a signal. What a program leaves running is ended with it."""
        if self._is_program:
            os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)  # the group keeps its number until it is read
            self._kill_group()
        try:
            code = self._child.wait(timeout_s)
        except subprocess.TimeoutExpired as e:
            raise TimeoutError(f"the program did not end within {timeout_s:.0f} s") from e
        return 128 - code if code < 0 else code & 0xFF

    def _kill_group(self) -> None:
        if self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def write(self, data: bytes, timeout_s: float | None = None) -> None:
        """More for its stdin, whose pipe has room for what melt ever says."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(data)
        except (OSError, ValueError) as e:
            raise ConnectionLostError(f"the program takes no more: {e}") from e

    def close_input(self, timeout_s: float | None = None) -> None:
        """Its stdin ends."""
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()

    def close(self) -> None:
        """Ends it and all it started."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._kill_group()
        os.write(self._wake, b"\0")
        with self._reading:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(_END_S)
            self.close_input()
            self._selector.close()
            for pipe in (self._child.stdout, self._child.stderr):
                assert pipe is not None
                pipe.close()
            os.close(self._woken)
            os.close(self._wake)
