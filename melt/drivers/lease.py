"""One holder a device: two measurements at once would measure each other."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import filelock

from melt.errors import DeviceError
from melt.paths import cache_folder


@contextmanager
def lease(device: str, folder: Path | None = None) -> Iterator[None]:
    """Holds a device for the length of the block; the system lets it go when the holder dies.

    Raises:
        DeviceError: somebody else holds it; says who and since when.
    """
    folder = folder or cache_folder() / "leases"
    folder.mkdir(parents=True, exist_ok=True)
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in device)
    holder = folder / f"{safe}.json"
    lock = filelock.FileLock(folder / f"{safe}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as e:
        raise DeviceError(
            f"device {device!r} is being measured by {_describe(holder)}",
            "Wait until it ends, or end it; measuring twice at once would spoil both.",
        ) from e
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holder.write_text(json.dumps({"pid": os.getpid(), "since": since}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _describe(holder: Path) -> str:
    try:
        found = json.loads(holder.read_text())
        return f"process {int(found['pid'])} since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
