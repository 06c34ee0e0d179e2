"""What every driver with a shell does alike. A driver of a kind of device says how it is reached and what it tells."""

import io
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from melt.drivers.base import DeviceFile, PlacedFile, Progress, Recording, ToRecord
from melt.drivers.remote.base import ConnectionLostError, Remote, quoted
from melt.drivers.remote.clock import read_clock
from melt.drivers.remote.conditions import RemoteConditions
from melt.drivers.remote.files import RemoteFiles, safe_name
from melt.drivers.remote.process import RemoteProcess, run_command
from melt.drivers.remote.recording import SamplerRecording
from melt.drivers.runner import SAMPLER_END_S, wait_for_sampler
from melt.drivers.shell_inventory import new_word, parse_answer, script_for
from melt.errors import DeviceError, DeviceGoneError, MeltError, TransientDeviceError
from melt.spec.check import Check
from melt.spec.facts import ClockReading
from melt.spec.profile import DeviceProfile
from melt.telemetry.linux_state import STATE_GLOBS, state
from melt.telemetry.source import Absent, Inventory, Probe

HOME = "~"  # of the user there, where a work folder begins with it
RETURN_S = 120.0  # how long a device that went away may take to come back: it may be rebooting
_WATCH_S = 30  # a runner that hears nothing of its host for so long ends itself
_STRAYS_S = 5.0


class RemoteDriver:
    """The part of ``melt.drivers.base.ShellDriver`` that needs no knowledge of what the device is."""

    def __init__(
        self,
        profile: DeviceProfile,
        opener: Callable[[], Remote],
        folder: str,
        conditions: Callable[[Remote, str], RemoteConditions],
    ) -> None:
        self._profile = profile
        self._opener = opener
        self._folder = folder
        self._new_conditions = conditions
        self._processes: list[RemoteProcess] = []
        self._begun = False
        self._left: tuple[Absent, ...] = ()  # what an earlier run had set and could not be put back
        self._changed: dict[str, str] = {}  # what is not put back, by what was found; known also when the link is gone
        self._connect()

    def _connect(self) -> None:
        self._begun = False
        self._remote = self._opener()
        if self._folder.split("/")[0] == HOME:
            self._folder = f"{self._home()}{self._folder.removeprefix(HOME)}"
        self._files = RemoteFiles(self._remote, self._folder)
        self._conditions = self._new_conditions(self._remote, f"{self._folder}/conditions.json")
        self._conditions.changed = self._changed

    def _home(self) -> str:
        """Of the user there; raises DeviceError where there is none to write to."""
        said = run_command(self._remote, 'echo "$HOME"').text.splitlines() or [""]
        home = said[-1].strip().rstrip("/")  # some shells greet first
        if not home.startswith("/"):
            self._remote.close()
            raise DeviceError(
                f"{self._profile.name}: the user there has no home", "Name a whole path as work_folder in the profile."
            )
        return home

    def _begin(self) -> None:
        """What measuring starts with, once a connection and under the lease: whoever only looks changes nothing."""
        if not self._begun:
            self._wait_until_ready()
            self._files.prepare()
            self._wait_for_strays()
            self._left = self._conditions.restore()  # what a host that crashed has left
            self._begun = True

    def _wait_until_ready(self) -> None:
        """Waits for a device that has only just come back; raises ConnectionLostError."""

    def _wait_for_strays(self) -> None:
        """A runner whose host is gone ends within its watch; one that does not has a host that measures."""
        # /proc has resolved paths; the folder may lie behind a link.
        folder = run_command(self._remote, f"cd {quoted(self._folder)} && pwd -P").text.rstrip("\n") or self._folder
        script = f"ls -l /proc/[0-9]*/exe /proc/[0-9]*/cwd 2>/dev/null | grep -F {quoted(f' {folder}')}; true"
        deadline = time.monotonic() + _WATCH_S + SAMPLER_END_S
        while pids := strays(run_command(self._remote, script).text, folder):
            if time.monotonic() > deadline:
                raise DeviceError(
                    f"{self._profile.name}: a runner of melt's works on the {self._remote.what}: process {pids[0]}",
                    "Another computer may be measuring it. If none is: kill -9 and that number, in a shell there.",
                )
            time.sleep(min(_STRAYS_S, _WATCH_S / 4))  # seldom: looking at every process is work for a small device

    def _come_back(self) -> None:
        """Waits for a device that went away; raises DeviceGoneError where it does not return."""
        deadline = time.monotonic() + RETURN_S
        lost = False
        while True:
            try:
                if lost:
                    self._remote.close()
                    self._connect()
                self.check_alive()
                self._begin()
                return
            except TransientDeviceError as e:
                if time.monotonic() > deadline:
                    raise DeviceGoneError(e.message, e.hint) from e
            except DeviceError as e:  # a device that is away may be one that nobody knows
                if not lost:
                    raise
                if time.monotonic() > deadline:
                    raise DeviceGoneError(e.message, e.hint) from e
            lost = True
            time.sleep(1.0)

    def _ask(self, globs: Sequence[str], commands: Mapping[str, str]) -> Inventory:
        """Files by pattern, below the profile's root where it names one, and what commands say."""
        word, root = new_word(), self._profile.sensors.root
        rooted = [f"{quoted(root)}{glob}" for glob in globs] if root else globs
        try:
            inventory = parse_answer(run_command(self._remote, script_for(rooted, commands, word), 60.0).text, word)
        except ValueError as e:
            raise ConnectionLostError(
                f"{self._profile.name}: its shell ended before it had told all", self._remote.back_hint
            ) from e
        return inventory.without_root(root) if root else inventory

    def free_bytes(self) -> int:
        """Room left where the work folder is."""
        return self._files.free_bytes()

    def push(self, file: DeviceFile, progress: Progress | None = None) -> PlacedFile:
        """Puts a file on the device unless its content is there; a device that went away is waited for."""
        if not file.path.is_file():
            raise DeviceError(f"{file.path}: is gone", "Run the same command again.")
        self._come_back()
        return self._files.push(file, progress)

    def launch(
        self, argv: Sequence[str], job: Mapping[str, Any], env: Mapping[str, str] | None = None
    ) -> RemoteProcess:
        """Starts a runner, which ends itself when this host is gone, or was not heard for half a minute."""
        path = self._job_file(str(job.get("job_id", "")), "job.json")
        self._write(path, json.dumps(dict(job), indent=1).encode())
        silence = [] if self._remote.input_ends_with_host else [str(_WATCH_S)]
        return self._start([*argv, path, "--watch-stdin", *silence], env)

    def _start(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> RemoteProcess:
        command = ["env", *(f"{k}={v}" for k, v in env.items()), *argv] if env else [*argv]
        # Where a shell's children are the last to be killed for want of memory, as adbd's are, a runner should not be.
        # It starts in the work folder, so that nothing is written anywhere else.
        script = f"echo 0 > /proc/$$/oom_score_adj 2>/dev/null; cd {quoted(self._folder)} && exec {quoted(*command)}"
        return self._keep(RemoteProcess(self._remote, script, heartbeat=not self._remote.input_ends_with_host))

    def _keep(self, process: RemoteProcess) -> RemoteProcess:
        """Ended with the driver."""
        self._processes.append(process)
        return process

    def _write(self, path: str, content: bytes) -> None:
        self._remote.send(io.BytesIO(content), path, 0o644)

    @property
    def work_folder(self) -> str:
        """Where melt's files are on the device."""
        return self._folder

    def shell(self, script: str) -> RemoteProcess:
        """A shell with this script."""
        return self._keep(RemoteProcess(self._remote, script))

    def pull(self, device_path: str, destination: Path) -> None:
        """Brings a file to the host, whole or not at all."""
        self._remote.receive_file(device_path, destination)

    def clean(self, limit_bytes: int = 0) -> int:
        """Removes melt's files from the device, those used longest ago first, down to a limit; the bytes removed.

        Nothing is written for it: the disk may be full.
        """
        self._wait_for_strays()
        return self._files.clean(limit_bytes)

    def read(self, probes: Sequence[Probe]) -> Mapping[str, str]:
        """Raw text of each probe, read now."""
        files = {p.read: p.name for p in probes if p.read is not None and "{pid}" not in p.read}
        commands = {p.name: quoted(*p.exec) for p in probes if p.exec is not None}
        inventory = self._ask([quoted(f) for f in files], commands)
        return {files.get(e.path, e.path): e.text for e in inventory.entries if e.text is not None}

    def record(self, asked: ToRecord) -> Recording:
        """Starts the sampler on the device."""
        out = self._job_file(asked.run_id, "telemetry.jsonl")
        spec = {
            "out": out,
            "period_ms": asked.period_ms,
            "root": self._profile.sensors.root,
            "probes": [{**p.model_dump(exclude_none=True), "tell": p.name in asked.tell} for p in asked.probes],
        }
        if not self._remote.input_ends_with_host:
            spec["watch_stdin_ms"] = _WATCH_S * 1000
        path = self._job_file(asked.run_id, "sampler.json")
        run_command(self._remote, f"rm -f {quoted(out)}")
        self._write(path, json.dumps(spec).encode())
        process = self._start([*asked.sampler, path])
        wait_for_sampler(process, lambda: self._remote.size_bytes(out) is not None)
        return SamplerRecording(self._remote, process, out, self._job_file(asked.run_id, ""))

    def _job_file(self, run_id: str, name: str) -> str:
        return f"{self._folder}/jobs/{safe_name(run_id)}.{name}"

    def clock(self) -> ClockReading:
        """The device's CLOCK_BOOTTIME, within the ten milliseconds in which it can be read without a program."""
        return read_clock(self._remote)

    def checks(self) -> Sequence[Check]:
        """Conditions that a run has set and not put back: it is at work, or has died."""
        changed = self._conditions.saved()
        if not changed:
            return ()
        listed = ", ".join(f"{knob} was {value}" for knob, value in changed.items())
        fix = "A run that is at work puts them back at its end; what one that died has left, the next run does."
        return (Check("conditions", "warning", f"changed by a run and not put back: {listed}", fix),)

    def unknown_conditions(self, wanted: Mapping[str, str]) -> tuple[Absent, ...]:
        """What the device does not have of them, with what it has."""
        return self._conditions.unknown(wanted)

    def condition(self, wanted: Mapping[str, str]) -> tuple[Absent, ...]:
        """Sets what the profile asks for; what is refused comes back with its reason."""
        self._begin()
        return (*self._left, *self._conditions.set(wanted))

    def held(self) -> Mapping[str, str]:
        """What of the conditions holds now, by the names of facts."""
        return state(self._ask(STATE_GLOBS, {}))

    def restore(self) -> tuple[Absent, ...]:
        """Puts every condition back; where the device is gone, the next run does, from what it has saved.

        Returns:
            What is still changed there.
        """
        why = f"the {self._remote.what} is gone"
        try:
            if self._begun:  # not by somebody who only looks, maybe at a device that another melt measures
                self.check_alive()  # a device that hangs would have every command wait
                return self._conditions.restore()
        except MeltError as e:
            why = e.message.removeprefix(f"{self._profile.name}: ")
        hint = "Set it there by hand, or let the next run do it."
        return tuple(Absent(name=k, reason=f"{v}: {why}", hint=hint) for k, v in self._changed.items())

    def check_alive(self) -> None:
        """Raises ConnectionLostError where the device gives no sign of life."""
        self._remote.check_alive()

    def close(self) -> None:
        """Ends what it started and puts the conditions back.

        Raises:
            DeviceError: one of them could not be put back.
        """
        for process in self._processes:
            process.kill()
        self._processes.clear()
        left = self.restore()
        self._changed.clear()  # told once
        self._remote.close()
        if left:
            reasons = "; ".join(f"{one.name} {one.reason}" for one in left)
            raise DeviceError(f"{self._profile.name}: could not be put back as it was: {reasons}", left[0].hint)


def strays(listing: str, folder: str) -> list[int]:
    """The processes, among rows of ``ls -l /proc/*/exe /proc/*/cwd``, whose program lies in melt's folder, or that
    work in it: a runner in Python is Python's program."""
    at = re.escape(folder)
    # What runs there starts in the folder itself, or in its jobs; a person may have gone to neither.
    pids = re.findall(rf"/proc/([0-9]+)/(?:exe -> {at}/.*|cwd -> {at}(?:/jobs/.*)?)$", listing, re.M)
    return sorted({int(pid) for pid in pids})
