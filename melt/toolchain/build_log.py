"""What a build says: kept in a file, read for its steps and, where it fails, for its first error."""

import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from melt.drivers.base import Progress
from melt.errors import RunnerError
from melt.util.files import cache_folder

MAX_LOG_CHARS = 50 * 10**6
_SHOWN_CHARS = 400
_LAST_LINES = 3
_BELOW_CMAKE = 3  # lines that belong to an error of CMake's
_NINJA_STEP = re.compile(r"^\[(\d+)/(\d+)\]")
_MAKE_STEP = re.compile(r"^\[ *(\d+)%\]")
_NESTED_PERCENT = 10  # a step this far ahead is that of a project inside the project
_ERROR = re.compile(
    r"(fatal error|error)\s*:|^CMake Error|undefined (reference|symbol)|^ninja: error"
    r"|cannot find -l|No space left|^tar:|^make\S* \*\*\*",
    re.IGNORECASE,
)


def log_path(name: str) -> Path:
    """The log of a target's last build."""
    return cache_folder() / "toolchain" / f"{name}.log"


@contextmanager
def build_log(target: str, progress: Progress, name: str = "") -> Iterator["BuildLog"]:
    """An empty log, open for the length of the block; by the target's name where it has no ``name`` of its own."""
    path = log_path(name or target)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as out:
        yield BuildLog(target, path, out, progress)


class BuildLog:
    """Takes lines as they come, however many."""

    def __init__(self, target: str, path: Path, out: TextIO, progress: Progress) -> None:
        self._target, self._path, self._out, self._progress = target, path, out, progress
        self._written = self._percent = 0
        self._errors, self._last = _Errors(), deque[str](maxlen=_LAST_LINES)

    def begin(self, command: str) -> None:
        """What follows is this command's; errors of an earlier one are past."""
        self._write(command)
        self._errors = _Errors()
        self._last.clear()

    def take(self, line: str) -> None:
        """One line, without its end."""
        self._write(line)
        self._errors.take(line)
        if line.strip():
            self._last.append(line.strip()[:_SHOWN_CHARS])
        if step := _NINJA_STEP.match(line):
            self._progress(int(step[1]), int(step[2]))
        elif (step := _MAKE_STEP.match(line)) and 0 <= int(step[1]) - self._percent <= _NESTED_PERCENT:
            self._percent = int(step[1])
            self._progress(self._percent, 100)

    def failure(self, ended: str) -> RunnerError:
        """What to raise where the command has failed; ``ended`` says how."""
        what = self._errors.first or f"{ended}: {' / '.join(self._last) or 'it said nothing'}"
        return RunnerError(f"{self._target}: the build failed: {what}", f"The whole log: {self._path}")

    def _write(self, line: str) -> None:
        if self._written < MAX_LOG_CHARS:
            self._out.write(f"{line[: _SHOWN_CHARS * 10]}\n")
        self._written += len(line)


class _Errors:
    """The first error among lines, with what CMake says in the lines below its own."""

    def __init__(self) -> None:
        self._found: list[str] = []

    @property
    def first(self) -> str:
        return " ".join(self._found)

    def take(self, line: str) -> None:
        text = line.strip()[:_SHOWN_CHARS]
        if not self._found:
            if _ERROR.search(text):
                self._found.append(text)
        elif text and self._found[0].startswith("CMake Error") and len(self._found) <= _BELOW_CMAKE:
            self._found.append(text)
