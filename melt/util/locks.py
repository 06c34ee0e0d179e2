"""Locks on files and folders that others use too: on a results folder, on runs in the making, on models in use.

They are the kernel's (flock), on the files themselves, so that they end with their holder and leave nothing behind.
They hold between processes, containers and, where the file system can, machines. One without locks holds nobody up.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

WAIT_S = 30.0  # whoever is alone in a folder is so for milliseconds
_AGAIN_S = 0.01
_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def one_at_a_time(lock_file: Path) -> Iterator[None]:
    """Waits for whoever else is at what the lock file stands for, be it for minutes; raises OSError."""
    lock = FileLock(lock_file, fallback_to_soft=False)  # which would wait for ever for a file that is there already
    try:
        lock.acquire()
    except OSError as e:
        if e.errno not in _NO_LOCKS:
            raise
        yield
        return
    try:
        yield
    finally:
        lock.release()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """The only one at work in a folder; raises OSError where somebody else is for half a minute."""
    fd = hold(path)
    try:
        yield
    finally:
        os.close(fd)


@contextmanager
def in_use(path: Path) -> Iterator[None]:
    """A file or folder that others may use too, and none may remove."""
    fd = hold(path, fcntl.LOCK_SH)
    try:
        yield
    finally:
        os.close(fd)


def hold(path: Path, how: int = fcntl.LOCK_EX) -> int:
    """A file or folder held until the descriptor is closed; raises OSError as ``alone`` does."""
    fd = _opened(path)
    try:
        deadline = time.monotonic() + WAIT_S
        while _is_taken(fd, how):
            if time.monotonic() > deadline:
                raise OSError(errno.ETIMEDOUT, "another process has held it for half a minute", str(path))
            time.sleep(_AGAIN_S)
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_held(path: Path, without_locks: bool = True) -> bool:
    """Whether somebody holds a file or folder; ``without_locks`` is the answer where that cannot be told."""
    try:
        fd = _opened(path)
    except OSError:
        return without_locks
    try:
        return _is_taken(fd, fcntl.LOCK_EX, without_locks)
    finally:
        os.close(fd)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)


def _is_taken(fd: int, how: int, without_locks: bool = False) -> bool:
    """Takes the lock where it is free."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except OSError as e:
        return True if e.errno in _TAKEN else without_locks
    return False
