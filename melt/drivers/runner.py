"""The Python runner as a file in the host's cache, named by its content."""

import hashlib

from melt.drivers.base import DeviceFile
from melt.ondevice import python_runner
from melt.paths import cache_folder, write_whole


def runner_file() -> DeviceFile:
    """The zipapp, made where it is not there yet."""
    program = python_runner()
    sha256 = hashlib.sha256(program).hexdigest()
    path = cache_folder() / "runners" / f"melt-runner-{sha256[:16]}.pyz"
    if not path.exists():
        write_whole(path, program)
    return DeviceFile(path.name, path, sha256, len(program))
