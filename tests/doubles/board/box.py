"""A board in a box: a real OpenSSH server among a recorded board's files, whose power moves with what runs there."""

import os
import shutil
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.doubles.board.errors import mounted
from tests.doubles.board.network import Place
from tests.doubles.phone.load import History, LoadMeter, boot_ns
from tests.doubles.sshd import Sshd
from tests.telemetry.replay import Sensor, load_tree

HERE = Path(__file__).parent
_STEP_S = 0.005
_PIDS_S = 0.03  # how often it looks for new processes, among all of the tests' machine
_WIDTH = 12
TOOLS = {"jetson": ("nvpmodel", "jetson_clocks", "tegrastats"), "raspberry": ("vcgencmd",)}  # by the device's name
_POWER = "/var/lib/board-mw"  # for the stand-in of tegrastats
_KEPT = (
    "/sys/",
    "/etc/nvpmodel.conf",
    "/etc/machine-id",
    "/var/lib/",
)  # the rest of the machine is the one that the tests run on


class BoardBox(Sshd):
    """As ``Sshd``; needs root.

    Args:
        folder: an empty folder of its own.
        device: a recorded one (tests/data).
        sensors: what shows the power.
        idle_w: what it draws with nothing running.
        core_w: by power mode, what each busy core adds.
        changes: files that differ from the recorded ones: a text, or ``{"error": errno name}``.
        place: where it is, instead of on loopback.
    """

    def __init__(
        self,
        folder: Path,
        device: str,
        sensors: list[Sensor],
        idle_w: float,
        core_w: Mapping[int, float],
        changes: Mapping[str, Any] | None = None,
        place: Place | None = None,
    ) -> None:
        tools = folder / "bin"
        tools.mkdir(parents=True)
        for tool in TOOLS[device.split("-")[0]]:
            shutil.copy(HERE / tool, tools)
        path = f"{tools}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        super().__init__(folder, None, f"SetEnv PATH={path}", place=place)
        self._boot = (
            "unshare",
            "--mount",
            "--propagation",
            "unchanged",
            "sh",
            "-eu",
            str(HERE / "boot.sh"),
            str(folder),
        )
        tree = {p: t for p, t in (load_tree(device) | dict(changes or {})).items() if p.startswith(_KEPT)}
        tree |= {_POWER: "", "/etc/machine-id": f"{uuid.uuid4().hex}\n"}  # each is a board of its own
        for name, text in tree.items():
            file = folder / "root" / name[1:]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text if isinstance(text, str) else "")
        self._errors = {p: str(t["error"]) for p, t in tree.items() if not isinstance(t, str)}
        (folder / "errors").mkdir()
        (folder / "errors.list").write_text("".join(f"{p}\n" for p in self._errors))
        self._ending = ExitStack()
        sensors = [*sensors, Sensor(_POWER, lambda w, _j: w * 1e3)]
        self._sensors = [((folder / "root" / s.path[1:]).open("r+b", buffering=0), s) for s in sensors]
        self._idle_w, self._core_w = idle_w, core_w
        self._history = History(boot_ns(), idle_w)
        self._own_pids: list[int] = []
        self._looked_s = 0.0
        self._ended = threading.Event()
        self._world = threading.Thread(target=self._move, daemon=True)

    def __enter__(self) -> "BoardBox":
        try:
            if self._errors:
                self._ending.enter_context(mounted(self.folder / "errors", [*self._errors.values()]))
            super().__enter__()
        except BaseException:
            self.__exit__()
            raise
        self._world.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._world.is_alive():
            self._world.join()
        for file, _sensor in self._sensors:
            file.close()
        super().__exit__()
        self._ending.close()

    def true_energy_j(self, t0_ns: int, t1_ns: int) -> float:
        """What it drew between two stamps of the boot clock."""
        return self._history.integral(t1_ns) - self._history.integral(t0_ns)

    def inside(self, *words: str) -> tuple[str, ...]:
        """A command that runs a program on the board itself."""
        assert self._server is not None
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        of_server = f"/proc/{self._server.pid}"  # its root too: the tests' own may be a folder of a machine
        return ("nsenter", f"--mount={of_server}/ns/mnt", f"--root={of_server}/root", "env", f"PATH={path}", *words)

    @property
    def mode(self) -> int:
        """The power mode that holds."""
        status = self.folder / "root/var/lib/nvpmodel/status"
        return int(status.read_text().split()[0].removeprefix("pmode:")) if status.exists() else 0

    def _pids(self) -> list[int]:
        """Everything in its mount namespace."""
        if self._server is not None and time.monotonic() >= self._looked_s + _PIDS_S:
            self._looked_s = time.monotonic()
            own = _namespace(Path(f"/proc/{self._server.pid}"))
            self._own_pids = [int(p.name) for p in Path("/proc").glob("[0-9]*") if own and _namespace(p) == own]
        return self._own_pids

    def _move(self) -> None:
        meter = LoadMeter(self._pids)
        while not self._ended.wait(_STEP_S):
            try:
                power_w = self._idle_w + meter.sample() * self._core_w[self.mode]
            except (ValueError, IndexError):  # the status is being written
                continue
            self._history.add(boot_ns(), power_w)
            for file, sensor in self._sensors:
                file.seek(0)
                file.write(f"{round(sensor.value(power_w, 0.0)):<{_WIDTH}}\n".encode())


def _namespace(process: Path) -> str:
    try:
        return str((process / "ns" / "mnt").readlink())
    except OSError:
        return ""
