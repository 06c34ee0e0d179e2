"""The event stream: one JSON object a line on the stdout that the runner was started with."""

import json
import os
import select
import sys
from typing import Any


class JobError(Exception):
    """The run cannot go on; becomes the ``error`` event."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class Channel:
    """Owns the real stdout and points file descriptor 1 at stderr.

    An engine that prints to stdout from C then cannot spoil the stream.
    """

    def __init__(self) -> None:
        sys.stdout.flush()
        self._fd = os.dup(1)
        os.dup2(2, 1)

    def send(self, event: str, **fields: Any) -> None:
        """Writes one event, whole; where the host's end is gone, there is nobody to tell and the process ends."""
        self.write({"event": event, **fields})

    def write(self, told: dict[str, Any]) -> None:
        """An object as a line."""
        data = (json.dumps(told, separators=(",", ":"), allow_nan=False) + "\n").encode()
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                select.select([], [self._fd], [])
            except OSError as e:
                print(f"melt-runner: the event stream cannot be written: {e.strerror}", file=sys.stderr, flush=True)
                os._exit(3)
