"""AFC: a real folder's files over a connection. No path leads out of the folder.

A packet is a magic, its whole length, the length up to the data, a number and an opcode, 64 bits each.
"""

import errno
import os
import posixpath
import shutil
import stat
import struct
from collections.abc import Callable
from pathlib import Path

from tests.doubles.iphone.disk import Disk
from tests.doubles.iphone.wire import Stream

_HEADER = struct.Struct("<8sQQQQ")
_MAGIC = b"CFA6LPAA"
_STATUS, _DATA, _OPENED, _TOLD, _WRITE = 1, 2, 0x0E, 0x13, 0x10
_U64 = struct.Struct("<Q")
_MAX_BYTES = 64 * 2**20
_PART_BYTES = 4 * 2**20
_MODES = {
    1: os.O_RDONLY,
    2: os.O_RDWR | os.O_CREAT,
    3: os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    4: os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    5: os.O_WRONLY | os.O_APPEND | os.O_CREAT,
    6: os.O_RDWR | os.O_APPEND | os.O_CREAT,
}
OK, INVALID, NOT_FOUND, IS_DIR, DENIED, UNSUPPORTED, EXISTS, NO_SPACE, IO_ERROR, NOT_EMPTY = (
    *(0, 7, 8, 9, 10, 15, 16, 18, 20, 33),
)
_OF_ERRNO = {
    errno.ENOENT: NOT_FOUND,
    errno.ENOTDIR: NOT_FOUND,
    errno.EISDIR: IS_DIR,
    errno.EEXIST: EXISTS,
    errno.ENOSPC: NO_SPACE,
    errno.ENOTEMPTY: NOT_EMPTY,
    errno.EACCES: DENIED,
    errno.EPERM: DENIED,
    errno.EBADF: INVALID,
}


class AfcError(Exception):
    """A status that is not zero."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Afc:
    """One connection, rooted in a folder. ``shown`` limits what may be reached to a folder below it.

    Packets are taken and answered in order. ``on_haste``, where there is one, is called when a write is to be answered
    and more has come already; it says whether that is answered first, or raises EOFError.
    """

    def __init__(
        self, stream: Stream, root: Path, disk: Disk, shown: str = "", on_haste: Callable[[], bool] | None = None
    ) -> None:
        self._stream = stream
        self._root = root.resolve()
        self._disk = disk
        self._shown = shown
        self._on_haste = on_haste
        self._files: dict[int, int] = {}
        self._next = 1
        self._room = memoryview(bytearray(_PART_BYTES))

    def serve(self) -> None:
        """Until the host hangs up."""
        held = b""
        try:
            while True:
                magic, whole, head, number, opcode = _HEADER.unpack(self._stream.read(_HEADER.size))
                if magic != _MAGIC or not _HEADER.size <= head <= whole <= _MAX_BYTES:
                    raise EOFError
                fields = self._stream.read(head - _HEADER.size)
                kind, body = self._answer(opcode, fields, whole - head)
                size = _HEADER.size + len(body)
                head = _HEADER.size if kind == _DATA else size  # all but a file's content belongs to the head
                answer = _HEADER.pack(_MAGIC, size, head, number, kind) + body
                if opcode == _WRITE and not held and self._on_haste and self._stream.has_more() and self._on_haste():
                    held = answer
                    continue
                self._stream.write(answer + held)
                held = b""
        finally:
            for fd in self._files.values():
                os.close(fd)

    def _answer(self, opcode: int, fields: bytes, n_data: int) -> tuple[int, bytes]:
        try:
            if opcode == _WRITE:
                self._write(fields, n_data)
                return _STATUS, _U64.pack(OK)
            fields += self._stream.read(n_data)
            handler = _HANDLERS.get(opcode)
            if handler is None:
                raise AfcError(UNSUPPORTED)
            return handler(self, fields)
        except AfcError as e:
            return _STATUS, _U64.pack(e.status)
        except OSError as e:
            return _STATUS, _U64.pack(_OF_ERRNO.get(e.errno or 0, IO_ERROR))
        except (struct.error, ValueError, KeyError):
            return _STATUS, _U64.pack(INVALID)

    def _path(self, name: str, follow: bool = True) -> Path:
        """Where a name leads; raises AfcError where that is outside."""
        inside = posixpath.normpath("/" + name).lstrip("/")
        path = self._root / inside
        real = path.resolve() if follow else path.parent.resolve() / path.name
        if not real.is_relative_to(self._root):
            raise AfcError(DENIED)
        if self._shown and inside and not (inside + "/").startswith(self._shown + "/"):
            raise AfcError(DENIED)
        return path

    def _write(self, fields: bytes, n_data: int) -> None:
        """All of the data is read whatever comes of it: the next packet follows it."""
        error: AfcError | OSError | None = None
        fd = self._files.get(_U64.unpack(fields[:8])[0], -1)
        while n_data:
            part = self._room[: min(n_data, _PART_BYTES)]
            self._stream.read_into(part)
            n_data -= len(part)
            if error is not None:
                continue
            try:
                self._disk.write(fd, part)
            except OSError as e:
                error = e
        if error is not None:
            raise error

    def _read_dir(self, fields: bytes) -> tuple[int, bytes]:
        path = self._path(_text(fields))
        names = [n.name for n in path.iterdir() if path != self._root or not self._shown or n.name == self._shown]
        return _DATA, b"".join(n.encode() + b"\0" for n in (".", "..", *names))

    def _info(self, fields: bytes) -> tuple[int, bytes]:
        path = self._path(_text(fields), follow=False)
        found = path.lstat()
        kind = {stat.S_IFDIR: "S_IFDIR", stat.S_IFLNK: "S_IFLNK"}.get(stat.S_IFMT(found.st_mode), "S_IFREG")
        info = {
            "st_size": found.st_size,
            "st_blocks": found.st_blocks,
            "st_nlink": found.st_nlink,
            "st_ifmt": kind,
            "st_mtime": found.st_mtime_ns,
            "st_birthtime": found.st_ctime_ns,
        }
        return _DATA, _pairs(info | ({"LinkTarget": path.readlink()} if kind == "S_IFLNK" else {}))

    def _device_info(self, _fields: bytes) -> tuple[int, bytes]:
        info = {"Model": "iPhone10,4", "FSTotalBytes": self._disk.total_bytes, "FSFreeBytes": self._disk.free_bytes}
        return _DATA, _pairs({**info, "FSBlockSize": 4096})

    def _open(self, fields: bytes) -> tuple[int, bytes]:
        path, flags = self._path(_text(fields[8:])), _MODES[_U64.unpack(fields[:8])[0]]
        if path.is_dir():
            raise AfcError(IS_DIR)
        with self._disk.freeing(path if flags & os.O_TRUNC else None):
            fd = os.open(path, flags | os.O_CLOEXEC, 0o644)
        handle, self._next = self._next, self._next + 1
        self._files[handle] = fd
        return _OPENED, _U64.pack(handle)

    def _read(self, fields: bytes) -> tuple[int, bytes]:
        handle, size = struct.unpack("<QQ", fields[:16])
        return _DATA, os.read(self._files[handle], min(size, _MAX_BYTES))

    def _seek(self, fields: bytes) -> tuple[int, bytes]:
        handle, whence, offset = struct.unpack("<QQq", fields[:24])
        os.lseek(self._files[handle], offset, whence)
        return _done()

    def _tell(self, fields: bytes) -> tuple[int, bytes]:
        return _TOLD, _U64.pack(os.lseek(self._files[_U64.unpack(fields[:8])[0]], 0, os.SEEK_CUR))

    def _close(self, fields: bytes) -> tuple[int, bytes]:
        os.close(self._files.pop(_U64.unpack(fields[:8])[0]))
        return _done()

    def _set_size(self, fields: bytes) -> tuple[int, bytes]:
        handle, size = struct.unpack("<QQ", fields[:16])
        self._disk.truncate(self._files[handle], size)
        return _done()

    def _truncate(self, fields: bytes) -> tuple[int, bytes]:
        fd = os.open(self._path(_text(fields[8:])), os.O_WRONLY | os.O_CLOEXEC)
        try:
            self._disk.truncate(fd, _U64.unpack(fields[:8])[0])
        finally:
            os.close(fd)
        return _done()

    def _remove(self, fields: bytes) -> tuple[int, bytes]:
        path = self._path(_text(fields), follow=False)
        if path == self._root:
            raise AfcError(DENIED)
        with self._disk.freeing(path):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        return _done()

    def _remove_all(self, fields: bytes) -> tuple[int, bytes]:
        path = self._path(_text(fields), follow=False)
        if path == self._root:
            raise AfcError(DENIED)
        with self._disk.freeing(path):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return _done()

    def _make_dir(self, fields: bytes) -> tuple[int, bytes]:
        self._path(_text(fields)).mkdir(parents=True, exist_ok=True)
        return _done()

    def _rename(self, fields: bytes) -> tuple[int, bytes]:
        source, target = (n.decode() for n in fields.split(b"\0")[:2])
        self._path(source, follow=False).rename(self._path(target, follow=False))
        return _done()

    def _link(self, fields: bytes) -> tuple[int, bytes]:
        target, name = (n.decode() for n in fields[8:].split(b"\0")[:2])
        path = self._path(name, follow=False)
        if _U64.unpack(fields[:8])[0] == 1:
            os.link(self._path(target), path)
        else:
            path.symlink_to(target)
        return _done()

    def _set_time(self, fields: bytes) -> tuple[int, bytes]:
        (t_ns,) = _U64.unpack(fields[:8])
        os.utime(self._path(_text(fields[8:])), ns=(t_ns, t_ns))
        return _done()

    def _accept(self, _fields: bytes) -> tuple[int, bytes]:
        return _done()


_HANDLERS: dict[int, Callable[[Afc, bytes], tuple[int, bytes]]] = {
    0x03: Afc._read_dir,
    0x07: Afc._truncate,
    0x08: Afc._remove,
    0x09: Afc._make_dir,
    0x0A: Afc._info,
    0x0B: Afc._device_info,
    0x0D: Afc._open,
    0x0F: Afc._read,
    0x11: Afc._seek,
    0x12: Afc._tell,
    0x14: Afc._close,
    0x15: Afc._set_size,
    0x18: Afc._rename,
    0x1A: Afc._accept,
    0x1B: Afc._accept,
    0x1C: Afc._link,
    0x1E: Afc._set_time,
    0x22: Afc._remove_all,
}


def _done() -> tuple[int, bytes]:
    return _STATUS, _U64.pack(OK)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode()


def _pairs(info: dict[str, object]) -> bytes:
    return b"".join(f"{k}\0{v}\0".encode() for k, v in info.items())
