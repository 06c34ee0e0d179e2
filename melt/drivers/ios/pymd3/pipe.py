"""What melt and a worker process of its own say to each other: lines of JSON, some with an open file beside them.

The host asks, the worker answers, one question at a time. It ends when either end is closed, as it is by whoever dies.

    {"open": udid, "name": what messages call the iPhone}       {"address": of the iPhone in the tunnel, "services": {}}
    {"connect": port} and one end of a pair of sockets          {"connected": port}
    any                                                         {"error": kind, "message": , "hint": }
"""

import contextlib
import json
import socket
from collections.abc import Mapping
from typing import Any

from melt.drivers.remote.base import ConnectionLostError
from melt.errors import DeviceError, MeltError, TransientDeviceError

_MAX_LINE_BYTES = 2**20
_PART_BYTES = 65536
_KINDS: dict[str, type[MeltError]] = {
    "lost": ConnectionLostError,
    "transient": TransientDeviceError,
    "device": DeviceError,
}


class Pipe:
    """One end. For one thread at a time, but for ``close``."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._rest = b""
        self._files: list[int] = []

    def send(self, message: Mapping[str, Any], file: int | None = None) -> None:
        """Raises OSError where the other end is gone. The file stays the sender's, too."""
        line = json.dumps(message).encode() + b"\n"
        sent = socket.send_fds(self._end, [line], [] if file is None else [file])
        self._end.sendall(line[sent:])

    def receive(self) -> tuple[dict[str, Any], int | None]:
        """The next message, and the file that came with it, which is the receiver's now.

        Raises:
            EOFError: the other end is gone.
            ValueError: it is no message.
            TimeoutError: none came in the time that the socket allows.
        """
        while b"\n" not in self._rest:
            if len(self._rest) > _MAX_LINE_BYTES:
                raise ValueError("a line without an end")
            data, files, _flags, _address = socket.recv_fds(self._end, _PART_BYTES, 1)
            self._files += files
            if not data:
                raise EOFError
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError("a message that is no object")
        return message, self._files.pop() if self._files else None

    def close(self) -> None:
        """The other end hears of it; so does a thread that waits at this one."""
        with contextlib.suppress(OSError):  # the other end may be gone already
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()


def told_error(error: MeltError) -> dict[str, str]:
    """An error as a message."""
    kind = next((k for k, of in _KINDS.items() if isinstance(error, of)), "device")
    return {"error": kind, "message": error.message, "hint": error.hint}


def check(message: Mapping[str, Any]) -> None:
    """Raises the error that a message tells, if it does."""
    if "error" in message:
        kind = _KINDS.get(str(message["error"]), DeviceError)
        raise kind(str(message.get("message", "")), str(message.get("hint", "")))
