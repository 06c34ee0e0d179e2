"""The phone's end of a tunnel: IPv6 packets in and out, and TCP connections (RFC 9293) made of them.

The packets travel on a connection that loses and reorders none, so this needs little of TCP: what is not the next byte
is dropped, and what is not acknowledged in time is sent again from there on: a host may have had no room for it.
"""

import contextlib
import ipaddress
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable

_TCP = 6
_IP_BYTES, _TCP_BYTES = 40, 20
_FIN, _SYN, _RST, _PSH, _ACK = 1, 2, 4, 8, 16
_END, _NOTHING, _MAX_SEGMENT, _WINDOW_SCALE = 0, 1, 2, 3  # kinds of options
_SMALLEST = 1220  # IPv6's smallest packet, less its headers
_MOD = 2**32
_WINDOW_BYTES, _OWN_SCALE = 65535, 6
_AGAIN_S = 0.3
_END_S = 5.0
Listener = Callable[[socket.socket], None]  # serves one connection to its end
Key = tuple[bytes, int, int]  # the host's address and port, and the phone's port


class Host:
    """The address that the phone has in the tunnel. ``listener`` gives what serves a port, in a thread of its own."""

    def __init__(
        self, address: str, mtu: int, write: Callable[[bytes], None], listener: Callable[[int], Listener | None]
    ) -> None:
        self.address = ipaddress.IPv6Address(address).packed
        self.mtu = mtu
        self._write, self._listener = write, listener
        self._connections: dict[Key, _Connection] = {}

    def take(self, packet: bytes) -> None:
        """One packet of the host's; what is not TCP for this address is passed over."""
        if len(packet) < _IP_BYTES + _TCP_BYTES or packet[6] != _TCP or packet[24:40] != self.address:
            return
        there, segment = packet[8:24], packet[_IP_BYTES:]
        port, own_port, seq, ack, offset, flags, window = struct.unpack(">HHIIBBH", segment[:16])
        header_bytes = (offset >> 4) * 4
        key = (there, port, own_port)
        connection = self._connections.get(key)
        if connection is None:
            if flags & _SYN and not flags & _ACK:
                self._open(key, seq, window, _options(segment[_TCP_BYTES:header_bytes]))
            elif not flags & _RST:
                self.send(key, ack, 0, _RST, b"")
            return
        if flags & _RST:
            connection.abort()
        else:
            connection.take(seq, ack if flags & _ACK else None, window, segment[header_bytes:], bool(flags & _FIN))

    def _open(self, key: Key, seq: int, window: int, options: dict[int, int]) -> None:
        serve = self._listener(key[2])
        if serve is None:
            return self.send(key, 0, seq + 1, _RST | _ACK, b"")
        largest = min(options.get(_MAX_SEGMENT, _SMALLEST), self.mtu - _IP_BYTES - _TCP_BYTES)
        connection = _Connection(self, key, seq + 1, window, largest, options.get(_WINDOW_SCALE))
        self._connections[key] = connection
        return connection.start(serve)

    def send(
        self, key: Key, seq: int, ack: int, flags: int, data: bytes, window: int = 0, options: bytes = b""
    ) -> None:
        """One segment."""
        there, port, own_port = key
        offset = (_TCP_BYTES + len(options)) // 4 << 4
        fields = (own_port, port, seq % _MOD, ack % _MOD, offset, flags, window)
        body = options + data
        pseudo = self.address + there + struct.pack(">IxxxB", _TCP_BYTES + len(body), _TCP)
        check = checksum(pseudo + struct.pack(">HHIIBBHHH", *fields, 0, 0) + body)
        segment = struct.pack(">HHIIBBHHH", *fields, check, 0) + body
        head = struct.pack(">IHBB", 6 << 28, len(segment), _TCP, 64)
        with contextlib.suppress(EOFError):
            self._write(head + self.address + there + segment)

    def forget(self, key: Key) -> None:
        """It has ended."""
        self._connections.pop(key, None)

    def close(self) -> None:
        """The tunnel is gone, and every connection with it."""
        for connection in list(self._connections.values()):
            connection.abort()


class _Connection:
    """One connection; its bytes come from and go to one end of a pair of sockets, whose other end is the service's."""

    def __init__(self, host: Host, key: Key, next_seq: int, window: int, max_segment: int, scale: int | None) -> None:
        self._host, self._key, self._max_segment = host, key, max_segment
        self._own, self._service = socket.socketpair()
        self._changed = threading.Condition()
        self._expected = next_seq % _MOD  # of the host's bytes
        self._incoming: deque[bytes] = deque()
        self._first = int(time.monotonic() * 1e6) % _MOD  # of the phone's bytes that the host has not acknowledged
        self._outgoing = b""  # those bytes
        self._sent = self._ever_sent = 0  # of them
        self._window, self._scale = window, scale
        self._own_fin = self._own_fin_arrived = self._their_fin = self._dead = False

    def start(self, serve: Listener) -> None:
        """Answers the host, and lets the service begin."""
        options = struct.pack(">BBH", _MAX_SEGMENT, 4, self._host.mtu - _IP_BYTES - _TCP_BYTES)
        if self._scale is not None:  # of whoever offers it; as iPhones' is
            options += struct.pack(">BBBB", _NOTHING, _WINDOW_SCALE, 3, _OWN_SCALE)
        self._host.send(self._key, self._first, self._expected, _SYN | _ACK, b"", _WINDOW_BYTES, options)
        self._first = (self._first + 1) % _MOD
        threading.Thread(target=self._work, daemon=True).start()
        threading.Thread(target=serve, args=(self._service,), daemon=True).start()

    def _work(self) -> None:
        passing = threading.Thread(target=self._pass_on, daemon=True)
        passing.start()
        self._send_on()
        passing.join()
        self._own.close()

    def take(self, seq: int, ack: int | None, window: int, data: bytes, fin: bool) -> None:
        """What a segment brings."""
        with self._changed:
            if ack is not None:
                self._window = window << (self._scale or 0)
                self._acknowledge(ack)
            known = (self._expected - seq) % _MOD  # bytes of it that came before
            if (data or fin) and known <= len(data):
                fresh = data[known:][: self._room()]
                if fresh:
                    self._incoming.append(fresh)
                    self._expected = (self._expected + len(fresh)) % _MOD
                if fin and not self._their_fin and known + len(fresh) == len(data):
                    self._their_fin = True
                    self._expected = (self._expected + 1) % _MOD
            if data or fin:
                self._acknowledge_theirs()
            if self._their_fin and self._own_fin_arrived:
                self._host.forget(self._key)
            self._changed.notify_all()

    def _acknowledge(self, ack: int) -> None:
        new, held = (ack - self._first) % _MOD, len(self._outgoing)
        if 0 < new <= held + self._own_fin:
            self._outgoing = self._outgoing[new:]
            self._sent, self._ever_sent = max(0, self._sent - new), max(0, self._ever_sent - new)
            self._first = ack
            self._own_fin_arrived = self._own_fin_arrived or new > held

    def _room(self) -> int:
        return max(0, _WINDOW_BYTES - sum(map(len, self._incoming)))

    def _acknowledge_theirs(self) -> None:
        at = self._ever_sent + (self._own_fin and not self._own_fin_arrived)
        self._say(_ACK, at)

    def _say(self, flags: int, at: int, data: bytes = b"") -> None:
        window = self._room() >> (0 if self._scale is None else _OWN_SCALE)
        self._host.send(self._key, self._first + at, self._expected, flags | _ACK, data, window)

    def _send_on(self) -> None:
        """What the service says, as far as the host has room for it, to its end."""
        while not self._dead:
            with self._changed:
                if not self._push():
                    self._wait_or_repeat()
                    continue
            data = self._heard()
            if data == b"":
                return self._finish()
            with self._changed:
                if data is not None:
                    self._outgoing += data
                elif self._outgoing:
                    self._sent = 0
        return None

    def _push(self) -> bool:
        """Sends what may be sent; whether that is all, and more may be read."""
        limit = min(len(self._outgoing), max(self._window, 1))  # a byte at a time finds out whether there is room again
        while self._sent < limit:
            end = min(self._sent + self._max_segment, limit)
            self._say(_PSH, self._sent, self._outgoing[self._sent : end])
            self._sent = end
            self._ever_sent = max(self._ever_sent, end)
        return self._sent == len(self._outgoing) < _WINDOW_BYTES

    def _wait_or_repeat(self) -> None:
        if not self._changed.wait(_AGAIN_S):
            self._sent = 0

    def _heard(self) -> bytes | None:
        """What the service says; nothing at its end, and None where it says nothing for a while."""
        poll = select.poll()
        try:
            poll.register(self._own, select.POLLIN)
            return self._own.recv(2**15) if poll.poll(int(_AGAIN_S * 1000)) else None
        except (OSError, ValueError):
            return b""

    def _finish(self) -> None:
        """All that was said arrives, and then the end of it."""
        deadline = time.monotonic() + _END_S
        with self._changed:
            while not self._dead and not self._own_fin_arrived and time.monotonic() < deadline:
                if self._push() and not self._outgoing:
                    self._say(_FIN, 0)
                    self._own_fin = True
                self._wait_or_repeat()

    def _pass_on(self) -> None:
        """What the host says, to the service."""
        while True:
            with self._changed:
                while not (self._incoming or self._their_fin or self._dead):
                    self._changed.wait()
                if self._dead or not self._incoming:
                    break
                data = self._incoming[0]
            try:
                self._own.sendall(data)
            except OSError:  # the service hears no more
                self._say(_RST, self._ever_sent)
                return self.abort()
            with self._changed:
                was_full = self._room() < self._max_segment
                self._incoming.popleft()
                if was_full:
                    self._acknowledge_theirs()  # there is room again
        with contextlib.suppress(OSError):
            self._own.shutdown(socket.SHUT_WR)
        return None

    def abort(self) -> None:
        """Ends at once."""
        with self._changed:
            self._dead = True
            self._changed.notify_all()
        with contextlib.suppress(OSError):
            self._own.shutdown(socket.SHUT_RDWR)
        self._host.forget(self._key)


def checksum(data: bytes) -> int:
    """RFC 1071's, by arithmetic modulo 2**16 - 1."""
    return 0xFFFF - int.from_bytes(data + bytes(len(data) % 2), "big") % 0xFFFF


def _options(data: bytes) -> dict[int, int]:
    """Those of a segment that are numbers, by their kind."""
    found, at = {}, 0
    while at < len(data) and data[at] != _END:
        if data[at] == _NOTHING:
            at += 1
            continue
        size = max(2, int.from_bytes(data[at + 1 : at + 2], "big"))
        found[data[at]] = int.from_bytes(data[at + 2 : at + size], "big")
        at += size
    return found
