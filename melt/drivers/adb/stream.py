"""Two-way streams of bytes to services on a device, and the connectors that open them."""

import contextlib
import select
import socket
from typing import Protocol

from melt.drivers.remote.base import ConnectionLostError, Deadline

GONE_HINT = "Check the cable or the network, and `adb devices`; the same command goes on where it stopped."


class Link(Protocol):
    """Bytes to and from somewhere. Reading and writing may go on in two threads."""

    def read(self, max_bytes: int, timeout_s: float | None = None) -> bytes:
        """At least one byte; none at the orderly end.

        Raises:
            TimeoutError: nothing came in time.
            ConnectionLostError: the way to the device broke.
        """
        ...

    def write(self, data: bytes | memoryview, timeout_s: float | None = None) -> None:
        """Takes all of the data; raises what ``read`` raises."""
        ...

    def close(self) -> None:
        """Ends it, and a read that waits in another thread; safe to call again."""
        ...


class Stream(Link, Protocol):
    """One service on the device."""

    def readable(self) -> bool:
        """Whether ``read`` would give something now, its end included."""
        ...


class Connection(Protocol):
    """A device that can be spoken to."""

    name: str  # what messages call the phone: results are shared, and its serial is no part of them
    features: frozenset[str]

    def open(self, service: str, timeout_s: float = 10.0) -> Stream:
        """Starts a service, "shell,v2,raw:ls" or "sync:".

        Raises:
            DeviceError: the device refuses it.
            ConnectionLostError: the device is not there any more.
        """
        ...

    def close(self) -> None:
        """Ends every stream."""
        ...


def read_exactly(link: Link, size: int, timeout_s: float | None = None) -> bytes:
    """That many bytes; raises TimeoutError, or ConnectionLostError where the stream ends before."""
    parts = bytearray()
    deadline = Deadline(timeout_s)
    while len(parts) < size:
        part = link.read(size - len(parts), deadline.left_s())
        if not part:
            raise ConnectionLostError("the device ended the connection", GONE_HINT)
        parts += part
    return bytes(parts)


class SocketStream:
    """A TCP socket as a stream. The socket itself stays blocking: a time-out of its own would hold for both ways."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        with contextlib.suppress(OSError):  # not a TCP socket
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(None)

    def read(self, max_bytes: int, timeout_s: float | None = None) -> bytes:
        """See ``Stream``."""
        self._wait(select.POLLIN, timeout_s)
        try:
            return self._socket.recv(max_bytes)
        except OSError as e:
            raise _lost(e) from e

    def write(self, data: bytes | memoryview, timeout_s: float | None = None) -> None:
        """See ``Stream``."""
        rest, deadline = memoryview(data), Deadline(timeout_s)
        while rest:
            self._wait(select.POLLOUT, deadline.left_s())
            try:
                rest = rest[self._socket.send(rest, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                continue
            except OSError as e:
                raise _lost(e) from e

    def readable(self) -> bool:
        """See ``Stream``."""
        return bool(self._poll(select.POLLIN, 0))

    def close(self) -> None:
        """See ``Stream``."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _wait(self, event: int, timeout_s: float | None) -> None:
        if not self._poll(event, None if timeout_s is None else round(timeout_s * 1000)):
            raise TimeoutError(f"the device did not answer within {timeout_s:.0f} s")

    def _poll(self, event: int, timeout_ms: int | None) -> list[tuple[int, int]]:
        poller = select.poll()
        try:
            poller.register(self._socket, event)
        except (OSError, ValueError) as e:  # closed by another thread
            raise _lost(e) from e
        return poller.poll(timeout_ms)


def _lost(e: Exception) -> ConnectionLostError:
    return ConnectionLostError(f"the connection to the device broke: {e}", GONE_HINT)
