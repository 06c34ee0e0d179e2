"""What a program of a device says, kept for whoever reads it: its lines in order, and the last part of its stderr."""

import contextlib
import queue
import threading
from collections import deque

MAX_WAITING_LINES = 50_000
_STDERR_LINES = 200
_STDERR_LINE_CHARS = 4096
_LOOK_S = 0.2


class Output:
    """Filled by a reading thread. One that fills it quicker than it is read has to wait, and its program with it."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_WAITING_LINES)
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._abandoned = threading.Event()

    def put(self, line: str | None) -> None:
        """A line of stdout, or None at its end. Where nobody reads any more a line finds no room and is dropped; the
        end always arrives, as somebody may be waiting for it."""
        while True:
            try:
                return self._lines.put(line, timeout=_LOOK_S)
            except queue.Full:
                if self._abandoned.is_set() and line is not None:
                    return None
                if self._abandoned.is_set():
                    with contextlib.suppress(queue.Empty):
                        self._lines.get_nowait()

    def put_error(self, line: str) -> None:
        """A line of stderr."""
        self._stderr.append(line[:_STDERR_LINE_CHARS])

    def abandon(self) -> None:
        """Nobody reads any more: a filling thread goes on to its end."""
        self._abandoned.set()

    def next_line(self, timeout_s: float) -> str | None:
        """The next line of stdout, None at its end; raises TimeoutError."""
        try:
            return self._lines.get(timeout=timeout_s)
        except queue.Empty as e:
            raise TimeoutError(f"no line for {timeout_s:.0f} s") from e

    def stderr(self) -> str:
        """The last part of stderr."""
        return "\n".join(self._stderr)
