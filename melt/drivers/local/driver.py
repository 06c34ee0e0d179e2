"""This machine as the device. The runner is a process of its own, so its memory and its death are its own."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from melt.drivers.base import DeviceFile, PlacedFile, Progress
from melt.drivers.conditions import SavedConditions
from melt.drivers.process import HostProcess
from melt.drivers.runner import end_sampler, runner_file, wait_for_sampler
from melt.drivers.shell_inventory import MAX_TEXT_CHARS, new_word, parse_answer, script_for
from melt.errors import DeviceError, RunnerError
from melt.spec.facts import ClockReading, DeviceFacts
from melt.spec.profile import DeviceProfile
from melt.telemetry import linux
from melt.telemetry.linux_facts import STATE_GLOBS, state
from melt.telemetry.source import Absent, Discovery, Inventory, InventoryEntry, Probe
from melt.util.files import cache_folder, write_whole

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
    folder = Path(profile.work_folder) if profile.work_folder else cache_folder() / "devices" / profile.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return LocalDriver(profile, folder)
    except OSError as e:
        raise DeviceError(
            f"{profile.name}: {folder}: {e.strerror}", "Name a work_folder that can be written, or set MELT_CACHE."
        ) from e


class LocalDriver:
    """See ``melt.drivers.base.Driver``."""

    def __init__(self, profile: DeviceProfile, folder: Path) -> None:
        self._profile = profile
        self._folder = folder
        self._runner = runner_file().path
        self._info: dict[str, Any] | None = None
        self._commands: tuple[InventoryEntry, ...] | None = None
        self._conditions = SavedConditions(folder / "conditions.json", Path(profile.sensors.root or "/"))
        self._processes: list[HostProcess] = []
        self.restore()  # what a crashed host may have left

    def facts(self) -> DeviceFacts:
        """What this machine says of itself."""
        engines = self._read_info()["engines"]
        return linux.facts(self._inventory(), {"python": sys.executable, "engines": engines}).model_copy(
            update={"is_host": True}
        )

    def discover(self) -> Discovery:
        """The telemetry of this machine, under the profile's sensor root where it has one."""
        return linux.discover(self._inventory(), self._profile.sensors)

    def _inventory(self) -> Inventory:
        return Inventory.model_validate({"entries": [*self._read_info()["files"], *self._asked()]})

    def _asked(self) -> tuple[InventoryEntry, ...]:
        """What programs of this machine tell and no file does, once a connection; nothing of another machine's tree."""
        if self._commands is None:
            word = new_word()
            script = "" if self._profile.sensors.root else script_for((), linux.inventory_commands(), word)
            try:
                done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, timeout=_INFO_TIMEOUT_S)
                self._commands = parse_answer(done.stdout.decode(errors="replace"), word).entries
            except (OSError, subprocess.SubprocessError):
                self._commands = ()  # it is told as absent
        return self._commands

    def _read_info(self) -> dict[str, Any]:
        """The runner's ``info``, once a connection."""
        if self._info is None:
            root = self._profile.sensors.root
            argv = [sys.executable, str(self._runner), "info", *(["--root", root] if root else [])]
            try:
                done = subprocess.run(
                    [*argv, *linux.inventory_globs()], capture_output=True, timeout=_INFO_TIMEOUT_S, check=True
                )
                self._info = json.loads(done.stdout)
            except (subprocess.SubprocessError, ValueError) as e:
                said = getattr(e, "stderr", b"") or b""
                last = said.decode(errors="replace").strip().splitlines()[-1:] or [str(e)]
                raise RunnerError(f"the runner cannot tell of this machine: {last[0]}", "Try `melt doctor`.") from e
        return self._info

    def held(self) -> Mapping[str, str]:
        """What of the conditions holds now, by the names of facts."""
        root, entries = Path(self._profile.sensors.root or "/"), []
        for file in (f for pattern in STATE_GLOBS for f in root.glob(pattern[1:])):
            with contextlib.suppress(OSError):
                text = file.read_text(errors="replace")[:MAX_TEXT_CHARS]
                entries.append(InventoryEntry(path=f"/{file.relative_to(root)}", text=text))
        return state(Inventory(entries=tuple(entries)))

    def free_bytes(self) -> int:
        """Room left in the work folder."""
        return shutil.disk_usage(self._folder).free

    def push(self, file: DeviceFile, progress: Progress | None = None) -> PlacedFile:
        """Nothing travels: the host's file is the device's."""
        if not file.path.is_file():
            raise DeviceError(f"{file.path}: is gone", "Run the same command again.")
        if progress:
            progress(file.size_bytes, file.size_bytes)
        return PlacedFile(str(file.path), pushed=False)

    def clean(self, limit_bytes: int = 0) -> int:
        """Nothing was pushed; the models are in the host's own cache."""
        return 0

    def launch(self, argv: Sequence[str], job: Mapping[str, Any], env: Mapping[str, str] | None = None) -> HostProcess:
        """Starts a runner; it ends itself when this process is gone."""
        path = self._folder / "jobs" / "job.json"
        try:
            write_whole(path, json.dumps(dict(job), indent=1).encode())
            process = HostProcess([*argv, str(path), "--watch-stdin"], env)
        except OSError as e:
            raise RunnerError(f"{argv[0]}: cannot be started: {e.strerror}", "Try `melt doctor`.") from e
        self._processes.append(process)
        return process

    @property
    def work_folder(self) -> str:
        """Beside this machine's cache, or where the profile says."""
        return str(self._folder)

    def shell(self, script: str) -> HostProcess:
        """A shell that also finds the programs of melt's own environment."""
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
        process = HostProcess(["/bin/sh", "-c", script], {"PATH": path})
        self._processes.append(process)
        return process

    def pull(self, device_path: str, destination: Path) -> None:
        """A copy."""
        try:
            content = Path(device_path).read_bytes()
        except OSError as e:
            raise DeviceError(f"{device_path}: {e.strerror}", "Try `melt doctor`.") from e
        write_whole(destination, content)

    def read(self, probes: Sequence[Probe]) -> Mapping[str, str]:
        """Raw text of each file probe, read now."""
        found = {}
        for probe in probes:
            if probe.read is not None and "{pid}" not in probe.read:
                with contextlib.suppress(OSError):
                    found[probe.name] = Path(self._profile.sensors.root + probe.read).read_text(errors="replace")
        return found

    def record(self, probes: Sequence[Probe], period_ms: int, sampler: Sequence[str]) -> "LocalRecording":
        """Starts the sampler as a process of its own."""
        out = self._folder / "telemetry.jsonl"
        out.unlink(missing_ok=True)
        spec = {
            "out": str(out),
            "period_ms": period_ms,
            "root": self._profile.sensors.root,
            "probes": [p.model_dump(exclude_none=True) for p in probes],
        }
        path = self._folder / "jobs" / "sampler.json"
        write_whole(path, json.dumps(spec).encode())
        process = HostProcess([*sampler, str(path)])
        self._processes.append(process)
        wait_for_sampler(process, out.exists)
        return LocalRecording(process, out)

    def clock(self) -> ClockReading:
        """CLOCK_BOOTTIME, which runner and sampler stamp with as well."""
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        realtime = time.time_ns()
        after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return ClockReading("CLOCK_BOOTTIME", (before + after) // 2, realtime, (after - before + 1) // 2)

    def condition(self, wanted: Mapping[str, str]) -> tuple[Absent, ...]:
        """Sets what the profile asks for; what is refused comes back with its reason."""
        return self._conditions.set(wanted)

    def restore(self) -> None:
        """Puts every condition back as it was found."""
        self._conditions.restore()

    def death_notes(self, pid: int | None) -> str:
        """The kernel log's last lines about this process: out-of-memory kills, segmentation faults."""
        try:
            log = subprocess.run(["dmesg", "--raw"], capture_output=True, timeout=5, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            return ""
        named = (f"[{pid}]", f"process {pid} ")
        lines = log.decode(errors="replace").splitlines()
        return "\n".join([line for line in lines if any(n in line for n in named)][-3:])

    def close(self) -> None:
        """Ends what it started."""
        for process in self._processes:
            process.kill()
        self._processes.clear()
        self.restore()


class LocalRecording:
    """The sampler process and its file. See ``melt.drivers.base.Recording``."""

    def __init__(self, process: HostProcess, out: Path) -> None:
        self._process = process
        self._out = out

    def follow(self, pid: int) -> None:
        """From now on also reads the probes that name a process."""
        self._process.tell(f"pid {pid}")

    def stop(self, destination: Path) -> str:
        """Ends the sampler by the end of its input, and moves its file."""
        problem = end_sampler(self._process)
        if not self._out.exists():
            return problem or "the sampler left none"
        shutil.move(self._out, destination)
        return problem
