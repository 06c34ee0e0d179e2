"""adb's shell protocol, version 2: exit codes, and stderr apart from stdout.

Protocol: SHELL.TXT and shell_protocol.h of Android's adb. A packet is an id, a length and so many bytes.
"""

import struct
from collections import deque

from melt.drivers.adb.stream import GONE_HINT, Stream
from melt.drivers.remote.base import ConnectionLostError, Deadline, Kind
from melt.errors import DeviceError

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
_KINDS: dict[int, Kind] = {STDOUT: "stdout", STDERR: "stderr", EXIT: "exit"}
_MAX_PACKET_BYTES = 2**24
_READ_BYTES = 2**18


class ShellPackets:
    """Cuts a stream into the shell protocol's packets, in whatever pieces it arrives."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The packets that are whole now.

        Raises:
            DeviceError: a length that no packet has.
        """
        self._rest += data
        packets, at = [], 0
        while len(self._rest) - at >= 5:
            kind, size = struct.unpack_from("<BI", self._rest, at)
            if size > _MAX_PACKET_BYTES:
                raise DeviceError(f"the phone's shell sent a packet of {size} bytes", "Restart it, and try again.")
            if len(self._rest) - at - 5 < size:
                break
            packets.append((kind, bytes(self._rest[at + 5 : at + 5 + size])))
            at += 5 + size
        del self._rest[:at]
        return packets


def packet(kind: int, data: bytes = b"") -> bytes:
    """One packet for the phone."""
    return struct.pack("<BI", kind, len(data)) + data


class AdbShell:
    """See ``melt.drivers.remote.base.ShellStream``."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._packets = ShellPackets()
        self._ready: deque[tuple[Kind, bytes]] = deque()

    def read(self, timeout_s: float | None = None) -> tuple[Kind, bytes]:
        """A piece of what the script says, or its exit code."""
        deadline = Deadline(timeout_s)
        while not self._ready:
            data = self._stream.read(_READ_BYTES, deadline.left_s())
            if not data:
                raise ConnectionLostError("the phone went away while a program ran", GONE_HINT)
            for kind, content in self._packets.feed(data):
                if kind in _KINDS:
                    self._ready.append((_KINDS[kind], content or b"\xff" if kind == EXIT else content))
        return self._ready.popleft()

    def write(self, data: bytes, timeout_s: float | None = None) -> None:
        """More for its stdin."""
        self._stream.write(packet(STDIN, data), timeout_s)

    def close_input(self, timeout_s: float | None = None) -> None:
        """Its stdin ends."""
        self._stream.write(packet(CLOSE_STDIN), timeout_s)

    def close(self) -> None:
        """Lets it go."""
        self._stream.close()
