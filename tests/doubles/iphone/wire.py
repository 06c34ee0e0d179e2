"""A connection as a phone's service sees it: exact reads, property lists, TLS that two threads may use at once."""

import contextlib
import plistlib
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
MAX_PLIST_BYTES = 16 * 2**20
_HANDSHAKE_S = 10.0
_LOOK_MS = 500
_MORE_MS = 20


class Stream:
    """One connection. Every method raises EOFError once either end has closed it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock: socket.socket | ssl.SSLSocket = sock
        self._using = threading.Lock()  # OpenSSL's state is one thread's at a time
        self._writing = threading.Lock()  # a message goes out whole
        self._closed = False
        self.frozen: threading.Event | None = None  # while it is set nothing is answered
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self, size: int) -> bytes:
        """Exactly so many bytes."""
        whole = bytearray(size)
        self.read_into(memoryview(whole))
        return bytes(whole)

    def read_into(self, room: memoryview) -> None:
        """Fills the room."""
        while room:
            n = self._do(self._sock.recv_into, room, select.POLLIN)
            if n == 0:
                raise EOFError
            room = room[n:]

    def has_more(self) -> bool:
        """Whether something has come that was not read, or comes within some ms."""
        with self._using:
            if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
                return True
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(_MORE_MS))

    def write(self, data: bytes) -> None:
        """All of it, or EOFError."""
        with self._writing:
            left = memoryview(data)
            while left:
                left = left[self._do(self._sock.send, left, select.POLLOUT) :]

    def read_plist(self) -> dict[str, Any]:
        """A property list behind its length, big-endian; raises ValueError for what is none."""
        (size,) = struct.unpack(">I", self.read(4))
        if size > MAX_PLIST_BYTES:
            raise ValueError(f"a property list of {size} bytes")
        found = plistlib.loads(self.read(size))
        if not isinstance(found, dict):
            raise ValueError("a property list that is no dictionary")
        return found

    def write_plist(self, content: dict[str, Any]) -> None:
        """As ``read_plist`` reads it."""
        body = plistlib.dumps(content)
        self.write(struct.pack(">I", len(body)) + body)

    def start_tls(self, context: ssl.SSLContext) -> None:
        """The phone's side of a handshake; raises ssl.SSLError where the other end is not who it must be."""
        self._sock.settimeout(_HANDSHAKE_S)
        self._sock = context.wrap_socket(self._sock, server_side=True)
        self._sock.setblocking(False)

    def stop_tls(self) -> None:
        """Goes on in the clear, after the other end has said so too."""
        if isinstance(self._sock, ssl.SSLSocket):
            self._sock.settimeout(1.0)
            with contextlib.suppress(OSError, ValueError):
                plain = self._sock.unwrap()
                plain.setblocking(False)
                self._sock = plain

    def close(self) -> None:
        """Ends a read or write that waits in another thread, too."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._sock.close()

    def _do(self, action: Callable[[memoryview], int], data: memoryview, plain_wait: int) -> int:
        while not self._closed:
            if self.frozen is not None and self.frozen.is_set():
                time.sleep(0.05)
                continue
            wait_for = plain_wait
            try:
                with self._using:
                    return action(data)
            except ssl.SSLWantReadError:
                wait_for = select.POLLIN
            except ssl.SSLWantWriteError:
                wait_for = select.POLLOUT
            except BlockingIOError:
                pass
            except (OSError, ValueError) as e:
                raise EOFError from e
            self._wait(wait_for)
        raise EOFError

    def _wait(self, event: int) -> None:
        poll = select.poll()
        with contextlib.suppress(OSError, ValueError):
            poll.register(self._sock, event)
            poll.poll(_LOOK_MS)
