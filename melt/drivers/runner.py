"""The runners as files on the host, named by their content."""

import hashlib
from pathlib import Path

from melt.drivers.base import DeviceFile, Process
from melt.ondevice import python_runner
from melt.paths import cache_folder, write_whole

SAMPLER_END_S = 10.0


def runner_file() -> DeviceFile:
    """The Python runner's zipapp, made where it is not there yet."""
    program = python_runner()
    sha256 = hashlib.sha256(program).hexdigest()
    path = cache_folder() / "runners" / f"melt-runner-{sha256[:16]}.pyz"
    if not path.exists():
        write_whole(path, program)
    return DeviceFile(path.name, path, sha256, len(program))


def program_file(path: Path) -> DeviceFile:
    """A program that was built."""
    content = path.read_bytes()
    return DeviceFile(path.name, path, hashlib.sha256(content).hexdigest(), len(content))


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
