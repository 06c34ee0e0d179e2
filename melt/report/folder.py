"""A report's folder: filled beside what is there, then put in its place file by file.

A marker file says that the folder is a report and lists what melt wrote. Only that is ever replaced or removed;
whatever else lies in the folder stays.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from melt.errors import ReportError
from melt.util.files import write_whole
from melt.util.process import is_alive

INDEX = "index.html"
MARKER = ".melt-report"
_FIRST_LINE = "This folder is a report of melt, which replaces these files:"
_OURS = re.compile(r"index\.html|figures/[a-z0-9-]+\.(svg|png)|tables/[a-z0-9_]+\.csv")
_PARTIAL = re.compile(r"\.melt-([0-9]+)\.partial")


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A folder to fill, whose files come to ``out`` at the end, the page last; after a failure ``out`` is as it was.

    Raises:
        ReportError: ``out`` cannot be written, or holds something that is no report.
    """
    check(out)
    is_new = not out.exists()
    partial = out / f".melt-{os.getpid()}.partial"
    try:
        out.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        partial.mkdir()
        yield partial
        _publish(partial, out)
    except OSError as e:
        raise ReportError(f"{out}: cannot be written: {e.strerror or e}", _hint(e)) from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if is_new and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def check(out: Path) -> None:
    """That nothing of anyone else's can be lost.

    Raises:
        ReportError: ``out`` is there, and is neither a report nor an empty folder.
    """
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir():
        raise ReportError(f"{out}: exists and is not a folder", "Name another folder with --out.")
    held = [p for p in out.iterdir() if not _PARTIAL.fullmatch(p.name)]
    if held and written(out) is None:
        raise ReportError(
            f"{out}: exists and is not a report: it has no {MARKER} file",
            "Name a new or an empty folder with --out.",
        )


def written(folder: Path) -> set[str] | None:
    """The files that melt wrote into a report's folder, as its marker lists them; None where there is no marker."""
    try:
        first, *names = (folder / MARKER).read_text(encoding="utf-8").splitlines() or [""]
    except (OSError, UnicodeDecodeError):
        return None
    return {n for n in names if _OURS.fullmatch(n)} if first == _FIRST_LINE else None


def _publish(partial: Path, out: Path) -> None:
    """Moves every file to its place. Whatever interrupts it, the marker lists all of melt's that is there."""
    new = {p.relative_to(partial).as_posix() for p in partial.rglob("*") if p.is_file()}
    old = written(out) or set()
    _mark(out, old | new)
    for name in sorted(new, key=lambda n: n == INDEX):
        (out / name).parent.mkdir(exist_ok=True)
        (partial / name).replace(out / name)
    for name in old - new:
        (out / name).unlink(missing_ok=True)
    _mark(out, new)


def _mark(out: Path, names: set[str]) -> None:
    write_whole(out / MARKER, "\n".join([_FIRST_LINE, *sorted(names), ""]).encode())


def _sweep(out: Path) -> None:
    """Removes what a killed melt left behind."""
    for left in out.iterdir():
        found = _PARTIAL.fullmatch(left.name)
        if found and (int(found[1]) == os.getpid() or not is_alive(int(found[1]))):
            shutil.rmtree(left, ignore_errors=True)


def _hint(error: OSError) -> str:
    hints = {
        errno.ENOSPC: "Free some space, or name a folder on another disk with --out.",
        errno.EDQUOT: "Free some space, or name a folder on another disk with --out.",
        errno.EACCES: "Name a folder that you may write to with --out.",
        errno.EROFS: "Name a folder that you may write to with --out.",
    }
    return hints.get(error.errno or 0, "Name another folder with --out.")
