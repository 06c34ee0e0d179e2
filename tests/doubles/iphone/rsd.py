"""RemoteServiceDiscovery: which services there are and at which ports, and those services, each with its check-in.

In a tunnel they are at the phone's address there (``tunnel``); ``Loopback`` has them at this machine's, in the clear.
"""

import contextlib
import socket
import threading
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tests.doubles.iphone.instruments import serve_instruments
from tests.doubles.iphone.lockdownd import Lockdown
from tests.doubles.iphone.remote_xpc import REPLY, ROOT, RemoteXpc, Unsigned
from tests.doubles.iphone.wire import Stream

if TYPE_CHECKING:
    from tests.doubles.iphone.phone import IPhone

FIRST_PORT = 58783
SHIM = ".shim.remote"  # what lockdownd starts for others, behind a check-in
LOCKDOWN = "com.apple.mobile.lockdown.remote.trusted"
INSTRUMENTS = "com.apple.instruments.dtservicehub"
_CLOSING = 0x201
_XPC_FLAGS = 0x100000000000006


def serve_rsd(phone: "IPhone", stream: Stream, ports: Mapping[str, int]) -> None:
    """Says who it is and what there is, and stays until the host hangs up."""
    xpc = RemoteXpc(stream)
    while True:
        number, flags, content = xpc.receive()
        if number == REPLY:
            xpc.send(REPLY, None, flags)
        elif content == {}:
            xpc.send(ROOT, {})
        elif flags & _CLOSING == _CLOSING:
            xpc.send(ROOT, None, flags)
            xpc.send(ROOT, _peer_info(phone, ports))


def _peer_info(phone: "IPhone", ports: Mapping[str, int]) -> dict[str, Any]:
    model, told = phone.model, phone.values(None)
    properties = {
        "BoardId": Unsigned(model.board_id),
        "BootSessionUUID": str(uuid.uuid4()).upper(),
        "BuildVersion": model.build,
        "CPUArchitecture": model.architecture,
        "ChipID": Unsigned(model.chip_id),
        "DeviceClass": "iPhone",
        "DeviceSupportsLockdown": True,
        "HWModel": model.hardware,
        "HardwarePlatform": model.platform,
        "OSInstallEnvironment": False,
        "OSVersion": model.version,
        "ProductName": "iPhone OS",
        "ProductType": model.product_type,
        "RemoteXPCVersionFlags": Unsigned(_XPC_FLAGS),
        "SensitivePropertiesVisible": True,
        "SerialNumber": told["SerialNumber"],
        "UniqueChipID": Unsigned(told["UniqueChipID"]),
        "UniqueDeviceID": phone.udid,
    }
    return {
        "MessageType": "Handshake",
        "MessagingProtocolVersion": Unsigned(7),
        "Properties": properties,
        "Services": {name: _entry(name, port) for name, port in ports.items()},
        "UUID": uuid.uuid4(),
    }


def _entry(name: str, port: int) -> dict[str, Any]:
    entitlement = "com.apple.mobile.lockdown.remote.trusted" if name != INSTRUMENTS else "AppleInternal"
    return {"Entitlement": entitlement, "Port": str(port), "Properties": {"ServiceVersion": Unsigned(1)}}


def serve_service(phone: "IPhone", stream: Stream, name: str) -> None:
    """One of the services that are listed."""
    if name == INSTRUMENTS:
        return serve_instruments(phone, stream)
    asked = stream.read_plist()
    if asked.get("Request") != "RSDCheckin":
        raise ValueError("no check-in")
    stream.write_plist({"Request": "RSDCheckin"})
    service = name.removesuffix(SHIM)
    refused = "" if name == LOCKDOWN else phone.refusal(service)
    stream.write_plist({"Request": "StartService", "Service": name} | ({"Error": refused} if refused else {}))
    if refused:
        return None
    if name == LOCKDOWN:
        return Lockdown(phone, stream, trusted=True).serve()
    return phone.run(service, stream)


class Loopback:
    """A phone's services at ports of 127.0.0.1, from entering to leaving, as a tunnel of somebody else's has them."""

    def __init__(self, phone: "IPhone") -> None:
        self._phone = phone
        self._servers: dict[str, socket.socket] = {}

    @property
    def address(self) -> tuple[str, int]:
        """Where RSD is."""
        return "127.0.0.1", self._ports()[""]

    def _ports(self) -> dict[str, int]:
        return {name: server.getsockname()[1] for name, server in self._servers.items()}

    def __enter__(self) -> Self:
        for name in ("", *self._phone.remote_services(developer=True)):
            self._servers[name] = socket.create_server(("127.0.0.1", 0))
            threading.Thread(target=self._accept, args=(name, self._servers[name]), daemon=True).start()
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        for server in self._servers.values():
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()

    def _accept(self, name: str, server: socket.socket) -> None:
        while True:
            try:
                sock, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(name, sock), daemon=True).start()

    def _serve(self, name: str, sock: socket.socket) -> None:
        if not self._phone.attached:
            return sock.close()
        if name:
            return self._phone.serve_at(sock, lambda stream: serve_service(self._phone, stream, name))
        ports = {n: p for n, p in self._ports().items() if n in self._phone.remote_services()}
        return self._phone.serve_at(sock, lambda stream: serve_rsd(self._phone, stream, ports))
