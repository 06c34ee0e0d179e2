"""One holder a device: two measurements at once would measure each other.

A lease is two locks, and neither needs the temporary folder, which users and containers have of their own. One is
this machine's: on Linux a socket whose name is in no file system, so that it holds between users, and between
containers that share the network; elsewhere a file. The other is a file in melt's cache, for containers that share
that. Both end with their holder. On devices, runners are looked for too, since other computers reach them.
"""

import errno
import fcntl
import hashlib
import os
import platform
import re
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from melt.errors import DeviceError
from melt.spec.facts import DeviceFacts
from melt.spec.profile import DeviceProfile
from melt.util.files import cache_folder

# Melts that have this variable differ see no leases of each other: tests run beside each other with it.
SCOPE = "MELT_LEASES"
_SHARED = Path("/tmp/melt-leases")  # noqa: S108 - one place of every user, where a machine has no sockets without files
_LONGEST = 60  # of a device's name in a socket's


class _TakenError(Exception):
    """Somebody holds it; says who."""


def lease_name(profile: DeviceProfile, facts: DeviceFacts) -> str:
    """One name for one device, however many profiles name it."""
    return f"{profile.driver}-{facts.identity or facts.serial_hash or profile.name}"


@contextmanager
def lease(device: str, name: str = "") -> Iterator[None]:
    """Holds a device for the length of the block; the system lets it go when the holder dies.

    Args:
        device: by ``lease_name``.
        name: what people call it.

    Raises:
        DeviceError: somebody else holds it; says which process.
    """
    whole = f"{os.environ.get(SCOPE, '')}/{device}"
    word = f"{re.sub(r'[^A-Za-z0-9._-]', '_', device)[-_LONGEST:]}-{hashlib.sha256(whole.encode()).hexdigest()[:16]}"
    with ExitStack() as held:
        try:
            held.callback(_hold_here(word).close)
            held.callback(os.close, _hold_file(cache_folder() / "leases" / f"{word}.lock"))
        except _TakenError as e:
            raise DeviceError(
                f"{name or device}: is being measured by {e}",
                "Wait until it ends, or end it; measuring twice at once would spoil both.",
            ) from e
        yield


def _hold_here(word: str) -> "socket.socket | _File":
    if sys.platform != "linux":
        return _File(_hold_file(_SHARED / f"{word}.lock", mode=0o1777))
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    address = f"\0melt-lease-{word}"
    try:
        one.bind(address)
        one.listen(1)
    except OSError as e:
        one.close()
        if e.errno != errno.EADDRINUSE:
            raise DeviceError(f"a lease cannot be had: {e.strerror}", "Run melt where it may make sockets.") from e
        raise _TakenError(_listener(address)) from e
    return one


class _File:
    """A descriptor that is closed like a socket."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def close(self) -> None:
        """Lets go."""
        os.close(self._fd)


def _listener(address: str) -> str:
    """Who listens there."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(1.0)
        asking.connect(address)
        pid, _uid, _gid = struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if pid:
            return f"process {pid}"
    return "a process of another container"


def _hold_file(path: Path, mode: int | None = None) -> int:
    """Holds a file until the descriptor is closed. A file system without locks holds nothing."""
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            if mode is not None:
                path.parent.chmod(mode)
        fd = _opened(path)
    except OSError as e:
        raise DeviceError(
            f"{path.parent}: holds no locks: {e.strerror}", "Set MELT_CACHE to a folder that can be written."
        ) from e
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        if e.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            who = _written(fd)
            os.close(fd)
            raise _TakenError(who) from e
    with suppress(OSError):  # opened for reading only: another user's file
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()} {platform.node()}".encode(), 0)
    return fd


def _opened(path: Path) -> int:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644)
    except PermissionError:
        return os.open(path, os.O_RDONLY | flags)


def _written(fd: int) -> str:
    pid, _, host = os.pread(fd, 100, 0).decode(errors="replace").strip().partition(" ")
    where = f" of {host}" if host and host != platform.node() else ""
    return f"process {pid}{where}" if pid.isdigit() else "another process"
