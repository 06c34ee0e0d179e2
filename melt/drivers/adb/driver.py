"""An Android phone by adb. See ``melt.drivers.base.Driver``."""

import contextlib
import json
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from melt.drivers.adb import sync
from melt.drivers.adb.conditions import PhoneConditions
from melt.drivers.adb.files import PhoneFiles
from melt.drivers.adb.find import open_phone
from melt.drivers.adb.perfetto import RailRecording, append_rails, find_rails
from melt.drivers.adb.shell import SIGN_OF_LIFE_S, AdbProcess, quoted, run_command
from melt.drivers.adb.stream import GONE_HINT, Connection, ConnectionLostError
from melt.drivers.base import DeviceFile, PlacedFile, Progress
from melt.drivers.runner import SAMPLER_END_S, end_sampler
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
_CLOCK_READINGS = 15
_UPTIME_STEP_NS = 10_000_000


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
            files = [g for g in globs if g.startswith("/")]
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
        # In the work folder, so that nothing is written anywhere else.
        # adbd's children are the last to be killed for want of memory; a runner should not be.
        script = f"echo 0 > /proc/$$/oom_score_adj 2>/dev/null; cd {quoted(self._folder)} && exec {quoted(*words)}"
        process = AdbProcess(self._connection, script, heartbeat=True)
        self._processes.append(process)
        return process

    def _write(self, path: str, content: bytes) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.seek(0)
            sync.send(self._connection, file, path, 0o644, int(time.time()))

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
        destination.parent.mkdir(parents=True, exist_ok=True)
        partial = destination.with_name(f".{destination.name}.partial")
        try:
            with partial.open("wb") as sink:
                sync.receive(self._connection, device_path, sink)
            partial.replace(destination)
        finally:
            partial.unlink(missing_ok=True)

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

    def record(self, probes: Sequence[Probe], period_ms: int, sampler: Sequence[str]) -> "AdbRecording":
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
            return AdbRecording(self, recorder, out, None)
        rails = RailRecording(self._connection)
        self._processes.append(rails.process)
        return AdbRecording(self, recorder, out, rails)

    def clock(self) -> ClockReading:
        """The phone's CLOCK_BOOTTIME by /proc/uptime, by the quickest of several answers of one shell.

        Runner and sampler stamp by CLOCK_BOOTTIME themselves; this only sets their clock beside the host's, within
        the ten milliseconds that /proc/uptime has.
        """
        # Builtins alone: a process a reading would add a millisecond to each.
        process = AdbProcess(self._connection, "while read l; do read up idle < /proc/uptime; echo $up; done")
        try:
            readings = [_one_reading(process) for _ in range(_CLOCK_READINGS)]
            return min(readings, key=lambda r: r.bound_ns)
        except TimeoutError as e:
            raise ConnectionLostError(f"{self._profile.name}: the phone does not answer: {e}", GONE_HINT) from e
        except (ValueError, OverflowError) as e:
            raise DeviceError(f"{self._profile.name}: the phone does not tell its time: {e}") from e
        finally:
            process.end_of_input()
            process.kill()

    def condition(self, wanted: Mapping[str, str]) -> tuple[Absent, ...]:
        """Sets what the profile asks for; what is refused comes back with its reason."""
        self._begin()
        return self._conditions.set(wanted) if wanted else ()

    def restore(self) -> None:
        """Puts every condition back; where the phone is gone, the next run does, from what it has saved."""
        if not self._begun:
            return  # somebody who only looks, and maybe at a phone that another melt measures
        with contextlib.suppress(MeltError):
            self.check_alive()  # a phone that hangs would have every command wait
            self._conditions.restore()

    def check_alive(self) -> None:
        """Raises ConnectionLostError where the phone gives no sign of life."""
        sync.stat(self._connection, "/", SIGN_OF_LIFE_S)

    def death_notes(self, pid: int | None) -> str:
        """What Android's log says of a process that died: low-memory kills and crashes."""
        script = f"logcat -d -b main,system,events,crash -v brief -t 2000 2>/dev/null | grep -F {quoted(str(pid))}"
        with contextlib.suppress(MeltError):
            lines = run_command(self._connection, script).text.splitlines()
            return "\n".join(death_lines(lines, pid)[-3:])
        return ""

    def close(self) -> None:
        """Ends what it started and puts the conditions back."""
        for process in self._processes:
            process.kill()
        self._processes.clear()
        self.restore()
        self._connection.close()


def death_lines(lines: Sequence[str], pid: int | None) -> list[str]:
    """Those lines of the log that tell of this process's end."""
    words = ("lowmemorykiller", "lmkd", "killinfo", "am_kill", "am_proc_died", "out of memory", "fatal signal")
    number = re.compile(rf"(?<![0-9]){pid}(?![0-9])")
    return [line for line in lines if number.search(line) and any(w.lower() in line.lower() for w in words)]


def _one_reading(process: AdbProcess) -> ClockReading:
    before = time.time_ns()
    process.tell("")
    answer = process.next_line(10.0) or ""
    after = time.time_ns()
    # It cuts off what is below its step, so the time is half a step later, give or take as much.
    device_ns = round(float(answer) * 1e9) + _UPTIME_STEP_NS // 2
    bound_ns = (after - before + 1) // 2 + _UPTIME_STEP_NS // 2
    return ClockReading("CLOCK_BOOTTIME", device_ns, (before + after) // 2, bound_ns)


class AdbRecording:
    """The sampler on the phone, and Perfetto where it gives rails. See ``melt.drivers.base.Recording``."""

    def __init__(self, driver: AdbDriver, process: AdbProcess, out: str, rails: RailRecording | None) -> None:
        self._driver = driver
        self._process = process
        self._out = out
        self._rails = rails

    def follow(self, pid: int) -> None:
        """From now on also reads the probes that name a process."""
        self._process.tell(f"pid {pid}")

    def stop(self, destination: Path) -> str:
        """Ends the sampler by the end of its input, and brings its file and the rails; raises ConnectionLostError."""
        try:
            problem = end_sampler(self._process)
            self._driver.check_alive()
            try:
                self._driver.pull(self._out, destination)
            except TransientDeviceError:
                raise
            except DeviceError as e:
                problem = problem or e.message
        except BaseException:
            if self._rails is not None:
                self._rails.kill()
            raise
        return problem or self._add_rails(destination)

    def _add_rails(self, destination: Path) -> str:
        if self._rails is None:
            return ""
        try:
            append_rails(self._rails.stop(), destination)
        except TransientDeviceError:
            raise
        except DeviceError as e:
            return e.message
        return ""
