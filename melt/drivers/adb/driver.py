"""An Android phone by adb. See ``melt.drivers.base.Driver``."""

import contextlib
import io
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from melt.drivers.adb import sync
from melt.drivers.adb.clock import read_clock
from melt.drivers.adb.conditions import PhoneConditions
from melt.drivers.adb.files import PhoneFiles
from melt.drivers.adb.find import open_phone
from melt.drivers.adb.log import death_notes
from melt.drivers.adb.perfetto import RailRecording, find_rails
from melt.drivers.adb.recording import AdbRecording
from melt.drivers.adb.shell import SIGN_OF_LIFE_S, AdbProcess, quoted, run_command
from melt.drivers.adb.stream import Connection, ConnectionLostError
from melt.drivers.base import DeviceFile, PlacedFile, Progress
from melt.drivers.runner import SAMPLER_END_S
from melt.drivers.shell_inventory import new_word, parse_answer, script_for
from melt.errors import DeviceError, MeltError, TransientDeviceError
from melt.facts import ClockReading, DeviceFacts
from melt.profile import DeviceProfile
from melt.telemetry import android, android_facts, linux
from melt.telemetry.base import Absent, Discovery, Inventory, Probe
from melt.telemetry.power_rails import PREFIX

WORK_FOLDER = "/data/local/tmp/melt"
RETURN_S = 120.0  # how long a phone that went away may take to come back: it may be rebooting
_WATCH_S = 30  # a runner that hears nothing of its host for so long ends itself
_STRAYS_S = 5.0


def connect(profile: DeviceProfile) -> "AdbDriver":
    """The phone of a profile.

    Raises:
        DeviceError: it is not there, cannot be used, or somebody else measures it; says what to do.
    """
    return AdbDriver(profile, lambda: open_phone(profile))


class AdbDriver:
    """See ``melt.drivers.base.ShellDriver``."""

    def __init__(self, profile: DeviceProfile, opener: Callable[[], Connection]) -> None:
        self._profile = profile
        self._opener = opener
        self._folder = profile.work_folder or WORK_FOLDER
        self._inventory: Inventory | None = None
        self._discovery: Discovery | None = None
        self._processes: list[AdbProcess] = []
        self._begun = False
        self._connect()

    def _connect(self) -> None:
        self._begun = False
        self._connection = self._opener()
        self._files = PhoneFiles(self._connection, self._folder)
        self._conditions = PhoneConditions(self._connection, f"{self._folder}/conditions.json")

    def _begin(self) -> None:
        """What measuring starts with, once a connection and under the lease: whoever only looks changes nothing."""
        if not self._begun:
            self._wait_until_booted()
            self._files.prepare()
            self._wait_for_strays()
            self._conditions.restore()  # what a host that crashed has left
            self._begun = True

    def _wait_for_strays(self) -> None:
        """A runner whose host is gone ends within its watch; one that does not has a host that measures."""
        script = f"ls -l /proc/[0-9]*/exe 2>/dev/null | grep -F {quoted(f' {self._folder}/')}; true"
        deadline = time.monotonic() + _WATCH_S + SAMPLER_END_S
        while strays := run_command(self._connection, script).text.strip():
            if time.monotonic() > deadline:
                pid = re.search(r"/proc/([0-9]+)/exe", strays)
                raise DeviceError(
                    f"{self._profile.name}: a runner of melt's is at work on the phone: process {pid and pid[1]}",
                    "Another computer may be measuring it. If none is: adb shell kill -9 and that number.",
                )
            time.sleep(min(_STRAYS_S, _WATCH_S / 4))  # seldom: looking at every process is work for a phone

    def _come_back(self) -> None:
        """Waits for a phone, or an adb server, that went away; raises ConnectionLostError where it does not return."""
        deadline = time.monotonic() + RETURN_S
        lost = False
        while True:
            try:
                if lost:
                    self._connection.close()
                    self._connect()
                self.check_alive()
                self._begin()
                return
            except TransientDeviceError:
                if time.monotonic() > deadline:
                    raise
            except DeviceError as e:  # a phone that is away is one that adb does not know
                if not lost:
                    raise
                if time.monotonic() > deadline:
                    raise ConnectionLostError(e.message, e.hint) from e
            lost = True
            time.sleep(1.0)

    def _wait_until_booted(self) -> None:
        deadline = time.monotonic() + RETURN_S
        while run_command(self._connection, "getprop sys.boot_completed").text.strip() != "1":
            if time.monotonic() > deadline:
                raise ConnectionLostError(
                    f"{self._profile.name}: the phone has not finished booting", "Unlock it, and run the command again."
                )
            time.sleep(1.0)

    def facts(self) -> DeviceFacts:
        """What the phone says of itself."""
        return android_facts.facts(self._read_inventory())

    def discover(self) -> Discovery:
        """The telemetry that adb's shell may read on this phone."""
        if self._discovery is None:
            rails, reason = find_rails(self._connection)
            found = android.discover(self._read_inventory(), self._profile.sensors, rails)
            absent = (Absent(name="power rails", reason=reason),) if reason else ()
            self._discovery = found.model_copy(update={"absent": (*found.absent, *absent)})
        return self._discovery

    def _read_inventory(self) -> Inventory:
        if self._inventory is None:
            globs = (*linux.INVENTORY_GLOBS, *android.GLOBS)
            files = [g for g in globs if g.startswith("/")]  # the others are words of the runner's inventory
            self._inventory = self._ask(files, {**android_facts.COMMANDS, **android.COMMANDS})
        return self._inventory

    def _ask(self, globs: Sequence[str], commands: Mapping[str, str]) -> Inventory:
        word = new_word()
        return parse_answer(run_command(self._connection, script_for(globs, commands, word), 60.0).text, word)

    def free_bytes(self) -> int:
        """Room left where the work folder is."""
        self._files.prepare()
        return self._files.free_bytes()

    def push(self, file: DeviceFile, progress: Progress | None = None) -> PlacedFile:
        """Puts a file on the phone unless its content is there; a phone that went away is waited for."""
        if not file.path.is_file():
            raise DeviceError(f"{file.path}: is gone", "Run the same command again.")
        self._come_back()
        return self._files.push(file, progress)

    def launch(self, argv: Sequence[str], job: Mapping[str, Any], env: Mapping[str, str] | None = None) -> AdbProcess:
        """Starts a runner, which ends itself when it has heard nothing of this host for half a minute."""
        path = f"{self._folder}/jobs/job.json"
        self._write(path, json.dumps(dict(job), indent=1).encode())
        return self._start([*argv, path, "--watch-stdin", str(_WATCH_S)], env)

    def _start(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> AdbProcess:
        words = ["env", *(f"{k}={v}" for k, v in env.items()), *argv] if env else [*argv]
        # adbd's children are the last to be killed for want of memory; a runner should not be. It starts in the work
        # folder, so that nothing is written anywhere else.
        script = f"echo 0 > /proc/$$/oom_score_adj 2>/dev/null; cd {quoted(self._folder)} && exec {quoted(*words)}"
        process = AdbProcess(self._connection, script, heartbeat=True)
        self._processes.append(process)
        return process

    def _write(self, path: str, content: bytes) -> None:
        sync.send(self._connection, io.BytesIO(content), path, 0o644, int(time.time()))

    @property
    def work_folder(self) -> str:
        """Where melt's files are on the phone."""
        return self._folder

    def shell(self, script: str) -> AdbProcess:
        """A shell with this script."""
        process = AdbProcess(self._connection, script)
        self._processes.append(process)
        return process

    def pull(self, device_path: str, destination: Path) -> None:
        """Brings a file to the host, whole or not at all."""
        sync.receive_file(self._connection, device_path, destination)

    def clean(self, limit_bytes: int = 0) -> int:
        """Removes melt's files from the phone, those used longest ago first, down to a limit; the bytes removed."""
        self._begin()
        return self._files.clean(limit_bytes)

    def read(self, probes: Sequence[Probe]) -> Mapping[str, str]:
        """Raw text of each probe, read now."""
        files = {p.read: p.name for p in probes if p.read is not None and "{pid}" not in p.read}
        commands = {p.name: quoted(*p.exec) for p in probes if p.exec is not None}
        found = self._ask([quoted(f) for f in files], commands)
        return {files.get(e.path, e.path): e.text for e in found.entries if e.text is not None}

    def record(self, probes: Sequence[Probe], period_ms: int, sampler: Sequence[str]) -> AdbRecording:
        """Starts the sampler on the phone."""
        out = f"{self._folder}/jobs/telemetry.jsonl"
        spec = {
            "out": out,
            "period_ms": period_ms,
            "watch_stdin_ms": _WATCH_S * 1000,
            "probes": [p.model_dump(exclude_none=True) for p in probes],
        }
        path = f"{self._folder}/jobs/sampler.json"
        run_command(self._connection, f"rm -f {quoted(out)}")
        self._write(path, json.dumps(spec).encode())
        recorder = self._start([*sampler, path])
        if not any(s.name.startswith(PREFIX) for s in self.discover().sources):
            return AdbRecording(self._connection, recorder, out, None)
        rails = RailRecording(self._connection)
        self._processes.append(rails.process)
        return AdbRecording(self._connection, recorder, out, rails)

    def clock(self) -> ClockReading:
        """The phone's CLOCK_BOOTTIME, within the ten milliseconds in which it can be read without a program."""
        return read_clock(self._connection)

    def condition(self, wanted: Mapping[str, str]) -> tuple[Absent, ...]:
        """Sets what the profile asks for; what is refused comes back with its reason."""
        self._begin()
        return self._conditions.set(wanted)

    def restore(self) -> None:
        """Puts every condition back; where the phone is gone, the next run does, from what it has saved."""
        if not self._begun:
            return  # somebody who only looks, and maybe at a phone that another melt measures
        with contextlib.suppress(MeltError):
            self.check_alive()  # a phone that hangs would have every command wait
            self._conditions.restore()

    def check_alive(self) -> None:
        """Raises ConnectionLostError where the phone gives no sign of life."""
        sync.size_bytes(self._connection, "/", SIGN_OF_LIFE_S)

    def death_notes(self, pid: int | None) -> str:
        """What Android's log says of a process that died: low-memory kills and crashes."""
        return death_notes(self._connection, pid)

    def close(self) -> None:
        """Ends what it started and puts the conditions back."""
        for process in self._processes:
            process.kill()
        self._processes.clear()
        self.restore()
        self._connection.close()
