"""A phone in a box: Google's own adbd in a machine of its own making, with a recorded phone around it.

The daemon, its protocol and its shell are real, as are permission denials, a full disk, a lost link and killed
processes; properties, services and sensors are recorded ones, some of them kept moving. See `PhoneBox`.
"""

import contextlib
import hashlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.doubles.phone.attendant import Attendant
from tests.doubles.phone.binfmt import ensure_aarch64
from tests.doubles.phone.init import SHELL_USER
from tests.doubles.phone.namespaces import PORT, Boot, Namespaces
from tests.doubles.phone.recording import Machine, Recording
from tests.doubles.phone.rootfs import BOX, RECORD, UNIT, build, deny_file, put_file, write_answer
from tests.doubles.phone.world import World

DISK = "data/local/tmp"
FILLER = ".filler"
GIB = 1 << 30
UPTIME_S, SLEPT_S = 40_000, 9_000
REBOOTED_UPTIME_S = 20


@dataclass(frozen=True)
class Process:
    """One process in the box: its pid on the host, its pid in the box, and its words."""

    pid: int
    own_pid: int
    argv: tuple[str, ...]


class PhoneBox:
    """A phone that ``adb connect`` reaches, from entering to leaving.

    Args:
        recording: a device under ``tests/data/android``, or a folder laid out like one.
        folder: a folder of the host that does not exist yet; its logs stay.
        index: which of several boxes; None takes a free number.
        machine: the processor that the phone says it has, and whose programs it runs.
        disk_bytes: how much /data/local/tmp holds.
        variant: which variant of the recorded texts, where there are several.
        traits: fields of `Traits` that differ from the recording's.

    Raises:
        BoxUnavailable: this machine cannot hold a box; the text says why.
    """

    def __init__(
        self,
        recording: str | Path,
        folder: Path,
        index: int | None = None,
        machine: Machine = "x86_64",
        disk_bytes: int = GIB,
        variant: str = "",
        traits: Mapping[str, Any] | None = None,
    ) -> None:
        self.recording = Recording.load(recording, variant).on(machine).with_traits(traits or {})
        self.folder, self.machine = folder.absolute(), machine
        self._index, self._disk_bytes = index, disk_bytes
        self._overlay = self.folder / "proc"
        self._boot: Boot | None = None
        self._ending = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self.machine == "aarch64":
            ensure_aarch64()
        with contextlib.ExitStack() as ending:
            self._space = Namespaces(self.folder, self._index, self._disk_bytes)
            ending.callback(self._space.close)
            build(self.root, self._overlay, self.recording, self.machine)
            if self.recording.traits.rails:
                self.set_perfetto_trace(b"")
            ending.callback(self._stop)
            self._start(UPTIME_S, SLEPT_S)
            self._attendant = Attendant(self._box / "state", self._space.set_link, self.reboot)
            self._world = World(self.root, self.recording, self._working_pids, self._attendant.look)
            self._world.start()
            ending.callback(self._end_world)
            self._ending = ending.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._ending.close()

    @property
    def address(self) -> str:
        return f"{self._space.address}:{PORT}"

    @property
    def root(self) -> Path:
        """The box's root as the host sees it; not to be resolved, since it leads through another mount namespace."""
        return self._space.root

    @property
    def disk(self) -> Path:
        """The phone's /data/local/tmp as the host sees it."""
        return self.root / DISK

    @property
    def pid_of_adbd(self) -> int:
        return self._running().adbd

    @property
    def clock_ahead_ns(self) -> int:
        """The phone's CLOCK_BOOTTIME less the host's, in this boot."""
        return self._running().ahead_ns

    def processes(self) -> list[Process]:
        """What runs in the box other than adbd and process 1."""
        found = []
        for pid in self._working_pids():
            with contextlib.suppress(OSError):  # it has ended
                argv = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").rstrip("\0").split("\0")
                status = Path(f"/proc/{pid}/status").read_text()
                own = next(line.split()[-1] for line in status.splitlines() if line.startswith("NSpid:"))
                found.append(Process(pid, int(own), tuple(argv)))
        return found

    def load(self) -> float:
        """How many cores those processes keep busy now."""
        return self._world.busy_cores

    def true_energy_j(self, t0_boottime_ns: int, t1_boottime_ns: int) -> float:
        """What the phone drew between two stamps of its own boot clock, in this boot."""
        ahead = self.clock_ahead_ns
        return self._world.true_energy_j(t0_boottime_ns - ahead, t1_boottime_ns - ahead)

    def cut(self) -> None:
        """The phone goes out of reach: packets vanish, connections stay open."""
        self._space.set_link("down")

    def mend(self) -> None:
        self._space.set_link("up")

    def plug_in(self, watts: float) -> None:
        """A charger, from the next look at the world on; 0 unplugs it."""
        self._world.battery.charger_w = watts

    def kill_adbd(self) -> None:
        """adbd dies and stays dead; what it started lives on unless that notices."""
        boot = self._running()
        os.kill(boot.adbd, signal.SIGKILL)
        while boot.adbd in boot.pids():
            time.sleep(0.005)

    def start_adbd(self) -> None:
        self._running().start_adbd()

    def freeze(self) -> None:
        """The phone hangs: connections are taken and nothing is answered."""
        boot = self._running()
        os.kill(boot.adbd, signal.SIGSTOP)
        for pid in self._working_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in [*self._working_pids(), self.pid_of_adbd]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def switch_off(self) -> None:
        """Everything ends, and the phone is out of reach."""
        self.cut()
        self._stop()

    def switch_on(self) -> None:
        """It is booted anew; storage and settings are as they were."""
        self._start(REBOOTED_UPTIME_S, 0)
        if self._attendant.wifi:
            self.mend()

    def reboot(self, delay_s: float = 1.0) -> None:
        """Off, and on again after a while."""
        self.switch_off()
        time.sleep(delay_s)
        self.switch_on()

    def fill_disk(self, leave_bytes: int = 0) -> None:
        """Leaves so many bytes free in /data/local/tmp."""
        free = os.statvfs(self.disk)
        descriptor = os.open(self.disk / FILLER, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, free.f_bavail * free.f_frsize - leave_bytes)
        finally:
            os.close(descriptor)

    def free_disk(self) -> None:
        (self.disk / FILLER).unlink(missing_ok=True)

    def sha256(self, path: str) -> str:
        """Of a file of the phone, read from the host."""
        return hashlib.sha256((self.root / path[1:]).read_bytes()).hexdigest()

    def set_file(self, path: str, text: str) -> None:
        """Sets a file in place, for readers that hold it open too; a sensor stays where it is set from now on."""
        self._world.hold(path)
        self._lay(path, lambda: put_file(self.root, self._overlay, path, text))

    def deny_file(self, path: str) -> None:
        """Refuses a path to the shell user; who has it open keeps it."""
        self._lay(path, lambda: deny_file(self.root, self._overlay, path))

    def set_command(self, command: str, stdout: str, stderr: str = "", exit_code: int = 0) -> None:
        """What a stub tool gives from now on for exactly this command line."""
        write_answer(self._box, command, stdout, stderr, exit_code)

    def set_perfetto_trace(self, trace: bytes) -> None:
        """What perfetto writes from now on; with it, the phone has rails."""
        (self._box / "trace").write_bytes(trace)
        (self._box / "rails").touch()

    def append_log(self, line: str) -> None:
        """Adds a line to what logcat shows."""
        with (self._box / "logcat").open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def commands(self) -> list[tuple[str, ...]]:
        """The calls of stub tools so far, as words."""
        text = (self._box / "commands").read_text(encoding="utf-8", errors="replace")
        return [tuple(call.split(UNIT)) for call in text.split(RECORD)[:-1]]

    @property
    def _box(self) -> Path:
        return self.root / BOX

    def _running(self) -> Boot:
        if self._boot is None:
            raise RuntimeError("the phone is off")
        return self._boot

    def _working_pids(self) -> list[int]:
        boot = self._boot
        return [pid for pid in boot.pids() if pid not in (boot.init, boot.adbd)] if boot else []

    def _start(self, uptime_s: int, slept_s: int) -> None:
        put_file(self.root, self._overlay, "/proc/sys/kernel/random/boot_id", f"{uuid.uuid4()}\n")
        for file in (self._box / "properties").iterdir():
            if file.stat().st_uid == SHELL_USER and not file.name.startswith("persist."):
                file.unlink()
                if file.name in self.recording.properties:
                    file.write_text(self.recording.properties[file.name] + "\n", encoding="utf-8")
        self._boot = self._space.boot(uptime_s, slept_s)

    def _lay(self, path: str, lay: Callable[[], Path]) -> None:
        """Lays a file; what is new in /proc shows at once, not from the next boot on only."""
        name = path.removeprefix("/proc/")
        new = name != path and not (self._overlay / name).exists()
        lay()
        if new:
            self._running().lay_over_proc(name)

    def _stop(self) -> None:
        boot, self._boot = self._boot, None
        if boot:
            boot.close()

    def _end_world(self) -> None:
        self._world.stop()
        self._attendant.wait()
