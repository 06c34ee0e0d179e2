"""A file's bytes into an app's container, by AFC over a socket of its own.

Through the library every byte passes asyncio's TLS, which takes longer than all else of a push, and a write waits for
the answer to the one before. Here OpenSSL writes to the socket, and some writes are on their way at once. AFC numbers
its packets, and an answer has its packet's number.
"""

import contextlib
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from io import BufferedReader
from typing import TYPE_CHECKING, Any

from bytestruct import BinaryDataError
from pymobiledevice3.exceptions import (
    AfcException,
    ConnectionTerminatedError,
    ProtocolError,
    PyMobileDevice3Exception,
)
from pymobiledevice3.lockdown import LockdownClient
from pymobiledevice3.service_connection import build_plist, create_ssl_context, parse_plist
from pymobiledevice3.services.afc import (
    AfcError,
    AfcFcloseRequest,
    AfcFileSeekRequest,
    AfcFopenMode,
    AfcFopenRequest,
    AfcFopenResponse,
    AfcHeader,
    AfcOpcode,
    parse_afc_status,
)
from pymobiledevice3.services.house_arrest import VEND_CONTAINER, HouseArrestService

from melt.drivers.ios.pymd3.errors import explain

if TYPE_CHECKING:
    from melt.drivers.ios.pymd3.phone import Phone

_PART_BYTES = 2**19
_PARTS_UNDER_WAY = 8  # the phone takes them in order, and writes one while the next ones travel
_SILENCE_S = 30.0
_MAX_ANSWER_BYTES = 2**20
_WRITE_HEAD_BYTES = AfcHeader.SIZE + 8  # with the file's handle


class OtherAnswerError(Exception):
    """The phone does not answer as one does that takes packets in order."""


class Upload:
    """One connection that only writes files.

    Every method raises ConnectionLostError where the phone goes away, DeviceError where it refuses, and
    OtherAnswerError. After any of them it is of no more use.
    """

    def __init__(self, phone: "Phone", bundle_id: str) -> None:
        self._phone, self._number = phone, 0
        self._sock, context = phone.call(_connect(phone.lockdown), "opening the app's files", _SILENCE_S)
        try:
            self._try("opening the app's files", self._open, bundle_id, context)
        except BaseException:
            self.close()
            raise

    def write(self, content: BufferedReader, path: str, offset: int, sent: Callable[[int], None]) -> None:
        """Writes a file from the content's place on; what is below the offset is there already."""
        self._try(path, self._write, content, path, offset, sent)

    def close(self) -> None:
        """Lets it go."""
        with contextlib.suppress(OSError):
            self._sock.close()

    def _try(self, doing: str, work: Callable[..., None], *args: Any) -> None:
        try:
            work(*args)
        except (BinaryDataError, ProtocolError) as e:
            raise OtherAnswerError(str(e)) from e
        except OtherAnswerError:
            raise
        except Exception as e:
            raise explain(e, self._phone.name, doing, connected=True) from e

    def _open(self, bundle_id: str, context: ssl.SSLContext | None) -> None:
        self._sock.settimeout(_SILENCE_S)
        if self._sock.family != socket.AF_UNIX:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            self._sock = context.wrap_socket(self._sock)
        self._send(memoryview(build_plist({"Command": VEND_CONTAINER, "Identifier": bundle_id})))
        answer = parse_plist(self._receive(int.from_bytes(self._receive(4), "big")))
        if not isinstance(answer, dict) or "Error" in answer:
            raise PyMobileDevice3Exception(f"the phone does not open the files of {bundle_id}: {answer!r:.200}")

    def _write(self, content: BufferedReader, path: str, offset: int, sent: Callable[[int], None]) -> None:
        handle = self._ask_to_open(path, offset)
        room = memoryview(bytearray(_WRITE_HEAD_BYTES + _PART_BYTES))
        room[AfcHeader.SIZE : _WRITE_HEAD_BYTES] = AfcFcloseRequest(handle=handle).build()
        under_way: deque[tuple[int, int]] = deque()  # a packet's number, and how far the file is with it
        while size := content.readinto(room[_WRITE_HEAD_BYTES:]):
            offset += size
            under_way.append((self._number, offset))
            room[: AfcHeader.SIZE] = self._header(AfcOpcode.WRITE, _WRITE_HEAD_BYTES, size)
            self._send(room[: _WRITE_HEAD_BYTES + size])
            if len(under_way) > _PARTS_UNDER_WAY:
                self._written(under_way, sent)
        while under_way:
            self._written(under_way, sent)
        self._ask(AfcOpcode.FILE_CLOSE, AfcFcloseRequest(handle=handle).build())

    def _ask_to_open(self, path: str, offset: int) -> int:
        mode = AfcFopenMode.RW if offset else AfcFopenMode.WRONLY
        answer = self._ask(AfcOpcode.FILE_OPEN, AfcFopenRequest(mode=mode, filename=path).build())
        handle = int(AfcFopenResponse.parse(answer).handle)
        if offset:
            self._ask(AfcOpcode.FILE_SEEK, AfcFileSeekRequest(handle=handle, whence=0, offset=offset).build())
        return handle

    def _written(self, under_way: deque[tuple[int, int]], sent: Callable[[int], None]) -> None:
        number, offset = under_way.popleft()
        self._answer(number)
        sent(offset)

    def _ask(self, operation: AfcOpcode, fields: bytes) -> bytes:
        number = self._number
        self._send(memoryview(self._header(operation, AfcHeader.SIZE + len(fields), 0) + fields))
        return self._answer(number)

    def _header(self, operation: AfcOpcode, head_bytes: int, data_bytes: int) -> bytes:
        whole_bytes = head_bytes + data_bytes
        header = AfcHeader(
            entire_length=whole_bytes, this_length=head_bytes, packet_num=self._number, operation=operation
        )
        self._number += 1
        return bytes(header.build())

    def _answer(self, number: int) -> bytes:
        """What the phone answers to this packet, of those that wait for an answer the first."""
        header = AfcHeader.parse(self._receive(AfcHeader.SIZE))
        if header.packet_num != number:
            raise OtherAnswerError(f"the answer to packet {header.packet_num} came before the one to {number}")
        body = self._receive(header.entire_length - AfcHeader.SIZE)
        if header.operation == AfcOpcode.STATUS and (status := parse_afc_status(body)) != AfcError.SUCCESS:
            raise AfcException(f"the phone answers {status!s}", status)
        return body

    def _send(self, data: memoryview) -> None:
        try:
            self._sock.sendall(data)
        except OSError as e:
            raise ConnectionTerminatedError(str(e)) from e

    def _receive(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_ANSWER_BYTES:
            raise OtherAnswerError(f"an answer of {size} bytes")
        whole = bytearray()
        deadline = time.monotonic() + _SILENCE_S
        while len(whole) < size:
            if time.monotonic() > deadline:  # each byte of it in time would last for hours
                raise ConnectionTerminatedError("its answer does not end")
            try:
                part = self._sock.recv(size - len(whole))
            except OSError as e:
                raise ConnectionTerminatedError(str(e)) from e
            if not part:
                raise ConnectionTerminatedError("it hung up")
            whole += part
        return bytes(whole)


async def _connect(lockdown: LockdownClient) -> tuple[socket.socket, ssl.SSLContext | None]:
    """A socket to house_arrest on which nothing has been said, and how TLS begins on it where the phone wants that."""
    context = None
    answer = await lockdown.get_service_connection_attributes(HouseArrestService.SERVICE_NAME)
    if answer.get("EnableServiceSSL"):
        with lockdown.ssl_file() as pair_record:
            context = create_ssl_context(pair_record)
    connection = await lockdown.create_service_connection(answer["Port"])
    connection.writer.transport.pause_reading()
    sock = connection.writer.get_extra_info("socket").dup()
    await connection.close()
    return sock, context
