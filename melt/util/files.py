"""Where melt keeps what it can make again, and writing files so that they are whole or not there."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import platformdirs


def cache_folder() -> Path:
    """Models, runners and leases: ``MELT_CACHE``, or the platform's cache folder."""
    given = os.environ.get("MELT_CACHE")
    return Path(given).absolute() if given else Path(platformdirs.user_cache_dir("melt"))


def write_whole(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Writes a file under a temporary name beside its place, then renames it.

    Raises:
        OSError: nothing is left behind, and what was at ``path`` is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    temporary = Path(name)
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data)
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync(folder: Path) -> None:
    """Has a folder and every file in it on the disk; raises OSError."""
    for path in folder.iterdir():
        _sync(path, os.O_RDONLY | os.O_NOFOLLOW)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Has the names in a folder on the disk; raises OSError."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def arriving(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes its place when the block ends well; else nothing of it is left.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def why_not_writable(folder: Path) -> str:
    """Why nothing could be written in a folder that may not be there yet; empty where it could. Nothing is made."""
    try:
        there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    except OSError as e:
        return f"{folder}: {e.strerror}"
    if not there.is_dir():
        return f"{there} is not a folder"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"{there} cannot be written to"
