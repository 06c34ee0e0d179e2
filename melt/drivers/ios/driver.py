"""An iPhone by its services. See ``melt.drivers.base.Driver``; there is no shell, and melt's app is the runner."""

import contextlib
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from melt.drivers.base import DeviceFile, PlacedFile, Progress, ToRecord
from melt.drivers.ios.app import InstalledApp, find_app
from melt.drivers.ios.files import AppFiles
from melt.drivers.ios.jetsam import find_jetsam
from melt.drivers.ios.phones import open_phone
from melt.drivers.ios.process import DOCUMENTS, JOB, AppProcess, file_of, left_by_runs
from melt.drivers.ios.pymd3.container import Container
from melt.drivers.ios.pymd3.errors import DEVELOPER_HINT
from melt.drivers.ios.pymd3.instruments import Instruments
from melt.drivers.ios.recording import PhoneRecording, watch_battery
from melt.drivers.remote.driver import RETURN_S
from melt.errors import DeviceError, DeviceGoneError, MeltError, TransientDeviceError
from melt.spec.check import Check
from melt.spec.facts import ClockReading, DeviceFacts
from melt.spec.profile import DeviceProfile
from melt.telemetry import ios
from melt.telemetry.kinds.ios_battery import BATTERY
from melt.telemetry.source import Absent, Discovery, Probe
from melt.util.files import cache_folder

_BATTERY_WATCH_S = 65.0  # gauges of phones are said to have a new figure twice a minute at worst
_JETSAM, _MOST_REPORTS = "JetsamEvent", 5
_REPORT_S = 5.0  # what a report of iOS takes to be written
_CLOCK_READINGS = 5


def connect(profile: DeviceProfile) -> "IosDriver":
    """The iPhone of a profile.

    Raises:
        DeviceError: it is not there, or not paired; says what to do.
    """
    return IosDriver(profile)


class IosDriver:
    """One iPhone. Connecting only pairs: whoever measures also has its disk image mounted and the app looked for."""

    def __init__(self, profile: DeviceProfile) -> None:
        self._profile = profile
        self._phone = open_phone(profile)
        self._forget()
        self._old_reports: frozenset[str] = frozenset()  # of before the last launch: process ids come again
        self._no_reports = ""  # why there are none
        self._discovery: Discovery | None = None
        self._facts: DeviceFacts | None = None

    def _forget(self) -> None:
        """What belongs to one connection."""
        self._app: InstalledApp | None = None
        self._container: Container | None = None
        self._instruments: Instruments | None = None
        self._processes: list[AppProcess] = []

    def _installed(self) -> InstalledApp:
        if self._app is None:
            self._app = find_app(self._phone.apps(), self._profile.name)
        return self._app

    def _files(self) -> AppFiles:
        return AppFiles(self._opened(), self._profile.name)

    def _opened(self) -> Container:
        if self._container is None:
            self._container = Container(self._phone, self._installed().bundle_id)
        return self._container

    def _tools(self) -> Instruments:
        """The developer services, with what they need."""
        if self._instruments is None:
            for off in self.checks():
                raise DeviceError(f"{self._profile.name}: {off.found}", off.fix)
            self._phone.mount_image(cache_folder() / "ios")
            self._instruments = Instruments(self._phone)
        return self._instruments

    def checks(self) -> Sequence[Check]:
        """Without developer mode it starts no app."""
        if self._phone.developer_mode():
            return ()
        return (Check("developer mode", "problem", "developer mode is off on the iPhone", DEVELOPER_HINT),)

    def facts(self) -> DeviceFacts:
        """What the iPhone says of itself, and which of melt's apps is on it."""
        if self._facts is None:
            app, values, cores = self._installed(), self._phone.values(), self._tools().cores()
            version, build = values.get("ProductVersion"), values.get("BuildVersion")
            self._facts = DeviceFacts(
                platform="ios",
                machine="aarch64",
                soc=_word(values.get("HardwarePlatform")),
                product=_word(values.get("ProductType")),
                os_build=f"iOS {version} ({build})",
                logical_cores=cores,
                physical_cores=cores,  # Apple's have one thread each
                serial_hash=hashlib.sha256(self._phone.udid.encode()).hexdigest()[:16],
                installed_runner=app.bundle_id,
                installed_runner_version=app.version,
                engines={"llama.cpp": app.engine_version},
            )
        return self._facts

    def discover(self) -> Discovery:
        """The telemetry of an iPhone; with the cable out, first watches how often its gauge has a new figure."""
        if self._discovery is None:
            battery = self._battery()
            fed = battery.get("ExternalConnected", True)
            update_s = None if fed else watch_battery(self._phone, _BATTERY_WATCH_S)
            found = ios.discover(battery, self.facts().logical_cores, update_s, self._profile.sensors)
            _, why = self._reports()
            hint = "A run that iOS ends for want of memory is told as killed."
            lacking = (Absent(name="crash reports", reason=why, hint=hint),) if why else ()
            self._discovery = found.model_copy(update={"absent": (*found.absent, *lacking)})
        return self._discovery

    def _battery(self) -> dict[str, Any]:
        """Nothing where the iPhone refuses it: a run does without."""
        try:
            return self._phone.battery()
        except TransientDeviceError:
            raise
        except DeviceError:
            return {}

    def free_bytes(self) -> int:
        """Room left on the phone's disk."""
        return self._opened().free_bytes()

    def push(self, file: DeviceFile, progress: Progress | None = None) -> PlacedFile:
        """Puts a file into the app's container unless it is there; an iPhone that went away is waited for."""
        if not file.path.is_file():
            raise DeviceError(f"{file.path}: is gone", "Run the same command again.")
        self._come_back()
        return self._files().push(file, progress)

    def _come_back(self) -> None:
        """Waits for an iPhone that went away; raises DeviceGoneError where it does not return."""
        deadline = time.monotonic() + RETURN_S
        udid, lost = self._phone.udid, False
        while True:
            try:
                if lost:
                    self._phone = open_phone(self._profile, udid)
                self._phone.check_alive()
                self._tools().mach_time()
                self._opened().size_bytes(DOCUMENTS)
                self._end_stray()
                return
            except TransientDeviceError as e:
                if time.monotonic() > deadline:
                    raise DeviceGoneError(e.message, e.hint) from e
            except DeviceError as e:  # usbmuxd may end with its last device, and a phone that restarts is locked
                if not lost:
                    raise
                if time.monotonic() > deadline:
                    raise DeviceGoneError(e.message, e.hint) from e
            self._let_go()
            lost = True
            time.sleep(1.0)

    def _end_stray(self) -> None:
        """An app of a host that died goes on to the end of its job, and would be in the measurement; with its files."""
        pid = self._tools().running(self._installed().bundle_id)
        if pid:
            with contextlib.suppress(DeviceError):  # it may just have ended
                self._tools().kill(pid)
        for path in left_by_runs(self._opened()):
            self._opened().remove(path)

    def clean(self, limit_bytes: int = 0) -> int:
        """Removes what was pushed, used longest ago first, down to a limit; the bytes removed."""
        return self._files().clean(limit_bytes)

    def launch(self, argv: Sequence[str], job: Mapping[str, Any], env: Mapping[str, str] | None = None) -> AppProcess:
        """Starts the app with a job; one of melt's that still runs is ended by that."""
        bundle_id, *arguments = argv
        container, tools, run_id = self._opened(), self._tools(), str(job["job_id"])
        container.write(file_of(run_id, JOB), json.dumps(dict(job), indent=1).encode())
        self._old_reports, self._no_reports = self._reports()
        try:
            pid = tools.launch(bundle_id, [*arguments, file_of(run_id, JOB)], env or {})
            process = AppProcess(container, tools, pid, run_id)
            self._processes.append(process)
        except KeyboardInterrupt:  # before the iPhone's answer came, it may have started the app
            with contextlib.suppress(MeltError):
                self._end_stray()
            raise
        return process

    def read(self, probes: Sequence[Probe]) -> Mapping[str, str]:
        """The battery, read now; what instruments sample is there during a recording only."""
        if any(p.name == BATTERY for p in probes):
            return {BATTERY: ios.battery_text(self._battery())}
        return {}

    def record(self, asked: ToRecord) -> PhoneRecording:
        """Has the iPhone send its samples; it needs no sampler's program."""
        return PhoneRecording(self._phone, self._opened(), self._tools(), asked)

    def clock(self) -> ClockReading:
        """mach_continuous_time, by the quickest of several answers."""
        return min((self._one_reading() for _ in range(_CLOCK_READINGS)), key=lambda r: r.bound_ns)

    def _one_reading(self) -> ClockReading:
        before = time.time_ns()
        device_ns = self._tools().mach_time().continuous_ns
        after = time.time_ns()
        return ClockReading("mach_continuous_time", device_ns, (before + after) // 2, (after - before + 1) // 2)

    def condition(self, wanted: Mapping[str, str]) -> tuple[Absent, ...]:
        """No host may set any on an iPhone; melt's app keeps the screen on by itself."""
        return self.unknown_conditions(wanted)

    def unknown_conditions(self, wanted: Mapping[str, str]) -> tuple[Absent, ...]:
        """All of them."""
        return tuple(Absent(name=name, reason="a computer cannot set it on an iPhone") for name in wanted)

    def held(self) -> Mapping[str, str]:
        """No iPhone tells any of it."""
        return {}

    def _reports(self) -> tuple[frozenset[str], str]:
        """The reports that are there; where the iPhone does not show them, none and the reason: a run does without."""
        try:
            return frozenset(self._phone.report_names(_JETSAM)), ""
        except TransientDeviceError:
            raise
        except DeviceError as e:
            return frozenset(), e.message

    def death_notes(self, pid: int | None) -> str:
        """What iOS wrote down of a process that it ended for want of memory; it takes its time to write."""
        deadline = time.monotonic() + _REPORT_S
        while pid is not None and not self._no_reports:
            try:
                new = [n for n in self._phone.report_names(_JETSAM) if n not in self._old_reports]
                note = find_jetsam(self._phone.reports(new[-_MOST_REPORTS:]), pid)
            except MeltError:
                return ""
            if note or time.monotonic() > deadline:
                return note
            time.sleep(0.5)
        return ""

    def _let_go(self) -> None:
        for process in self._processes:
            process.kill()
        if self._container is not None:
            self._container.close()
        if self._instruments is not None:
            self._instruments.close()
        self._phone.close()
        self._forget()

    def close(self) -> None:
        """Ends what it started and lets the iPhone go."""
        self._let_go()


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None
