"""A recording on a phone: the sampler, and Perfetto where it gives rails. See ``melt.drivers.base.Recording``."""

from collections.abc import Callable
from pathlib import Path

from melt.drivers.adb import sync
from melt.drivers.adb.perfetto import RailRecording, append_rails
from melt.drivers.adb.shell import SIGN_OF_LIFE_S, AdbProcess
from melt.drivers.adb.stream import Connection
from melt.drivers.runner import end_sampler
from melt.errors import DeviceError, TransientDeviceError


class AdbRecording:
    """The sampler at work, its file on the phone, and the rails if any."""

    def __init__(self, connection: Connection, process: AdbProcess, out: str, rails: RailRecording | None) -> None:
        self._connection = connection
        self._process = process
        self._out = out
        self._rails = rails

    def follow(self, pid: int) -> None:
        """From now on also reads the probes that name a process."""
        self._process.tell(f"pid {pid}")

    def stop(self, destination: Path) -> str:
        """Ends the sampler by the end of its input, and brings its file and the rails.

        Returns:
            What went wrong with either, in words; empty where nothing did.

        Raises:
            ConnectionLostError: the phone is gone; what it recorded is lost.
        """
        try:
            problem = end_sampler(self._process)
            sync.size_bytes(self._connection, "/", SIGN_OF_LIFE_S)  # a phone that hangs would have every command wait
            problem = problem or _said(lambda: sync.receive_file(self._connection, self._out, destination))
            rails = self._rails
            of_rails = _said(lambda: append_rails(rails.stop(), destination)) if rails else ""
            return problem or of_rails
        finally:
            if self._rails is not None:
                self._rails.kill()


def _said(action: Callable[[], None]) -> str:
    """What the device said against an action, empty where it went through; raises ConnectionLostError."""
    try:
        action()
    except TransientDeviceError:
        raise
    except DeviceError as e:
        return e.message
    return ""
