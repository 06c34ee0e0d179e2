"""usbmuxd on a loopback port: who is attached, connections to their ports, and the host's pair records.

A message is a length, a version, a kind and a tag, 32 bits each and little-endian, and a property list.
"""

import contextlib
import itertools
import plistlib
import re
import socket
import struct
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.doubles.iphone.wire import Stream

if TYPE_CHECKING:
    from tests.doubles.iphone.phone import IPhone

_HEADER = struct.Struct("<IIII")
_PLIST = 8
_OK, _BAD_COMMAND, _BAD_DEVICE, _REFUSED, _BAD_VERSION = 0, 1, 2, 3, 6
_NO_SUCH_FILE = 2  # usbmuxd answers with errno where a record cannot be read
_RECORD = re.compile(r"^[0-9A-Za-z-]{1,64}$")


class Usbmuxd:
    """The daemon and its phones; ``address`` is what USBMUXD_SOCKET_ADDRESS takes."""

    def __init__(self, folder: Path) -> None:
        self.phones: list[IPhone] = []
        self._records = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.buid = str(uuid.uuid4()).upper()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._listeners: list[tuple[Stream, int]] = []
        self._open: set[Stream] = set()
        self._ids = itertools.count(4)
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def listen_at(self, path: Path) -> None:
        """Also at a Unix socket, as usbmuxd itself does."""
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(str(path))
        server.listen()
        threading.Thread(target=self._accept, args=(server,), daemon=True).start()

    def start_again(self) -> None:
        """After ``close``, at the same address."""
        host, port = self.address.split(":")
        self._server = socket.create_server((host, int(port)))
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def close(self) -> None:
        """The daemon ends, and every connection with it."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for stream in list(self._open):
            stream.close()

    def tell_attached(self, phone: "IPhone") -> None:
        """To whoever listens."""
        self._tell(_attached(phone))

    def tell_detached(self, phone: "IPhone") -> None:
        """To whoever listens."""
        self._tell({"MessageType": "Detached", "DeviceID": phone.device_id})

    def new_device_id(self) -> int:
        """One that no phone has or had."""
        return next(self._ids)

    def _tell(self, message: dict[str, Any]) -> None:
        for stream, tag in list(self._listeners):
            with contextlib.suppress(EOFError):
                _send(stream, tag, message)

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                sock, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(Stream(sock),), daemon=True).start()

    def _serve(self, stream: Stream) -> None:
        self._open.add(stream)
        try:
            while True:
                size, version, kind, tag = _HEADER.unpack(stream.read(_HEADER.size))
                body = stream.read(size - _HEADER.size) if _HEADER.size <= size <= 2**20 else b""
                if version != 1 or kind != _PLIST:
                    _send(stream, tag, _result(_BAD_VERSION))
                    continue
                found = self._answer(stream, tag, plistlib.loads(body))
                if found is not None:  # from here on it is the phone's
                    phone, port = found
                    return phone.serve(port, stream)
        except (EOFError, ValueError, KeyError, TypeError, plistlib.InvalidFileException):
            return None
        finally:
            self._open.discard(stream)
            self._listeners = [(s, t) for s, t in self._listeners if s is not stream]
            stream.close()

    def _answer(self, stream: Stream, tag: int, asked: dict[str, Any]) -> "tuple[IPhone, int] | None":
        """The phone and its port that were asked for, where they may be had."""
        attached = [p for p in self.phones if p.attached]
        match asked.get("MessageType"):
            case "ReadBUID":
                _send(stream, tag, {"BUID": self.buid})
            case "ListDevices":
                _send(stream, tag, {"DeviceList": [_attached(p) for p in attached]})
            case "Listen":
                _send(stream, tag, _result(_OK))
                self._listeners.append((stream, tag))
                for phone in attached:
                    _send(stream, tag, _attached(phone))
            case "Connect":
                return self._connect(stream, tag, asked)
            case "ReadPairRecord" | "SavePairRecord" | "DeletePairRecord":
                self._pair_record(stream, tag, asked)
            case _:
                _send(stream, tag, _result(_BAD_COMMAND))
        return None

    def _connect(self, stream: Stream, tag: int, asked: dict[str, Any]) -> "tuple[IPhone, int] | None":
        port = socket.ntohs(int(asked["PortNumber"]) & 0xFFFF)
        phone = next((p for p in self.phones if p.attached and p.device_id == asked["DeviceID"]), None)
        if phone is None:
            _send(stream, tag, _result(_BAD_DEVICE))
        elif not phone.listens_on(port):
            _send(stream, tag, _result(_REFUSED))
        else:
            _send(stream, tag, _result(_OK))
            return phone, port
        return None

    def _pair_record(self, stream: Stream, tag: int, asked: dict[str, Any]) -> None:
        name = str(asked.get("PairRecordID"))
        path = self._records / f"{name}.plist"
        if not _RECORD.match(name):
            _send(stream, tag, _result(_BAD_COMMAND))
        elif asked["MessageType"] == "SavePairRecord":
            path.write_bytes(asked["PairRecordData"])
            _send(stream, tag, _result(_OK))
            for phone in (p for p in self.phones if p.udid == name):
                self._tell({"MessageType": "Paired", "DeviceID": phone.device_id})
        elif not path.exists():
            _send(stream, tag, _result(_NO_SUCH_FILE))
        elif asked["MessageType"] == "ReadPairRecord":
            _send(stream, tag, {"PairRecordData": path.read_bytes()})
        else:
            path.unlink()
            _send(stream, tag, _result(_OK))


def _attached(phone: "IPhone") -> dict[str, Any]:
    serial = phone.udid.replace("-", "")  # as the cable tells it
    properties = {
        "ConnectionSpeed": 480_000_000,
        "ConnectionType": "USB",
        "DeviceID": phone.device_id,
        "LocationID": 0x14100000,
        "ProductID": 0x12A8,
        "SerialNumber": phone.udid,
        "USBSerialNumber": serial,
    }
    return {"MessageType": "Attached", "DeviceID": phone.device_id, "Properties": properties}


def _result(number: int) -> dict[str, Any]:
    return {"MessageType": "Result", "Number": number}


def _send(stream: Stream, tag: int, message: dict[str, Any]) -> None:
    body = plistlib.dumps(message)
    stream.write(_HEADER.pack(_HEADER.size + len(body), 1, _PLIST, tag) + body)
