"""One holder a device: two measurements at once would measure each other."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from melt.errors import DeviceError
from melt.spec.facts import DeviceFacts
from melt.spec.profile import DeviceProfile

# One place for every user and every cache of this machine.
FOLDER = "melt-leases"


def lease_name(profile: DeviceProfile, facts: DeviceFacts) -> str:
    """One name for one device, however many profiles name it."""
    return f"{profile.driver}-{facts.serial_hash or profile.name}"


@contextmanager
def lease(device: str, name: str = "", folder: Path | None = None) -> Iterator[None]:
    """Holds a device for the length of the block; the system lets it go when the holder dies.

    Args:
        device: by ``lease_name``.
        name: what people call it.
        folder: where leases are; one place of this machine where it is not given.

    Raises:
        DeviceError: somebody else holds it; says which process.
    """
    folder = folder or Path(tempfile.gettempdir()) / FOLDER
    path = folder / f"{''.join(c if c.isalnum() or c in '._-' else '_' for c in device)}.lock"
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o1777)
        fd = _open(path)
    except OSError as e:
        raise DeviceError(
            f"{path}: cannot be locked: {e.strerror}", "Set TMPDIR to a folder that can be written."
        ) from e
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise DeviceError(
                f"{name or device}: is being measured by {_holder(fd)}",
                "Wait until it ends, or end it; measuring twice at once would spoil both.",
            ) from e
        with contextlib.suppress(OSError):  # opened for reading only: another user's file
            os.ftruncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _holder(fd: int) -> str:
    text = os.pread(fd, 20, 0).decode(errors="replace").strip()
    return f"process {text}" if text.isdigit() else "another process"
