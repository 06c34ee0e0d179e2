"""One stream of a direct connection, with adb's own flow control: one packet each way that is not acknowledged."""

import contextlib
import queue
import threading
from typing import Protocol

from melt.drivers.adb.packets import Packet
from melt.drivers.adb.stream import GONE_HINT
from melt.drivers.remote.base import ConnectionLostError, Deadline
from melt.errors import MeltError

_MAX_UNREAD = 4  # packets of one stream; adb's flow control allows one


class Carrier(Protocol):
    """The connection, as its streams see it."""

    name: str
    max_data: int
    lost: MeltError | None

    def send(self, packet: Packet, timeout_s: float | None = ...) -> None:
        """One packet, whole; raises ConnectionLostError."""
        ...

    def forget(self, channel: "Channel") -> None:
        """No packet goes to this stream any more."""
        ...


class Channel:
    """One stream of a connection. See ``melt.drivers.adb.stream.Stream``."""

    def __init__(self, connection: Carrier, local_id: int) -> None:
        self._connection = connection
        self.local_id = local_id
        self.remote_id: int | None = None
        self._incoming: queue.Queue[bytes | None] = queue.Queue()
        self._rest = b""
        self._ready = threading.Event()  # the phone has taken our last packet
        self._closed = False

    def take(self, packet: Packet) -> None:
        """A packet for this stream; called by the connection's thread."""
        if packet.command == b"OKAY":
            self.remote_id = packet.arg0 if self.remote_id is None else self.remote_id
            self._ready.set()
        elif packet.command == b"WRTE":
            if self._incoming.qsize() >= _MAX_UNREAD:
                raise ConnectionLostError(f"{self._connection.name}: sends without being asked", GONE_HINT)
            self._incoming.put(packet.data)
        elif packet.command == b"CLSE":
            self.end()

    def end(self) -> None:
        """Nothing more comes."""
        self._closed = True
        self._incoming.put(None)
        self._ready.set()

    def wait_open(self, timeout_s: float) -> None:
        """Until the phone has accepted or refused it; raises TimeoutError."""
        if not self._ready.wait(timeout_s):
            raise TimeoutError(f"no answer within {timeout_s:.0f} s")

    def read(self, max_bytes: int, timeout_s: float | None = None) -> bytes:
        """See ``Stream``."""
        if not self._rest:
            try:
                data = self._incoming.get(timeout=timeout_s)
            except queue.Empty as e:
                raise TimeoutError(f"the device did not answer within {timeout_s:.0f} s") from e
            if data is None:
                self._incoming.put(None)  # for whoever else reads
                self._raise_if_lost()
                return b""
            self._rest = data
            if not self._closed:
                self._connection.send(Packet(b"OKAY", self.local_id, self.remote_id or 0))
        content, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return content

    def write(self, data: bytes | memoryview, timeout_s: float | None = None) -> None:
        """See ``Stream``."""
        view, deadline = memoryview(data), Deadline(timeout_s)
        for at in range(0, len(view), self._connection.max_data):
            if not self._ready.wait(deadline.left_s()):
                raise TimeoutError(f"the device took no data within {timeout_s:.0f} s")
            if self._closed:
                self._raise_if_lost()
                raise ConnectionLostError(f"{self._connection.name}: the phone ended the stream", GONE_HINT)
            self._ready.clear()
            part = bytes(view[at : at + self._connection.max_data])
            self._connection.send(Packet(b"WRTE", self.local_id, self.remote_id or 0, part), timeout_s)

    def readable(self) -> bool:
        """See ``Stream``."""
        return bool(self._rest) or not self._incoming.empty()

    def close(self) -> None:
        """See ``Stream``."""
        self._connection.forget(self)
        if not self._closed and self.remote_id is not None:
            with contextlib.suppress(MeltError, OSError):
                self._connection.send(Packet(b"CLSE", self.local_id, self.remote_id))
        self.end()

    def _raise_if_lost(self) -> None:
        lost = self._connection.lost
        if lost is not None:
            raise type(lost)(lost.message, lost.hint)
