"""The phone's disk: room that runs out, and a cable that may be pulled after so many bytes."""

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

TOTAL_BYTES = 64 * 2**30


class Disk:
    """What all files of the phone share."""

    def __init__(self) -> None:
        self.total_bytes = TOTAL_BYTES
        self.free_bytes = TOTAL_BYTES // 2
        self._lock = threading.Lock()
        self._countdown: tuple[int, Callable[[], None]] | None = None

    def after(self, n_bytes: int, act: Callable[[], None]) -> None:
        """Does something once so many more bytes were written."""
        with self._lock:
            self._countdown = (n_bytes, act)

    def write(self, fd: int, data: memoryview) -> None:
        """Raises OSError as a full disk does; what found room is there."""
        before = os.fstat(fd).st_size
        limit = self.free_bytes + before
        at = before if _appends(fd) else os.lseek(fd, 0, os.SEEK_CUR)
        fits = data[: max(0, limit - at)]
        while fits:
            fits = fits[os.write(fd, fits) :]
        with self._lock:
            self.free_bytes -= os.fstat(fd).st_size - before
        self._count(len(data))
        if max(0, limit - at) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def truncate(self, fd: int, size: int) -> None:
        """As ftruncate; a longer file takes its room."""
        before = os.fstat(fd).st_size
        if size - before > self.free_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.ftruncate(fd, size)
        with self._lock:
            self.free_bytes -= size - before

    @contextlib.contextmanager
    def freeing(self, path: Path | None) -> Iterator[None]:
        """What the path holds is free again if the block goes through."""
        held = _held(path) if path is not None else 0
        yield
        with self._lock:
            self.free_bytes += held

    def _count(self, n_bytes: int) -> None:
        with self._lock:
            if self._countdown is None:
                return
            left, act = self._countdown
            self._countdown = None if n_bytes >= left else (left - n_bytes, act)
        if n_bytes >= left:
            act()


def _appends(fd: int) -> bool:
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)


def _held(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        return sum(p.lstat().st_size for p in path.rglob("*") if p.is_file())
    try:
        return path.lstat().st_size
    except OSError:
        return 0
