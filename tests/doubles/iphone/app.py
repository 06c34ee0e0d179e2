"""Apps: their folders, what is told of them, and those that run, as processes of this machine."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.doubles.iphone.phone import IPhone

MEMORY_LIMIT_BYTES = 3 * 2**30  # of each app
Said = Callable[[int, str], None]  # a process's id, and what it wrote
Ended = Callable[[int, int | None, int | None], None]  # its id, its exit code, its signal


@dataclass(frozen=True)
class App:
    """An app as it is installed. ``program`` is the host's, and None for one that cannot be started here."""

    bundle_id: str
    version: str
    program: Path | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    development: bool = True  # signed for development: its container is open, and tools may look into it


class RunningApp:
    """A process in its container.

    As melt's app does, what it writes to stdout goes to a file beside its job first, and the memory that it may still
    take to another.
    """

    def __init__(self, app: App, container: Path, argv: Sequence[str], env: Mapping[str, str]) -> None:
        assert app.program is not None
        self.app = app
        self.hears: list[tuple[Said, Ended]] = []
        self._process = subprocess.Popen(
            [app.program, *argv],
            cwd=container,
            env={"PATH": os.defpath, "HOME": str(container), **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self._process.pid
        job = argv[-1] if argv and argv[-1].endswith(".job.json") else "Documents/no.job.json"
        run = container / job.removesuffix("job.json")
        self._events = Path(f"{run}events.jsonl").open("ab", buffering=0)  # noqa: SIM115
        self._telemetry = Path(f"{run}telemetry.jsonl").open("ab", buffering=0)  # noqa: SIM115
        self._over = threading.Event()
        self._threads = [threading.Thread(target=t, daemon=True) for t in (self._follow, self._sample_memory)]
        for thread in self._threads:
            thread.start()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        with self._events, self._process.stdout as lines:
            for line in lines:
                self._events.write(line)
                for said, _ in list(self.hears):
                    with contextlib.suppress(EOFError):
                        said(self.pid, line.decode(errors="replace"))
        code = self._process.wait()
        self._over.set()
        for _, ended in list(self.hears):
            with contextlib.suppress(EOFError):
                ended(self.pid, code if code >= 0 else None, -code if code < 0 else None)

    def _sample_memory(self) -> None:
        with self._telemetry:
            while not self._over.wait(0.5 if self._telemetry.tell() else 0):
                with contextlib.suppress(OSError, IndexError):
                    taken = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
                    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
                    raw = json.dumps({"available_bytes": MEMORY_LIMIT_BYTES - taken})
                    line = {"t_ns": now_ns, "t_end_ns": now_ns, "probe": "memory", "raw": raw}
                    self._telemetry.write(json.dumps(line).encode() + b"\n")

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def kill(self, number: int = signal.SIGKILL) -> None:
        """A signal; safe where it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def join(self) -> None:
        """Until it and what it said are over."""
        for thread in self._threads:
            thread.join(10)


class Apps:
    """What is installed and what runs."""

    def __init__(self, phone: "IPhone", folder: Path) -> None:
        self._phone = phone
        self._folder = folder
        self._containers: dict[str, Path] = {}
        self.by_id: dict[str, App] = {}
        self.running: dict[int, RunningApp] = {}

    def add(self, app: App) -> App:
        """Installs it, or another version over it, which keeps its files."""
        self.by_id[app.bundle_id] = app
        container = self._containers.setdefault(app.bundle_id, self._folder / str(uuid.uuid4()).upper())
        for name in ("Documents", "Library", "tmp"):
            (container / name).mkdir(parents=True, exist_ok=True)
        return app

    def remove(self, bundle_id: str) -> None:
        """With all its files."""
        if self.by_id.pop(bundle_id, None) is not None:
            shutil.rmtree(self._containers.pop(bundle_id))

    def container(self, app: App) -> Path:
        """Its folder."""
        return self._containers[app.bundle_id]

    def described(self, app: App) -> dict[str, Any]:
        """What installation_proxy tells."""
        name = app.bundle_id.rsplit(".", 1)[-1]
        return {
            "ApplicationType": "User",
            "CFBundleDisplayName": name,
            "CFBundleExecutable": name,
            "CFBundleName": name,
            "CFBundleVersion": app.version,
            "Container": f"/private/var/mobile/Containers/Data/Application/{self.container(app).name}",
            "Path": f"/private/var/containers/Bundle/Application/{self.container(app).name}/{name}.app",
            "SignerIdentity": "Apple Development: Nobody (0000000000)",
            **app.info,
            "CFBundleIdentifier": app.bundle_id,
            "CFBundleShortVersionString": app.version,
        }

    def launch(self, bundle_id: str, argv: Sequence[str], env: Mapping[str, str], kill_existing: bool) -> RunningApp:
        """Starts it, or gives the one that runs; raises KeyError, PermissionError or OSError."""
        app = self.by_id[bundle_id]
        for other in [r for r in self.running.values() if r.app.bundle_id == bundle_id and r.alive]:
            if not kill_existing:
                return other
            other.kill()
            other.join()
        if app.program is None:
            raise PermissionError(f"{bundle_id} has no program here")
        started = RunningApp(app, self.container(app), argv, env)
        self.running[started.pid] = started
        return started

    def run_out_of_memory(self, pid: int, resident_bytes: int = MEMORY_LIMIT_BYTES) -> None:
        """iOS ends a process for want of memory, and writes down why."""
        app = self.running[pid]
        app.kill()
        name = app.app.bundle_id.rsplit(".", 1)[-1]
        self._phone.crash_reports.jetsam(name, pid, resident_bytes)

    def end_all(self) -> None:
        """Every process."""
        for app in self.running.values():
            app.kill()
            app.join()

    def close(self) -> None:
        """Nothing of it is left running."""
        self.end_all()
