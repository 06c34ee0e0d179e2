"""This machine as the device. The runner is a process of its own, so its memory and its death are its own."""

import contextlib
import json
import sys
import time
from pathlib import Path

from melt.drivers.base import DeviceFile, PlacedFile, Progress
from melt.drivers.local.remote import LocalRemote
from melt.drivers.remote.base import ConnectionLostError, last_words, quoted
from melt.drivers.remote.linux import LinuxDriver
from melt.drivers.remote.process import run_command
from melt.drivers.runner import runner_at_hand
from melt.errors import DeviceError, RunnerError
from melt.spec.facts import ClockReading, DeviceFacts
from melt.spec.profile import DeviceProfile
from melt.telemetry import linux
from melt.telemetry.source import Inventory, InventoryEntry
from melt.util.files import cache_folder, why_not_writable

_INFO_TIMEOUT_S = 60.0


def connect(profile: DeviceProfile) -> "LocalDriver":
    """This machine; always there.

    Raises:
        DeviceError: the work folder cannot be written, or melt runs on a system without /proc.
    """
    if not sys.platform.startswith("linux"):
        raise DeviceError(
            f"{profile.name}: the local driver measures Linux machines, and this is {sys.platform}",
            "Run melt on Linux, or measure another device from here.",
        )
    given = profile.work_folder
    folder = (Path(given).expanduser() if given else cache_folder() / "devices" / profile.name).absolute()
    if reason := why_not_writable(folder):
        raise DeviceError(f"{profile.name}: {reason}", "Name a work_folder that can be written, or set MELT_CACHE.")
    return LocalDriver(profile, folder)


class LocalDriver(LinuxDriver):
    """What is this machine's own: its files are used in place, and its clock is read without a detour."""

    def __init__(self, profile: DeviceProfile, folder: Path) -> None:
        super().__init__(profile, lambda: LocalRemote(profile.name), str(folder))

    def _read_inventory(self) -> tuple[Inventory, dict[str, str]]:
        """By the runner's ``info``, and by what programs tell and no file does."""
        root = self._profile.sensors.root
        with runner_at_hand() as runner:
            command = [sys.executable, str(runner), "info", *(["--root", root] if root else [])]
            done = run_command(self._remote, quoted(*command, *linux.inventory_globs()), _INFO_TIMEOUT_S)
        try:
            if done.code != 0:
                raise ValueError(last_words(done))
            info = json.loads(done.stdout)
        except ValueError as e:
            raise RunnerError(f"the runner cannot tell of this machine: {e}", "Try `melt doctor`.") from e
        files = [InventoryEntry.model_validate(entry) for entry in info["files"]]
        inventory = Inventory(entries=(*files, *self._ask_programs()))
        return inventory, {"python": sys.executable, "engines": info["engines"]}

    def _ask_programs(self) -> tuple[InventoryEntry, ...]:
        """Nothing of another machine's tree, nor where one hangs: what is missing is told as absent."""
        if not self._profile.sensors.root:
            with contextlib.suppress(ConnectionLostError):
                return self._ask((), linux.inventory_commands()).entries
        return ()

    def facts(self) -> DeviceFacts:
        """What this machine says of itself."""
        return super().facts().model_copy(update={"is_host": True})

    def push(self, file: DeviceFile, progress: Progress | None = None) -> PlacedFile:
        """Nothing travels: the host's file is the device's."""
        if not file.path.is_file():
            raise DeviceError(f"{file.path}: is gone", "Run the same command again.")
        self._come_back()
        if progress:
            progress(file.size_bytes, file.size_bytes)
        return PlacedFile(str(file.path.absolute()), pushed=False)

    def clock(self) -> ClockReading:
        """CLOCK_BOOTTIME, which runner and sampler stamp with as well."""
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        realtime = time.time_ns()
        after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return ClockReading("CLOCK_BOOTTIME", (before + after) // 2, realtime, (after - before + 1) // 2)
