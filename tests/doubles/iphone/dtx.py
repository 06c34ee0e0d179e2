"""DTX: messages between objects of a host and of the phone, many channels on one connection.

A message is a fragment header of 32 bytes, a payload header of 16, its arguments as a dictionary of primitives, and
its selector or object as an NSKeyedArchiver's archive.
"""

import itertools
import struct
from collections.abc import Callable, Sequence
from typing import Any

from bpylist2 import archiver
from bpylist2.archive_types import timestamp

from tests.doubles.iphone.wire import Stream

_FRAGMENT = struct.Struct("<IIHHIIIiI")
_PAYLOAD = struct.Struct("<IIQ")
_MAGIC = 0x1F3D5B79
_OK, _DISPATCH, _OBJECT, _ERROR = 0, 2, 3, 4
_MAX_BYTES = 32 * 2**20
_DICTIONARY, _NULL, _STRING, _BUFFER, _INT32, _INT64, _DOUBLE = 0x1F0, 10, 1, 2, 3, 6, 9
Time = timestamp  # an NSDate, in seconds since 1970


class RemoteError(Exception):
    """An NSError for the host."""

    def __init__(self, domain: str, code: int, text: str) -> None:
        super().__init__(text)
        self.domain, self.code, self.text = domain, code, text


class _NSError:
    def __init__(self, error: RemoteError) -> None:
        self.error = error

    @staticmethod
    def encode_archive(obj: "_NSError", archive: Any) -> None:
        archive.encode("NSDomain", obj.error.domain)
        archive.encode("NSCode", obj.error.code)
        archive.encode("NSUserInfo", {"NSLocalizedDescription": obj.error.text})


archiver.ARCHIVE_CLASS_MAP[_NSError] = "NSError"  # the way out only; what comes in is the host's matter
Handler = Callable[[str, Sequence[Any]], Any]


class Channel:
    """The phone's end of one channel."""

    def __init__(self, connection: "Connection", code: int) -> None:
        self._connection = connection
        self.code = code

    def tell(self, content: Any) -> None:
        """An object that nobody asked for."""
        self._connection.send(-self.code, _OBJECT, content)

    def call(self, selector: str, *arguments: Any) -> None:
        """A method of the host's object."""
        self._connection.send(-self.code, _DISPATCH, selector, arguments)


class Connection:
    """One connection. ``open_channel`` gives a channel's handler by its identifier, or raises RemoteError."""

    def __init__(self, stream: Stream, open_channel: Callable[[str, Channel], Handler]) -> None:
        self._stream = stream
        self._open = open_channel
        self._handlers: dict[int, Handler] = {0: self._control}
        self._ids = itertools.count(1)

    def serve(self, capabilities: dict[str, int]) -> None:
        """Until the host hangs up."""
        self.send(0, _DISPATCH, "_notifyOfPublishedCapabilities:", [capabilities])
        while True:
            identifier, conversation, code, wants_reply, kind, arguments, content = self._receive()
            if kind != _DISPATCH:
                continue
            try:
                handler = self._handlers.get(code)
                if handler is None:
                    raise RemoteError("DTXMessage", 1, f"no channel {code}")
                answer = handler(str(content), arguments)
            except RemoteError as e:
                if wants_reply:
                    self._reply(identifier, conversation + 1, code, _ERROR, _NSError(e))
                continue
            if wants_reply:
                self._reply(identifier, conversation + 1, code, _OK if answer is None else _OBJECT, answer)

    def _control(self, selector: str, arguments: Sequence[Any]) -> Any:
        match selector:
            case "_requestChannelWithCode:identifier:":
                code, identifier = int(arguments[0]), str(arguments[1])
                self._handlers[code] = self._open(identifier, Channel(self, code))
            case "_channelCanceled:":
                self._handlers.pop(int(arguments[0]), None)
            case "_notifyOfPublishedCapabilities:":
                pass
            case _:
                raise unknown(selector)

    def _receive(self) -> tuple[int, int, int, bool, int, list[Any], Any]:
        parts: list[bytes] = []
        while True:
            magic, size, index, count, length, identifier, conversation, code, reply = _FRAGMENT.unpack(
                self._stream.read(_FRAGMENT.size)
            )
            if magic != _MAGIC or not _FRAGMENT.size <= size <= 256 or length > _MAX_BYTES:
                raise ValueError("no DTX fragment")
            self._stream.read(size - _FRAGMENT.size)
            if count == 1 or index > 0:  # of several fragments the first has no body
                parts.append(self._stream.read(length))
            if index == count - 1:
                break
        body = b"".join(parts)
        kind, n_arguments, total = _PAYLOAD.unpack(body[: _PAYLOAD.size])
        arguments = body[_PAYLOAD.size : _PAYLOAD.size + n_arguments]
        content = body[_PAYLOAD.size + n_arguments : _PAYLOAD.size + total]
        found = archiver.unarchive(content) if content else None
        return identifier, conversation, code, bool(reply & 1), kind & 0xFF, parse_arguments(arguments), found

    def send(self, code: int, kind: int, content: Any, arguments: Sequence[Any] = ()) -> None:
        """A message of the phone's own."""
        self._write(next(self._ids), 0, code, kind, content, arguments)

    def _reply(self, identifier: int, conversation: int, code: int, kind: int, content: Any) -> None:
        self._write(identifier, conversation, code, kind, content, ())

    def _write(
        self, identifier: int, conversation: int, code: int, kind: int, content: Any, arguments: Sequence[Any]
    ) -> None:
        packed = build_arguments(arguments)
        archived = b"" if content is None else archiver.archive(content)
        body = _PAYLOAD.pack(kind, len(packed), len(packed) + len(archived)) + packed + archived
        header = _FRAGMENT.pack(_MAGIC, _FRAGMENT.size, 0, 1, len(body), identifier, conversation, code, 0)
        self._stream.write(header + body)


def unknown(selector: str) -> RemoteError:
    """As Foundation says it."""
    return RemoteError("DTXMessage", 1, f"Unable to invoke '{selector}' - it does not respond to the selector")


def build_arguments(arguments: Sequence[Any]) -> bytes:
    """Each as an archive in a buffer, behind an empty key."""
    if not arguments:
        return b""
    body = b""
    for argument in arguments:
        archived = archiver.archive(argument)
        body += struct.pack("<III", _NULL, _BUFFER, len(archived)) + archived
    return struct.pack("<IIQ", _DICTIONARY, 0, len(body)) + body


def parse_arguments(data: bytes) -> list[Any]:
    """Raises ValueError for what is no dictionary of primitives."""
    if not data:
        return []
    at, found = 16, []
    while at < len(data):
        _key, at = _primitive(data, at)
        value, at = _primitive(data, at)
        found.append(value)
    return found


def _primitive(data: bytes, at: int) -> tuple[Any, int]:
    try:
        (kind,) = struct.unpack_from("<I", data, at)
        at += 4
        match kind & 0xFF:
            case 10:
                return None, at
            case 3:
                return struct.unpack_from("<i", data, at)[0], at + 4
            case 6:
                return struct.unpack_from("<q", data, at)[0], at + 8
            case 9:
                return struct.unpack_from("<d", data, at)[0], at + 8
            case 1 | 2:
                (length,) = struct.unpack_from("<I", data, at)
                content = data[at + 4 : at + 4 + length]
                if kind & 0xFF == _STRING:
                    return content.decode(errors="replace"), at + 4 + length
                return (archiver.unarchive(content) if content else None), at + 4 + length
    except struct.error as e:
        raise ValueError("a primitive that ends too early") from e
    raise ValueError(f"no primitive of type {kind}")
