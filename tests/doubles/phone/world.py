"""The phone's live world: battery and temperatures follow the work that its processes do.

What is shown is the truth by definition: the phone draws a power that depends on how busy the box's processes
are, holds it until the next look some 50 ms later, and the exact integral is kept to be asked for.
"""

import threading
from collections.abc import Callable
from pathlib import Path

from tests.doubles.phone.battery import STATUS, Battery
from tests.doubles.phone.heat import Heat
from tests.doubles.phone.load import History, LoadMeter, boot_ns
from tests.doubles.phone.recording import Recording
from tests.doubles.phone.rootfs import BOX
from tests.telemetry.replay import WIDTH, Replay

LOOK_S = 0.05
SHOW_S = 0.008
SUSPEND = "power.battery_input.suspended"


class Shown(Replay):
    """The sensors, apart from those that a test holds."""

    held: frozenset[str] = frozenset()

    def _show(self, power_w: float, energy_j: float) -> None:
        for sensor, file in zip(self.sensors, self._files, strict=True):
            if sensor.path not in self.held:
                file.seek(0)
                file.write(f"{round(sensor.value(power_w, energy_j)):<{WIDTH}}\n".encode())


class World:
    """Moves the sensors of a laid-out phone from starting to stopping.

    Args:
        root: the box's root.
        recording: where the values start from, and how the phone shows them.
        pids: the processes whose work counts.
        attend: called at each look, in this thread.

    Attributes:
        battery: the battery, with its charger.
        busy_cores: the processes' load now.
    """

    def __init__(
        self, root: Path, recording: Recording, pids: Callable[[], list[int]], attend: Callable[[], None]
    ) -> None:
        self._root, self._recording, self._attend = root, recording, attend
        self._traits = recording.traits
        now_ns = boot_ns()
        self.battery = Battery(recording, now_ns)
        self._heat = Heat(recording, self._traits.idle_w)
        self._meter = LoadMeter(pids)
        self.busy_cores = 0.0
        self._load = History(now_ns, self._traits.idle_w)
        self._before_ns = now_ns
        sensors = self.battery.sensors() + self._heat.sensors()
        self._shown = Shown(root, {}, lambda _s: self._load.at(boot_ns()), sensors, SHOW_S)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._look()
        self._shown.__enter__()
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        self._shown.__exit__(None, None, None)

    def hold(self, path: str) -> None:
        """A test sets this sensor from now on."""
        self._shown.held |= {path}

    def true_energy_j(self, t0_ns: int, t1_ns: int) -> float:
        """What the phone drew between two stamps of the host's boot clock, from battery and charger together."""
        return self._load.integral(t1_ns) - self._load.integral(t0_ns)

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            self._attend()
            self._look()

    def _look(self) -> None:
        now_ns = boot_ns()
        self.busy_cores = self._meter.sample()
        load_w = self._traits.idle_w + self._traits.core_w * self.busy_cores
        self._heat.step((now_ns - self._before_ns) * 1e-9, self._load.at(now_ns))
        self._before_ns = now_ns
        self._load.add(now_ns, load_w)
        suspend = self._root / BOX / "properties" / SUSPEND
        self.battery.suspended = self._traits.honours_input_suspend and _text(suspend) == "true"
        self.battery.step(now_ns, load_w, self._heat.body_c)
        self._tell()

    def _tell(self) -> None:
        """What the services say, each in a file that changes as a whole."""
        files = {}
        if self._recording.battery:
            files["battery"] = self.battery.text()
            files |= {f"get/{key}": f"{value}\n" for key, value in self.battery.answers().items()}
        if self._recording.thermal:
            files["thermalservice"] = self._heat.text()
        for name, text in files.items():
            file = self._root / BOX / "live" / name
            new = file.with_suffix(".new")
            new.parent.mkdir(exist_ok=True)
            new.write_text(text, encoding="utf-8")
            new.replace(file)
        self._tell_status()

    def _tell_status(self) -> None:
        path = f"{self._traits.battery}/status"
        if path in self._recording.tree and path not in self._shown.held:
            with (self._root / path[1:]).open("r+b", buffering=0) as file:
                file.write(f"{STATUS[self.battery.status]:<{WIDTH}}\n".encode())


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:  # nobody has written it, or it is being replaced
        return ""
