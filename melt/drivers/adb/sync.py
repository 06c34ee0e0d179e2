"""Files to and from a phone by the sync protocol, with 64-bit sizes.

Protocol: SYNC.TXT and file_sync_protocol.h of Android's adb. A request is an id, a length and a path.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO

from melt.drivers.adb.stream import GONE_HINT, Connection, Stream, read_exactly
from melt.drivers.remote.base import ConnectionLostError
from melt.errors import DeviceError

CHUNK_BYTES = 65536
MAX_PATH_BYTES = 1024
_STEP_S = 30.0  # the longest wait for any one step of a transfer
_END_S = 300.0  # the phone may first have to write what it holds in memory
_BATCH = 15  # chunks that go out in one write: with their headers they fit one packet of 1 MiB
_HEADER = struct.Struct("<4sI")
_STAT = struct.Struct("<4sIQQIIIIQqqq")
_NO_FILE = 2  # ENOENT, which is the same number on every Linux

Progress = Callable[[int], None]  # bytes so far


def size_bytes(connection: Connection, path: str, timeout_s: float = _STEP_S) -> int | None:
    """The size of what is there, links followed; None where nothing is. Also the cheapest sign of life of a phone.

    Raises:
        DeviceError: it may not be looked at.
    """
    with _sync(connection, timeout_s) as stream:
        stream.write(_request(b"STA2", path), timeout_s)
        answer = _STAT.unpack(read_exactly(stream, _STAT.size, timeout_s))
    kind, error, *_, size, _atime, _mtime, _ctime = answer
    if kind != b"STA2":
        raise DeviceError(f"{connection.name}: answers {kind!r} when asked for {path}")
    if error == _NO_FILE:
        return None
    if error:
        raise DeviceError(f"{connection.name}: {path}: cannot be looked at (errno {error})")
    return int(size)


def send(
    connection: Connection,
    source: BinaryIO,
    path: str,
    mode: int,
    mtime_s: int,
    progress: Progress = lambda _done: None,
) -> None:
    """Writes a file on the phone; what the phone says against it is heard while it goes out.

    Raises:
        DeviceError: the phone refuses it, or its disk is full.
        ConnectionLostError: the phone went away, or takes nothing any more.
    """
    sent = 0
    with _sync(connection) as stream:
        if "sendrecv_v2" in connection.features:
            stream.write(_request(b"SND2", path) + struct.pack("<4sII", b"SND2", 0o100000 | mode, 0), _STEP_S)
        else:
            stream.write(_request(b"SEND", f"{path},{0o100000 | mode}"), _STEP_S)
        for batch, size in _chunks(source):
            if stream.readable():
                break  # only a refusal comes before the end
            stream.write(batch, _STEP_S)
            sent += size
            progress(sent)
        else:
            stream.write(struct.pack("<4sI", b"DONE", mtime_s & 0xFFFFFFFF), _STEP_S)
        _read_status(stream, connection.name, path, _END_S)


def receive(connection: Connection, path: str, sink: IO[bytes]) -> None:
    """Brings a file to the host.

    Raises:
        DeviceError: the phone refuses it.
    """
    with _sync(connection) as stream:
        if "sendrecv_v2" in connection.features:
            stream.write(_request(b"RCV2", path) + struct.pack("<4sI", b"RCV2", 0), _STEP_S)
        else:
            stream.write(_request(b"RECV", path), _STEP_S)
        while True:
            kind, size = _header(stream, _STEP_S)
            if kind == b"DONE":
                return
            if kind == b"FAIL":
                raise _refused(stream, connection.name, path, size)
            if kind != b"DATA" or size > CHUNK_BYTES:
                raise DeviceError(f"{connection.name}: sends {kind!r} with {size} bytes in the middle of {path}")
            sink.write(read_exactly(stream, size, _STEP_S))


@contextmanager
def _sync(connection: Connection, timeout_s: float = _STEP_S) -> Iterator[Stream]:
    if not {"stat_v2"} <= connection.features:
        raise DeviceError(
            f"{connection.name}: its adb has no 64-bit file sizes (before Android 8)",
            "melt cannot measure on such a phone.",
        )
    stream = connection.open("sync:", timeout_s)
    try:
        yield stream
    except TimeoutError as e:
        raise ConnectionLostError(f"{connection.name}: a transfer stands still: {e}", GONE_HINT) from e
    finally:
        stream.close()


def _request(kind: bytes, path: str) -> bytes:
    data = path.encode(errors="surrogateescape")
    if len(data) > MAX_PATH_BYTES or b"\0" in data:
        raise DeviceError(f"{path[:80]!r}...: no path of a phone", f"At most {MAX_PATH_BYTES} bytes, and no zero byte.")
    return struct.pack("<4sI", kind, len(data)) + data


def _chunks(source: BinaryIO) -> Iterator[tuple[memoryview, int]]:
    """Several chunks at a time, each behind its header, and the bytes of the file in them; one buffer for all."""
    buffer = memoryview(bytearray(_BATCH * (_HEADER.size + CHUNK_BYTES)))
    while True:
        used = n_bytes = 0
        while used < len(buffer):
            got = source.readinto(buffer[used + _HEADER.size : used + _HEADER.size + CHUNK_BYTES])  # type: ignore[attr-defined]
            if not got:
                break
            _HEADER.pack_into(buffer, used, b"DATA", got)
            used += _HEADER.size + got
            n_bytes += got
            if used + _HEADER.size + CHUNK_BYTES > len(buffer):
                break
        if not n_bytes:
            return
        yield buffer[:used], n_bytes


def _header(stream: Stream, timeout_s: float) -> tuple[bytes, int]:
    kind, size = _HEADER.unpack(read_exactly(stream, _HEADER.size, timeout_s))
    return kind, size


def _read_status(stream: Stream, name: str, path: str, timeout_s: float) -> None:
    kind, size = _header(stream, timeout_s)
    if kind == b"FAIL":
        raise _refused(stream, name, path, size)
    if kind != b"OKAY":
        raise DeviceError(f"{name}: answers {kind!r} at the end of {path}")


def _refused(stream: Stream, name: str, path: str, size: int) -> DeviceError:
    reason = read_exactly(stream, min(size, 4096), _STEP_S).decode(errors="replace")
    hint = "Free some on the phone, or: melt devices clean NAME" if "No space left" in reason else ""
    return DeviceError(f"{name}: {path}: {reason}", hint)
