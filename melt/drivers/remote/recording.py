"""A recording by the sampler's program on a device. See ``melt.drivers.base.Recording``."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from melt.drivers.remote.base import Remote, quoted
from melt.drivers.remote.process import RemoteProcess, run_command
from melt.drivers.runner import end_sampler
from melt.errors import DeviceError, TransientDeviceError


class SamplerRecording:
    """The sampler at work, and its file on the device."""

    def __init__(self, remote: Remote, process: RemoteProcess, out: str, files: str) -> None:
        self._remote = remote
        self._process = process
        self._out = out
        self._files = files  # how the names of all of the run's files there begin

    def follow(self, pid: int) -> None:
        """From now on also reads the probes that name a process."""
        self._process.tell(f"pid {pid}")

    def heard(self) -> list[str]:
        """The lines of the probes that were to tell, that have come since this was asked last."""
        lines: list[str] = []
        with contextlib.suppress(TimeoutError):
            while (line := self._process.next_line(0)) is not None:
                lines.append(line)
        return lines

    def stop(self, destination: Path) -> str:
        """Ends the sampler by the end of its input, and brings its file.

        Returns:
            What went wrong with it, in words; empty where nothing did.

        Raises:
            ConnectionLostError: the device is gone; what it recorded is lost.
        """
        problem = end_sampler(self._process)
        self._remote.check_alive()  # a device that hangs would have every command wait
        # Also where it has failed, as on a full disk: what it wrote before is a record.
        unreceived = refusal_of(lambda: self._remote.receive_file(self._out, destination))
        run_command(self._remote, f"rm -f {quoted(self._files)}*")
        return problem or unreceived


def refusal_of(action: Callable[[], None]) -> str:
    """What the device said against an action, empty where it went through; raises ConnectionLostError."""
    try:
        action()
    except TransientDeviceError:
        raise
    except DeviceError as e:
        return e.message
    return ""
