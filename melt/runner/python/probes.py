"""What the sampler reads: a file, a program's output, or each line of a program that goes on."""

import contextlib
import json
import os
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import clock
from inventory import read_whole

EXEC_TIMEOUT_S = 5.0
READ_BYTES = 4096  # a file of sysfs is never larger
READ_LINES_BYTES = 262_144
FLOOD_WINDOW_NS, FLOOD_LINES, FLOOD_BYTES = 1_000_000_000, 1000, 2**20

Spec = dict[str, Any]


class ProbeError(Exception):
    """A probe that gave no text, with a short stable reason."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error


class FileProbe:
    """A file kept open and read from its start each time."""

    def __init__(self, spec: Spec, path: str) -> None:
        self.name = spec["name"]
        self.head = f',"probe":{json.dumps(self.name)},"raw":'
        self.path = Path(path)
        self.lines = tuple(line.encode() for line in spec.get("lines") or ())
        self.fd = -1
        self.retry_at_ns = 0
        self.failing = False
        self.tells, self.tell_at_ns = bool(spec.get("tell")), 0

    def read(self) -> bytes:
        """The file's text as bytes; raises OSError or ProbeError."""
        if self.fd < 0:
            self._open()
        if not self.lines:
            return os.pread(self.fd, READ_BYTES, 0).rstrip(b"\n")
        text = read_whole(self.fd, READ_LINES_BYTES)
        return _only(text, self.lines)

    def _open(self) -> None:
        # Pipes and device nodes could block or act on being read.
        if not stat.S_ISREG(self.path.stat().st_mode):
            raise ProbeError("EINVAL", "not a regular file")
        self.fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self) -> None:
        """Lets the file go; the next read opens it again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _only(text: bytes, begins: tuple[bytes, ...]) -> bytes:
    return b"\n".join(line for line in text.split(b"\n") if line.startswith(begins))


class ExecProbe:
    """A program run each time for its output."""

    def __init__(self, spec: Spec) -> None:
        self.name = spec["name"]
        self.head = f',"probe":{json.dumps(self.name)},"raw":'
        self.argv = [str(a) for a in spec["exec"]]
        self.period_ns = int(spec["period_ms"]) * 1_000_000
        self.lines = tuple(line.encode() for line in spec.get("lines") or ())
        self.retry_at_ns = 0
        self.failing = False
        self.tells, self.tell_at_ns = bool(spec.get("tell")), 0

    def read(self) -> bytes:
        """The program's stdout; raises OSError or ProbeError."""
        process = subprocess.Popen(
            self.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(timeout=EXEC_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise ProbeError("ETIMEDOUT", f"took longer than {EXEC_TIMEOUT_S:g} s") from None
        if process.returncode != 0:
            raise ProbeError(f"EXIT{process.returncode}", f"exit status {process.returncode}")
        text = out[:READ_LINES_BYTES].rstrip(b"\n")
        return _only(text, self.lines) if self.lines else text

    def close(self) -> None:
        """Nothing is kept open."""


class StreamProbe:
    """A program that goes on, and whose every line is a sample."""

    def __init__(self, spec: Spec) -> None:
        self.name = spec["name"]
        self.head = f',"probe":{json.dumps(self.name)},"raw":'
        self.argv = [str(a) for a in spec["stream"]]
        self.begins = tuple(line.encode() for line in spec.get("lines") or ())
        self.retry_at_ns = 0
        self.failing = False
        self.tells, self.tell_at_ns = bool(spec.get("tell")), 0
        self.process: subprocess.Popen[bytes] | None = None
        self.is_rest = False
        self.window_ns = self.n_lines = self.n_bytes = 0

    def start(self) -> None:
        """Starts it; raises OSError."""
        self.process = subprocess.Popen(
            self.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def read(self) -> bytes:
        """The next line, whenever it comes; raises ProbeError at its end, and where it floods: it would disturb the
        model."""
        assert self.process is not None
        assert self.process.stdout is not None
        while line := self.process.stdout.readline(READ_BYTES):
            self._count(line)
            text = line.rstrip(b"\n")
            is_rest, self.is_rest = self.is_rest, not line.endswith(b"\n")  # a line without end is cut
            if text and not is_rest and (not self.begins or text.startswith(self.begins)):
                return text
        raise ProbeError(f"EXIT{self.process.wait()}", "ended by itself")

    def _count(self, line: bytes) -> None:
        now_ns = clock.now_ns()
        if now_ns - self.window_ns > FLOOD_WINDOW_NS:
            self.window_ns, self.n_lines, self.n_bytes = now_ns, 0, 0
        self.n_lines += 1
        self.n_bytes += len(line)
        if self.n_lines > FLOOD_LINES or self.n_bytes > FLOOD_BYTES:
            self.kill()
            raise ProbeError("EOVERFLOW", "says more than a thousand lines or a MiB a second")

    def kill(self) -> None:
        """Ends it, from any thread: who reads it comes to its end."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Ends it, from the thread that reads it."""
        self.kill()
        if self.process is not None:
            self.process.communicate()
            self.process = None


Probe = FileProbe | ExecProbe | StreamProbe
