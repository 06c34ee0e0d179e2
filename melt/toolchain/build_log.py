"""What a build says: kept in a file, read for its steps and, where it fails, for its first error."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from melt.drivers.base import Progress
from melt.errors import RunnerError
from melt.paths import cache_folder

_NINJA_STEP = re.compile(r"^\[(\d+)/(\d+)\]")
_MAKE_STEP = re.compile(r"^\[ *(\d+)%\]")
_ERROR = re.compile(r"(fatal error|error)\s*:|^CMake Error|undefined (reference|symbol)|^ninja: error", re.IGNORECASE)


def log_path(name: str) -> Path:
    """The log of a target's last build."""
    return cache_folder() / "toolchain" / f"{name}.log"


@contextmanager
def build_log(name: str, progress: Progress) -> Iterator["BuildLog"]:
    """An empty log, open for the length of the block."""
    path = log_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as out:
        yield BuildLog(name, out, progress)


class BuildLog:
    """Takes lines as they come."""

    def __init__(self, name: str, out: TextIO, progress: Progress) -> None:
        self._name, self._out, self._progress = name, out, progress
        self._lines: list[str] = []

    def begin(self, command: str) -> None:
        """What follows is this command's; errors of an earlier one are past."""
        self._out.write(f"{command}\n")
        self._lines.clear()

    def take(self, line: str) -> None:
        """One line, without its end."""
        self._out.write(f"{line}\n")
        self._lines.append(line)
        if step := _NINJA_STEP.match(line):
            self._progress(int(step[1]), int(step[2]))
        elif step := _MAKE_STEP.match(line):
            self._progress(int(step[1]), 100)

    def failure(self) -> RunnerError:
        """What to raise where the command has failed."""
        return RunnerError(
            f"{self._name}: the build failed: {first_error(self._lines)}", f"The whole log: {log_path(self._name)}"
        )


def first_error(lines: Iterable[str]) -> str:
    """The compiler's first error, with what CMake says in the lines below its own."""
    found: list[str] = []
    for line in lines:
        goes_on = found and found[0].startswith("CMake Error") and len(found) < 4
        if line.strip() if goes_on else not found and _ERROR.search(line):
            found.append(line.strip())
    return " ".join(found) or "no error is in its log"
