"""Files that answer with an error, as the kernel's do for a part that is off or a reader who may not: a FUSE tree.

    python -m tests.doubles.board.errors FOLDER EAGAIN,EACCES,...

The files are named 0, 1, ... A file that may not be read cannot be opened; others fail when they are read.
"""

import contextlib
import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import mfusepy

from tests.support.waiting import wait_until

DENIED = ("EACCES", "EPERM")


class _Errors(mfusepy.Operations):  # type: ignore[misc]  # its types are not looked at
    use_ns = True

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def getattr(self, path: str, _handle: int | None = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if not path[1:].isdigit() or int(path[1:]) >= len(self._names):
            raise mfusepy.FuseOSError(errno.ENOENT)
        return {"st_mode": stat.S_IFREG | 0o444, "st_nlink": 1, "st_size": 4096}

    def open(self, path: str, _flags: int) -> int:
        name = self._names[int(path[1:])]
        if name in DENIED:
            raise mfusepy.FuseOSError(getattr(errno, name))
        return 0

    def read(self, path: str, _size: int, _offset: int, _handle: int) -> bytes:
        raise mfusepy.FuseOSError(getattr(errno, self._names[int(path[1:])]))


@contextmanager
def mounted(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """The files in an empty folder, by the errnos' names; needs root."""
    program = [sys.executable, "-m", "tests.doubles.board.errors", str(folder), ",".join(names)]
    with subprocess.Popen(program, cwd=Path(__file__).parents[3]) as process:
        try:
            wait_until(lambda: folder.is_mount() or process.poll() is not None)
            assert process.poll() is None, "FUSE did not start: is there a /dev/fuse?"
            yield
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)
            process.terminate()


if __name__ == "__main__":
    os.umask(0)
    mfusepy.FUSE(_Errors(sys.argv[2].split(",")), sys.argv[1], foreground=True, direct_io=True, nothreads=True)
