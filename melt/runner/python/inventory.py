"""Reads many small files of the device once, so that the host can tell what the device can measure.

Besides file patterns two names are understood that no file tells: ``uname:FIELD`` and ``sysconf:NAME``.
"""

import errno
import glob
import os
import stat
from collections.abc import Iterable
from pathlib import Path

MAX_FILES = 8192
MAX_BYTES = 65536


def read_inventory(globs: Iterable[str], root: str = "", max_bytes: int = MAX_BYTES) -> list[dict[str, str]]:
    """Every file that the patterns name under ``root``, as {path, text} or {path, error}.

    Paths are reported without ``root``. Directories, pipes and device nodes are passed over, so that
    nothing here can block.
    """
    entries: list[dict[str, str]] = []
    seen: set[str] = set()
    for pattern in globs:
        if not pattern.startswith("/"):
            entries.append({"path": pattern, **_system_value(pattern)})
            continue
        for found in sorted(glob.glob(glob.escape(root) + pattern)):  # noqa: PTH207
            if len(entries) >= MAX_FILES:
                return entries
            if found in seen:
                continue
            seen.add(found)
            read = _read(Path(found), max_bytes)
            if read is not None:
                entries.append({"path": found[len(root) :], **read})
    return entries


def _read(path: Path, max_bytes: int) -> dict[str, str] | None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        return {"error": errno_name(e)}
    try:
        return {"text": read_whole(fd, max_bytes).decode("utf-8", "replace")}
    except OSError as e:
        return {"error": errno_name(e)}
    finally:
        os.close(fd)


def read_whole(fd: int, max_bytes: int) -> bytes:
    """A file from its start; files of the kernel's may come in pieces."""
    parts, size = [], 0
    while size < max_bytes:
        part = os.pread(fd, max_bytes - size, size)
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def errno_name(error: OSError) -> str:
    """The errno's short name, "EACCES"."""
    return errno.errorcode.get(error.errno or 0, str(error.errno))


def _system_value(name: str) -> dict[str, str]:
    kind, _, key = name.partition(":")
    try:
        if kind == "uname":
            return {"text": str(getattr(os.uname(), key))}
        if kind == "sysconf":
            return {"text": str(os.sysconf(key))}
    except (AttributeError, ValueError, OSError):
        pass
    return {"error": "ENOENT"}
