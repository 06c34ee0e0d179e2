"""A board in a box: a real OpenSSH server among a recorded board's files, whose power moves with what runs there."""

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

from tests.peers.phone.load import History, LoadMeter, boot_ns
from tests.peers.sshd import Sshd
from tests.telemetry.replay import Sensor, load_tree

HERE = Path(__file__).parent
_STEP_S = 0.005
_WIDTH = 12
_KEPT = ("/sys/", "/etc/nvpmodel.conf", "/var/lib/")  # the rest of the machine is the one that the tests run on


class BoardBox(Sshd):
    """As ``Sshd``; needs root.

    Args:
        folder: an empty folder of its own.
        device: a recorded one (tests/data).
        sensors: what shows the power.
        idle_w: what it draws with nothing running.
        core_w: by power mode, what each busy core adds.
    """

    def __init__(
        self, folder: Path, device: str, sensors: list[Sensor], idle_w: float, core_w: Mapping[int, float]
    ) -> None:
        tools = folder / "bin"
        tools.mkdir(parents=True)
        shutil.copy(HERE / "nvpmodel", tools)
        path = f"{tools}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        super().__init__(folder, None, f"SetEnv PATH={path}")
        self._boot = ("unshare", "--mount", "sh", "-eu", str(HERE / "boot.sh"), str(folder))
        for name, text in load_tree(device).items():
            if name.startswith(_KEPT) and isinstance(text, str):
                file = folder / "root" / name[1:]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
        self._sensors = [((folder / "root" / s.path[1:]).open("r+b", buffering=0), s) for s in sensors]
        self._idle_w, self._core_w = idle_w, core_w
        self._history = History(boot_ns(), idle_w)
        self._ended = threading.Event()
        self._world = threading.Thread(target=self._move, daemon=True)

    def __enter__(self) -> "BoardBox":
        super().__enter__()
        self._world.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._world.join()
        for file, _sensor in self._sensors:
            file.close()
        super().__exit__()

    def true_energy_j(self, t0_ns: int, t1_ns: int) -> float:
        """What it drew between two stamps of the boot clock."""
        return self._history.integral(t1_ns) - self._history.integral(t0_ns)

    @property
    def mode(self) -> int:
        """The power mode that holds."""
        return int((self.folder / "root/var/lib/nvpmodel/status").read_text().strip().removeprefix("pmode:") or 0)

    def _pids(self) -> list[int]:
        """Everything in its mount namespace."""
        if self._server is None:
            return []
        own = _namespace(Path(f"/proc/{self._server.pid}"))
        return [int(p.name) for p in Path("/proc").glob("[0-9]*") if own and _namespace(p) == own]

    def _move(self) -> None:
        meter = LoadMeter(self._pids)
        while not self._ended.wait(_STEP_S):
            try:
                power_w = self._idle_w + meter.sample() * self._core_w[self.mode]
            except ValueError:  # the status is being written
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
