"""An Android phone by adb. See ``melt.drivers.base.ShellDriver``."""

import time
from collections.abc import Callable, Mapping

from melt.drivers.adb.conditions import phone_conditions
from melt.drivers.adb.logcat import death_notes
from melt.drivers.adb.perfetto import RailRecording, RecordingWithRails, find_rails
from melt.drivers.adb.phones import open_phone
from melt.drivers.adb.remote import AdbRemote
from melt.drivers.adb.stream import Connection
from melt.drivers.base import Recording, ToRecord
from melt.drivers.remote.driver import RETURN_S, RemoteDriver
from melt.drivers.remote.process import run_command
from melt.errors import DeviceGoneError
from melt.spec.facts import DeviceFacts
from melt.spec.profile import DeviceProfile
from melt.telemetry import android, android_facts
from melt.telemetry.kinds.power_rails import PREFIX, Rail
from melt.telemetry.source import Absent, Discovery, Inventory

WORK_FOLDER = "/data/local/tmp/melt"


def connect(profile: DeviceProfile) -> "AdbDriver":
    """The phone of a profile.

    Raises:
        DeviceError: it is not there, cannot be used, or somebody else measures it; says what to do.
    """
    return AdbDriver(profile, lambda: open_phone(profile))


class AdbDriver(RemoteDriver):
    """What is Android's own."""

    _remote: AdbRemote

    def __init__(self, profile: DeviceProfile, opener: Callable[[], Connection]) -> None:
        self._inventory: Inventory | None = None
        self._discovery: Discovery | None = None
        self._judged_under_conditions = False
        self._rails: tuple[list[Rail], str] | None = None
        folder = profile.work_folder or WORK_FOLDER
        super().__init__(profile, lambda: AdbRemote(opener()), folder, phone_conditions)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + RETURN_S
        while run_command(self._remote, "getprop sys.boot_completed").text.strip() != "1":
            if time.monotonic() > deadline:
                raise DeviceGoneError(
                    f"{self._profile.name}: the phone has not finished booting", "Unlock it, and run the command again."
                )
            time.sleep(1.0)

    def facts(self) -> DeviceFacts:
        """What the phone says of itself."""
        return android_facts.facts(self._read_inventory())

    def discover(self) -> Discovery:
        """The telemetry that adb's shell may read on this phone."""
        if self._discovery is None:
            rails, reason = self._rails = self._rails or find_rails(self._remote)
            discovery = android.discover(self._read_inventory(), self._profile.sensors, rails)
            absent = (Absent(name="power rails", reason=reason, quantity="power_w"),) if reason else ()
            self._discovery = discovery.model_copy(update={"absent": (*discovery.absent, *absent)})
        return self._discovery

    def condition(self, wanted: Mapping[str, str]) -> tuple[Absent, ...]:
        """Sets what the profile asks for. The sensors are judged anew under it: a full battery on its cable moves no
        gauge, and one whose charging is suspended does."""
        left = super().condition(wanted)
        if wanted and not self._judged_under_conditions:
            self._judged_under_conditions = True
            self._inventory = self._discovery = None
        return left

    def _read_inventory(self) -> Inventory:
        if self._inventory is None:
            self._inventory = self._ask(android.inventory_globs(), android.inventory_commands())
        return self._inventory

    def record(self, asked: ToRecord) -> Recording:
        """Starts the sampler on the phone, and Perfetto where it gives rails."""
        recording = super().record(asked)
        if not any(s.name.startswith(PREFIX) for s in self.discover().sources):
            return recording
        rails = RailRecording(self._remote)
        self._keep(rails.process)
        return RecordingWithRails(recording, rails)

    def death_notes(self, pid: int | None) -> str:
        """What Android's log says of a process that died: low-memory kills and crashes."""
        return death_notes(self._remote, pid)
