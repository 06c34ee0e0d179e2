"""RemoteXPC from the phone's side: XPC objects in messages, and messages on two streams of an HTTP/2 connection.

Of HTTP/2 (RFC 9113) it has just the frames that RemoteXPC needs: no compressed headers, no flow control.
"""

import struct
import uuid
from typing import Any

from tests.doubles.iphone.wire import Stream

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
_ACK, _END_HEADERS = 1, 4
_MAX_STREAMS, _INITIAL_WINDOW = (3, 100), (4, 2**20)
_MAX_FRAME_BYTES = 2**20
_WRAPPER, _PAYLOAD = struct.Struct("<IIQQ"), struct.Struct("<II")
_WRAPPER_MAGIC, _PAYLOAD_MAGIC, _VERSION = 0x29B00B92, 0x42133742, 5
_ALWAYS, _HAS_DATA = 0x1, 0x100
_NULL, _BOOL, _INT64, _UINT64, _DOUBLE = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000
_BYTES, _STRING, _UUID, _ARRAY, _DICTIONARY = 0x8000, 0x9000, 0xA000, 0xE000, 0xF000
ROOT, REPLY = 1, 3  # the two streams


class Unsigned(int):
    """A number that goes out as one without a sign."""


def encode(value: Any) -> bytes:
    """An XPC object; raises TypeError for what is none."""
    match value:
        case None:
            return struct.pack("<I", _NULL)
        case bool():
            return struct.pack("<II", _BOOL, value)
        case Unsigned():
            return struct.pack("<IQ", _UINT64, value)
        case int():
            return struct.pack("<Iq", _INT64, value)
        case float():
            return struct.pack("<Id", _DOUBLE, value)
        case str():
            text = value.encode() + b"\0"
            return struct.pack("<II", _STRING, len(text)) + _padded(text)
        case bytes():
            return struct.pack("<II", _BYTES, len(value)) + _padded(value)
        case uuid.UUID():
            return struct.pack("<I", _UUID) + value.bytes
        case list():
            body = struct.pack("<I", len(value)) + b"".join(map(encode, value))
            return struct.pack("<II", _ARRAY, len(body)) + body
        case dict():
            entries = (_padded(k.encode() + b"\0") + encode(v) for k, v in value.items())
            body = struct.pack("<I", len(value)) + b"".join(entries)
            return struct.pack("<II", _DICTIONARY, len(body)) + body
    raise TypeError(f"no XPC object: {value!r}")


def decode(data: bytes) -> Any:
    """The object that the bytes are; raises ValueError for what is none."""
    try:
        value, end = _decode(data, 0)
    except (struct.error, UnicodeDecodeError, RecursionError) as e:
        raise ValueError(f"no XPC object: {e}") from e
    if end != len(data):
        raise ValueError("more than one XPC object")
    return value


def _decode(data: bytes, at: int) -> tuple[Any, int]:
    (kind,) = struct.unpack_from("<I", data, at)
    at += 4
    match kind:
        case 0x1000:
            return None, at
        case 0x2000:
            return bool(struct.unpack_from("<I", data, at)[0]), at + 4
        case 0x3000:
            return struct.unpack_from("<q", data, at)[0], at + 8
        case 0x4000:
            return Unsigned(struct.unpack_from("<Q", data, at)[0]), at + 8
        case 0x5000:
            return struct.unpack_from("<d", data, at)[0], at + 8
        case 0xA000:
            return uuid.UUID(bytes=data[at : at + 16]), at + 16
    (size,) = struct.unpack_from("<I", data, at)
    at += 4
    if size > len(data) - at:
        raise ValueError("an XPC object that ends too early")
    match kind:
        case 0x8000:
            return data[at : at + size], at + size + -size % 4
        case 0x9000:
            return data[at : at + size].rstrip(b"\0").decode(), at + size + -size % 4
        case 0xE000:
            return _decode_many(data, at, named=False)
        case 0xF000:
            return _decode_many(data, at, named=True)
    raise ValueError(f"no XPC object of type {kind:#x}")


def _decode_many(data: bytes, at: int, named: bool) -> tuple[Any, int]:
    (count,) = struct.unpack_from("<I", data, at)
    at += 4
    values: list[tuple[str, Any]] = []
    for _ in range(count):
        key = ""
        if named:
            end = data.index(b"\0", at)
            key = data[at:end].decode()
            at = end + 1 + -(end + 1 - at) % 4
        value, at = _decode(data, at)
        values.append((key, value))
    return (dict(values) if named else [v for _, v in values]), at


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


class RemoteXpc:
    """One connection. Every method raises EOFError at its end, and ValueError for what is no RemoteXPC."""

    def __init__(self, stream: Stream) -> None:
        """Opens the connection as a phone does: both streams, before a host says anything but its opening words."""
        self._stream = stream
        self._arrived = {ROOT: b"", REPLY: b""}
        self._opened: set[int] = set()
        if stream.read(len(_PREFACE)) != _PREFACE:
            raise ValueError("no HTTP/2")
        self._write_frame(_SETTINGS, 0, 0, struct.pack(">HIHI", *_MAX_STREAMS, *_INITIAL_WINDOW))
        self._write_frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**20 - 65535))

    def receive(self) -> tuple[int, int, Any]:
        """The stream, the flags and the object of the next message; None for one without."""
        while True:
            for number, arrived in self._arrived.items():
                if len(arrived) < _WRAPPER.size:
                    continue
                magic, flags, size, _identifier = _WRAPPER.unpack_from(arrived)
                if magic != _WRAPPER_MAGIC or size > _MAX_FRAME_BYTES:
                    raise ValueError("no RemoteXPC message")
                whole = _WRAPPER.size + size
                if len(arrived) >= whole:
                    self._arrived[number] = arrived[whole:]
                    return number, flags, _content(arrived[_WRAPPER.size : whole])
            self._read_frame()

    def send(self, number: int, content: Any, flags: int = _ALWAYS) -> None:
        """A message; None for one without an object."""
        if number not in self._opened:
            self._opened.add(number)
            self._write_frame(_HEADERS, _END_HEADERS, number, b"")
        body = b"" if content is None else _PAYLOAD.pack(_PAYLOAD_MAGIC, _VERSION) + encode(content)
        flags |= _HAS_DATA if content else 0
        self._write_frame(_DATA, 0, number, _WRAPPER.pack(_WRAPPER_MAGIC, flags, len(body), 0) + body)

    def _read_frame(self) -> None:
        size, kind, flags, number = struct.unpack(">xIBBI", b"\0" + b"\0" + self._stream.read(9))
        if size > _MAX_FRAME_BYTES:
            raise ValueError(f"an HTTP/2 frame of {size} bytes")
        body = self._stream.read(size)
        if kind == _DATA and number in self._arrived:
            self._arrived[number] += body
        elif kind == _SETTINGS and not flags & _ACK:
            self._write_frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            self._write_frame(_PING, _ACK, 0, body)
        elif kind == _GOAWAY:
            raise EOFError

    def _write_frame(self, kind: int, flags: int, number: int, body: bytes) -> None:
        self._stream.write(struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, number) + body)


def _content(body: bytes) -> Any:
    if not body:
        return None
    magic, version = _PAYLOAD.unpack_from(body)
    if (magic, version) != (_PAYLOAD_MAGIC, _VERSION):
        raise ValueError("no RemoteXPC payload")
    return decode(body[_PAYLOAD.size :])
