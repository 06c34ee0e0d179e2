"""The running adb server: it owns USB and the pairing of phones, and gives each stream a socket of its own.

Protocol: SERVICES.TXT and OVERVIEW.TXT of Android's adb.
"""

import os
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass

from melt.drivers.adb.stream import GONE_HINT, SocketStream, Stream, read_exactly
from melt.drivers.remote.base import ConnectionLostError
from melt.drivers.remote.tcp import connect_tcp
from melt.errors import DeviceError, TransientDeviceError

DEFAULT_PORT = 5037
_ANSWER_S = 10.0
_START_S = 30.0
# In what the server says of a phone that may come back.
_AWAY = ("not found", "offline", "closed", "no devices", "still connecting", "still authorizing")


@dataclass(frozen=True)
class Listed:
    """One device as the server lists it."""

    serial: str
    state: str  # device, offline, unauthorized, no permissions, recovery, sideload, ...
    model: str = ""  # as it prints it, what is no letter or digit replaced by "_"


class AdbServer:
    """The server of ``ADB_SERVER_SOCKET`` or ``ANDROID_ADB_SERVER_PORT``, by default this machine's on port 5037."""

    def __init__(self) -> None:
        self.host, self.port = _address()

    def is_running(self) -> bool:
        """Whether something answers there as an adb server does."""
        try:
            self._ask("host:version")
        except DeviceError:
            return False
        return True

    def start(self) -> bool:
        """Starts one by the adb program; False where there is none, or where the user has named another server."""
        program = shutil.which("adb")
        if program is None or self.host not in ("127.0.0.1", "localhost") or "ADB_SERVER_SOCKET" in os.environ:
            return False
        try:
            subprocess.run(
                [program, "-P", str(self.port), "start-server"], capture_output=True, timeout=_START_S, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return False
        return self.is_running()

    def devices(self) -> list[Listed]:
        """Every device that the server knows of, whatever its state."""
        return parse_devices(self._ask("host:devices-l"))

    def connect(self, host: str, port: int) -> str:
        """Has the server connect to a phone on the network; returns what it says of that."""
        return self._ask(f"host:connect:{host}:{port}", timeout_s=_START_S)

    def open_device(self, serial: str, name: str = "") -> "ServerConnection":
        """A connection to one device, which messages call by the name.

        Raises:
            DeviceError: the server refuses it, and says why.
        """
        features = self._ask(f"host-serial:{serial}:features")
        return ServerConnection(self, serial, name or serial, frozenset(features.split(",")))

    def open(self, serial: str, service: str, timeout_s: float) -> Stream:
        """A stream to a service of a device."""
        stream = self._connect(timeout_s)
        with ExitStack() as undo:
            undo.callback(stream.close)
            _send(stream, f"host:transport:{serial}", timeout_s)
            _send(stream, service, timeout_s)
            undo.pop_all()
        return stream

    def _ask(self, request: str, timeout_s: float = _ANSWER_S) -> str:
        stream = self._connect(timeout_s)
        try:
            _send(stream, request, timeout_s)
            return _text(stream, timeout_s)
        except TimeoutError as e:
            raise TransientDeviceError(
                f"the adb server at {self.host}:{self.port} does not answer", "Restart it: adb kill-server"
            ) from e
        finally:
            stream.close()

    def _connect(self, timeout_s: float) -> SocketStream:
        try:
            return SocketStream(connect_tcp(self.host, self.port, timeout_s))
        except OSError as e:
            raise TransientDeviceError(
                f"no adb server answers at {self.host}:{self.port}", "Start it: adb start-server"
            ) from e


class ServerConnection:
    """See ``melt.drivers.adb.stream.Connection``."""

    def __init__(self, server: AdbServer, serial: str, name: str, features: frozenset[str]) -> None:
        self._server = server
        self._serial = serial
        self.name = name
        self.features = features

    def open(self, service: str, timeout_s: float = _ANSWER_S) -> Stream:
        """Starts a service on the device."""
        try:
            return self._server.open(self._serial, service, timeout_s)
        except TimeoutError as e:
            raise ConnectionLostError(f"{self.name}: the phone does not answer: {e}", GONE_HINT) from e
        except DeviceError as e:
            raise type(e)(e.message.replace(self._serial, self.name), e.hint) from e

    def close(self) -> None:
        """Nothing is held open: every stream has a socket of its own."""


def parse_devices(text: str) -> list[Listed]:
    """The rows of ``host:devices-l``: "serial  state key:value key:value". One state is of two words and a reason."""
    listed = []
    for line in text.splitlines():
        columns = line.split()
        if len(columns) >= 2:
            state = "no permissions" if columns[1:3] == ["no", "permissions"] else columns[1]
            models = [word.removeprefix("model:") for word in columns[2:] if word.startswith("model:")]
            listed.append(Listed(columns[0], state, models[0] if models else ""))
    return listed


def _address() -> tuple[str, int]:
    given = os.environ.get("ADB_SERVER_SOCKET", "")
    if given:
        kind, _, rest = given.partition(":")
        host, _, port = rest.rpartition(":")
        if kind != "tcp" or not port.isdigit():
            raise DeviceError(
                f"ADB_SERVER_SOCKET is {given!r}, which melt cannot use", "Give it as tcp:HOST:PORT, or unset it."
            )
        return host or "127.0.0.1", int(port)
    port = os.environ.get("ANDROID_ADB_SERVER_PORT", str(DEFAULT_PORT))
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise DeviceError(f"ANDROID_ADB_SERVER_PORT is {port!r}, which is no port", "Give a number, or unset it.")
    return os.environ.get("ANDROID_ADB_SERVER_ADDRESS", "127.0.0.1"), int(port)


def _send(stream: Stream, request: str, timeout_s: float) -> None:
    """Sends one request and reads its OKAY.

    Raises:
        DeviceError: the server says FAIL; a device that is offline or not found is transient.
    """
    data = request.encode()
    stream.write(f"{len(data):04x}".encode() + data, timeout_s)
    answer = read_exactly(stream, 4, timeout_s)
    if answer == b"OKAY":
        return
    if answer != b"FAIL":
        raise DeviceError(f"what answers as the adb server says {answer!r}", "Is another program on its port?")
    reason = _text(stream, timeout_s)
    away = any(word in reason for word in _AWAY)
    raise (ConnectionLostError if away else DeviceError)(f"adb: {reason}", GONE_HINT)


def _text(stream: Stream, timeout_s: float) -> str:
    try:
        size = int(read_exactly(stream, 4, timeout_s), 16)
    except ValueError as e:
        raise DeviceError("the adb server's answer has no length", "Is another program on its port?") from e
    return read_exactly(stream, size, timeout_s).decode(errors="replace")
