"""adb without an adb server: one connection to the phone that carries several streams.

One thread reads and deals the packets out. A stream takes the next packet of the phone only when the last one
has been read, which is adb's own flow control and bounds what waits in memory.
"""

import contextlib
import threading
from collections.abc import Sequence
from typing import Protocol

from melt.drivers.adb.channel import Channel
from melt.drivers.adb.packets import (
    BANNER,
    HEADER,
    MAX_DATA_BYTES,
    PUBLIC_KEY,
    SIGNATURE,
    TOKEN,
    VERSION,
    Packet,
    decode_header,
    features_of,
)
from melt.drivers.adb.stream import GONE_HINT, Link, SocketStream, read_exactly
from melt.drivers.remote.base import ConnectionLostError, Deadline
from melt.drivers.remote.tcp import connect_tcp
from melt.errors import DeviceError, MeltError

_HANDSHAKE_S = 10.0
_LEAST_DATA_BYTES = 4096  # what the first phones took
_MAX_GREETINGS = 8
_TAP_S = 30.0  # for a person to look at the phone and tap
_WRITE_S = 30.0


class Signer(Protocol):
    """A key that the phone may know; adb-shell's signers are such."""

    def Sign(self, data: bytes) -> bytes:  # noqa: N802 - adb-shell's name
        """The token, signed."""
        ...

    def GetPublicKey(self) -> str | bytes:  # noqa: N802
        """The key as the phone stores it."""
        ...


def open_tcp(host: str, port: int, signers: Sequence[Signer], name: str = "") -> "DirectConnection":
    """A phone on the network.

    Raises:
        ConnectionLostError: nothing answers there.
        DeviceError: it does not know this host's key, or it wants to be paired first.
    """
    try:
        link = SocketStream(connect_tcp(host, port, _HANDSHAKE_S))
    except OSError as e:
        raise ConnectionLostError(f"{name or f'{host}:{port}'}: {e.strerror or e}", GONE_HINT) from e
    return DirectConnection(link, name or f"{host}:{port}", signers)


class DirectConnection:
    """See ``melt.drivers.adb.stream.Connection``."""

    def __init__(self, link: Link, name: str, signers: Sequence[Signer]) -> None:
        self._link = link
        self.name = name
        self._writing = threading.Lock()
        self._streams: dict[int, Channel] = {}
        self._last_id = 0
        self.lost: MeltError | None = None  # why the connection is no more, if so
        try:
            greeting = self._handshake(signers)
            self.max_data = min(greeting.arg1, MAX_DATA_BYTES)  # the largest packet that the phone takes
            if self.max_data < _LEAST_DATA_BYTES:
                raise DeviceError(f"{name}: takes {self.max_data} bytes at once only", "Is it the phone's adb port?")
        except TimeoutError as e:
            link.close()
            raise ConnectionLostError(f"{name}: does not answer as a phone does", GONE_HINT) from e
        except MeltError:
            link.close()
            raise
        self.features = features_of(greeting.data)
        self._checksum = greeting.arg0 < VERSION
        threading.Thread(target=self._deal, daemon=True).start()

    def open(self, service: str, timeout_s: float = _HANDSHAKE_S) -> Channel:
        """Starts a service on the phone."""
        with self._writing:
            self._last_id += 1
            channel = Channel(self, self._last_id)
            self._streams[channel.local_id] = channel
        self.send(Packet(b"OPEN", channel.local_id, 0, service.encode(errors="surrogateescape") + b"\0"), timeout_s)
        try:
            channel.wait_open(timeout_s)
        except TimeoutError as e:
            channel.close()
            raise ConnectionLostError(f"{self.name}: the phone does not answer: {e}", GONE_HINT) from e
        if channel.remote_id is None:
            channel.close()
            raise self.lost or DeviceError(f"{self.name}: the phone refuses the service {service[:60]!r}")
        return channel

    def close(self) -> None:
        """Ends every stream."""
        self._end(ConnectionLostError(f"{self.name}: the connection was closed", GONE_HINT))

    def send(self, packet: Packet, timeout_s: float | None = _WRITE_S) -> None:
        """One packet, whole; raises ConnectionLostError."""
        with self._writing:
            if self.lost is not None:
                raise type(self.lost)(self.lost.message, self.lost.hint)
            try:
                self._link.write(packet.encode(self._checksum), timeout_s)
            except TimeoutError as e:  # half a packet may be out: nothing can follow it
                raise self._end(ConnectionLostError(f"{self.name}: takes no data: {e}", GONE_HINT)) from e

    def forget(self, channel: Channel) -> None:
        """No packet goes to this stream any more."""
        self._streams.pop(channel.local_id, None)

    def _handshake(self, signers: Sequence[Signer]) -> Packet:
        self._link.write(Packet(b"CNXN", VERSION, MAX_DATA_BYTES, BANNER).encode(), _HANDSHAKE_S)
        waiting, tapped = list(signers), False
        for _ in range(len(waiting) + _MAX_GREETINGS):
            try:
                packet = self._receive(_TAP_S if tapped else _HANDSHAKE_S)
            except TimeoutError:
                if tapped:
                    raise unauthorised(self.name) from None
                raise
            if packet.command == b"CNXN":
                return packet
            if packet.command == b"STLS":
                raise DeviceError(
                    f"{self.name}: the phone wants to be paired over TLS, which the adb program does",
                    "Pair it once (adb pair HOST:PORT), connect it (adb connect HOST:PORT), and try again.",
                )
            if packet.command != b"AUTH" or packet.arg0 != TOKEN:
                continue
            if waiting:
                signature = waiting.pop(0).Sign(packet.data)
                self._link.write(Packet(b"AUTH", SIGNATURE, 0, signature).encode(), _HANDSHAKE_S)
            elif signers and not tapped:
                key = signers[0].GetPublicKey()
                data = (key.encode() if isinstance(key, str) else key) + b"\0"
                self._link.write(Packet(b"AUTH", PUBLIC_KEY, 0, data).encode(), _HANDSHAKE_S)
                tapped = True
            else:
                raise unauthorised(self.name)
        raise DeviceError(f"{self.name}: greets without end", "Is the port the phone's adb port?")

    def _receive(self, timeout_s: float | None) -> Packet:
        deadline = Deadline(timeout_s)
        command, arg0, arg1, size = decode_header(read_exactly(self._link, HEADER.size, deadline.left_s()))
        return Packet(command, arg0, arg1, read_exactly(self._link, size, deadline.left_s()))

    def _deal(self) -> None:
        try:
            while True:
                packet = self._receive(None)
                channel = self._streams.get(packet.arg1)
                if channel is not None:
                    channel.take(packet)
                elif packet.command == b"WRTE":
                    self.send(Packet(b"CLSE", 0, packet.arg0))
        except (MeltError, OSError) as e:
            self._end(e if isinstance(e, MeltError) else ConnectionLostError(f"{self.name}: {e}", GONE_HINT))

    def _end(self, why: MeltError) -> MeltError:
        self.lost = self.lost or why
        with contextlib.suppress(OSError):
            self._link.close()
        for channel in list(self._streams.values()):
            channel.end()
        return self.lost


def unauthorised(serial: str) -> DeviceError:
    """What to do about a phone that does not know this host."""
    return DeviceError(
        f"{serial}: the phone has not allowed USB debugging from this computer",
        "Unlock it, tap Allow (and 'Always allow from this computer') in the dialogue, and try again. No dialogue: "
        "unplug it, Developer options > Revoke USB debugging authorisations, and plug it in again.",
    )
