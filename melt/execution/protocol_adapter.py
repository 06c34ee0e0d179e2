"""A process that does not speak protocol 1, as one that does."""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from melt.errors import MeltError

if TYPE_CHECKING:
    from melt.drivers.base import ExitStatus, Process

_TIDY_S = 2.0


class ProtocolAdapter:
    """See ``melt.drivers.base.Process``. What a line of stdout means is the backend's word, and which process it is
    that measures: what was started may be a script."""

    def __init__(self, process: "Process", translate: Callable[[str], Sequence[str]]) -> None:
        self._process = process
        self._translate = translate
        self._lines: deque[str] = deque()
        self.pid: int | None = None

    def next_line(self, timeout_s: float) -> str | None:
        """The next line of the protocol, None at the end; raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while not self._lines:
            line = self._process.next_line(max(0.0, deadline - time.monotonic()))
            if line is None:
                return None
            self._lines.extend(self._translate(line))
        return self._lines.popleft()

    def wait(self, timeout_s: float) -> "ExitStatus":
        """How it ended; raises TimeoutError."""
        return self._process.wait(timeout_s)

    def stderr(self) -> str:
        """The last part of what it wrote to stderr."""
        return self._process.stderr()

    def end_of_input(self) -> None:
        """Closes its stdin."""
        self._process.end_of_input()

    def kill(self) -> None:
        """Ends it and all it started; the end of its input first, so that it can leave the device as it was."""
        self._process.end_of_input()
        with contextlib.suppress(TimeoutError, MeltError):
            self._process.wait(_TIDY_S)
        self._process.kill()
