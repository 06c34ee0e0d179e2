"""The runners as files on the host, named by their content."""

import contextlib
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from melt.drivers.base import DeviceFile, Process
from melt.runner import python_runner
from melt.util.files import cache_folder, write_whole

SAMPLER_START_S = 10.0
SAMPLER_END_S = 10.0
_LOOK_S = 0.1  # each look may start a program on the device


def runner_file() -> DeviceFile:
    """The Python runner's zipapp; it is written when it is sent."""
    program = python_runner()
    sha256 = hashlib.sha256(program).hexdigest()
    path = cache_folder() / "runners" / f"melt-runner-{sha256[:16]}.pyz"
    return DeviceFile(path.name, path, sha256, len(program), program)


def write(file: DeviceFile) -> None:
    """Has a file that melt makes at its path, which a dry run does not; any other is there."""
    if file.content is not None and not file.path.exists():
        write_whole(file.path, file.content)


def runner_path() -> Path:
    """The Python runner as a file of this host, written where it is not there yet."""
    file = runner_file()
    write(file)
    return file.path


@contextlib.contextmanager
def runner_at_hand() -> Iterator[Path]:
    """The same for whoever only looks: nothing new stays behind."""
    file = runner_file()
    with tempfile.TemporaryDirectory(prefix="melt-") as folder:
        if file.path.exists():
            yield file.path
        else:
            there = replace(file, path=Path(folder) / file.name)
            write(there)
            yield there.path


def program_file(path: Path) -> DeviceFile:
    """A program that was built."""
    content = path.read_bytes()
    return DeviceFile(path.name, path, hashlib.sha256(content).hexdigest(), len(content))


def wait_for_sampler(process: Process, has_file: Callable[[], bool]) -> None:
    """Until the sampler has its file and so samples: what is measured next is sampled from its beginning.

    A sampler that fails, or takes too long, says so when it is ended.
    """
    deadline = time.monotonic() + SAMPLER_START_S
    while not has_file() and time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            process.wait(_LOOK_S)
            return


def end_sampler(process: Process) -> str:
    """Ends a sampler by the end of its input; says what went wrong with it, empty where nothing did."""
    process.end_of_input()
    try:
        status = process.wait(SAMPLER_END_S)
    except TimeoutError:
        process.kill()
        return f"the sampler did not end within {SAMPLER_END_S:.0f} s"
    process.kill()
    last = process.stderr().strip().splitlines()[-1:]
    return "" if status.ok else f"the sampler ended with {status}" + (f": {last[0][:200]}" if last else "")
