"""The files of a .tar (.gz, .xz, .bz2) or .zip that nobody vouches for; nothing is written by their paths."""

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from melt.errors import RunnerError

MAX_BYTES = 8 * 2**30  # unpacked
MAX_FILES = 10_000
_MAX_HEADER_BYTES = 2**20  # of what describes a file, and of a link's target
_READ_BYTES = 2**20
_OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
# What the standard library's readers raise for content that is none. RuntimeError: a zip with a password.
_UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    ValueError,
    OverflowError,
    MemoryError,
)


@dataclass(frozen=True)
class Member:
    """A file with its content, which is to be read before the next one, or a link with its target."""

    path: PurePosixPath
    content: IO[bytes] | None
    target: str = ""


def members(archive: Path, is_wanted: Callable[[PurePosixPath], bool]) -> Iterator[Member]:
    """The wanted files and links of an archive.

    Raises:
        RunnerError: it cannot be read, is damaged, or is larger than any llama.cpp is.
    """
    try:
        mode = archive.stat().st_mode
        if not stat.S_ISREG(mode):
            raise RunnerError(f"{archive}: is no file", "Name the archive as it was downloaded.")
        kind = _of_zip if zipfile.is_zipfile(archive) else _of_tar
        with closing(kind(archive, is_wanted)) as found:
            yield from _checked(found, archive)
    except FileNotFoundError as e:
        raise RunnerError(f"{archive}: {e.strerror}", "Is that where it was downloaded to?") from e
    except PermissionError as e:
        raise RunnerError(f"{archive}: {e.strerror}", "Let this user read it.") from e
    except _UNREADABLE as e:
        raise _unreadable(archive, e) from e


def _checked(found: Iterator[Member], archive: Path) -> Iterator[Member]:
    """What reading the content raises is the archive's fault as well."""
    for member in found:
        content = member.content
        yield member if content is None else Member(member.path, io.BufferedReader(_Content(content, archive)))


def _unreadable(archive: Path, e: Exception) -> RunnerError:
    return RunnerError(f"{archive}: cannot be read as an archive: {e or type(e).__name__}", "Download it again.")


class _Content(io.RawIOBase):
    """A member's content, whose errors name the archive."""

    def __init__(self, content: IO[bytes], archive: Path) -> None:
        super().__init__()
        self._content = content
        self._archive = archive

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._content.read(min(len(buffer), _READ_BYTES))
        except _UNREADABLE as e:
            raise _unreadable(self._archive, e) from e
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._content.close()
        super().close()


class _Bounded:
    """A stream that gives no more at once than a header may be: tarfile reads headers whole."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        """Raises ReadError for more than any header."""
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        data: bytes = self._stream.read(size)
        return data

    def seek(self, position: int, whence: int = 0) -> int:
        """As the stream's."""
        return int(self._stream.seek(position, whence))

    def tell(self) -> int:
        """As the stream's."""
        return int(self._stream.tell())


def _of_tar(archive: Path, is_wanted: Callable[[PurePosixPath], bool]) -> "Generator[Member, None, None]":
    with archive.open("rb") as raw:
        magic = raw.read(6)
    opener = next((o for start, o in _OPENERS.items() if magic.startswith(start)), open)
    room, n_files = MAX_BYTES, 0
    with opener(archive, "rb") as stream:
        bounded: Any = _Bounded(stream)
        tar = tarfile.open(fileobj=bounded, mode="r:")  # noqa: SIM115 - it holds nothing but the stream
        for one in tar:
            path = PurePosixPath(one.name)
            room, n_files = room - max(one.size, 0), n_files + 1
            _check_size(archive, room, n_files)
            if not is_wanted(path):
                continue
            if one.isfile() and not one.issparse():
                yield Member(path, tar.extractfile(one))
            elif one.issym() or one.islnk():
                yield Member(path, None, one.linkname)


def _of_zip(archive: Path, is_wanted: Callable[[PurePosixPath], bool]) -> "Generator[Member, None, None]":
    with zipfile.ZipFile(archive) as packed:
        infos = packed.infolist()
        _check_size(archive, MAX_BYTES - sum(i.file_size for i in infos), len(infos))
        for info in infos:
            path = PurePosixPath(info.filename)
            if info.is_dir() or not is_wanted(path):
                continue
            if stat.S_ISLNK(info.external_attr >> 16):  # as Unix zips keep it
                if info.file_size > _MAX_HEADER_BYTES:
                    raise zipfile.BadZipFile(f"a link of {info.file_size} bytes")
                yield Member(path, None, packed.read(info).decode())
            else:
                yield Member(path, packed.open(info))


def _check_size(archive: Path, room_bytes: int, n_files: int) -> None:
    if room_bytes < 0 or n_files > MAX_FILES:
        raise RunnerError(f"{archive}: unpacks to more than any llama.cpp is", "Is it the right file?")
