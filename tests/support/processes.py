"""The processes of this machine, for tests that look at what melt has started and what it has left."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """One that lives. ``program`` and ``folder`` are None where it has none, or may not be looked at."""

    pid: int
    parent: int
    argv: tuple[str, ...]
    program: Path | None
    folder: Path | None


def running(wanted: Callable[[Process], bool]) -> list[Process]:
    """Those that a test asks for; ended ones that nobody has waited for are none."""
    return [p for p in _all() if wanted(p)]


def _all() -> Iterator[Process]:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text(errors="replace").rsplit(")", 1)[1].split()[:2]
            argv = (entry / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        except (OSError, IndexError):  # it has ended meanwhile
            continue
        if state not in "ZX":
            yield Process(int(entry.name), int(parent), tuple(argv), _link(entry / "exe"), _link(entry / "cwd"))


def _link(path: Path) -> Path | None:
    try:
        return path.readlink()
    except OSError:
        return None
