"""A recorded tree laid out as files, whose power sensors are kept moving by a known function of time.

The sensors are written in place at fixed width, so that a reader with an open file sees one value or the
next. A write of so few bytes is one copy in the page cache.
"""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from melt.telemetry.source import Inventory

DATA = Path(__file__).parent.parent / "data"
WIDTH = 20

PowerW = Callable[[float], float]


def load_tree(device: str) -> dict[str, Any]:
    """The recorded tree of a device, or another of its ``NAME/TREE``: path to text, or to ``{"error": errno name}``."""
    file = DATA / device / "tree.json" if (DATA / device).is_dir() else DATA / f"{device}.json"
    tree: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return tree


def inventory_of(tree: dict[str, Any]) -> Inventory:
    """A tree as the inventory that would have been read on the device."""
    rows = [{"path": p, **({"text": t} if isinstance(t, str) else t)} for p, t in tree.items()]
    return Inventory.model_validate({"entries": rows})


class Sensor:
    """One quantity of the tree that follows the power."""

    def __init__(self, path: str, value: Callable[[float, float], float]) -> None:
        self.path = path
        self.value = value  # of power in W and energy so far in J


def rapl(zone: str, start_uj: int, range_uj: int, share: float = 1.0) -> Sensor:
    """A RAPL counter that gets ``share`` of the energy."""
    return Sensor(f"/sys/class/powercap/{zone}/energy_uj", lambda _w, j: (start_uj + share * j * 1e6) % range_uj)


def ina3221(chip: str, hwmon: str, channel: int, mv: float, share: float = 1.0) -> Sensor:
    """An INA3221 channel's current at a fixed voltage."""
    path = f"/sys/bus/i2c/drivers/ina3221/{chip}/hwmon/{hwmon}/curr{channel}_input"
    return Sensor(path, lambda w, _j: share * w / mv * 1e6)


def battery_current(name: str, uv: float) -> Sensor:
    """A battery's current at a fixed voltage."""
    return Sensor(f"/sys/class/power_supply/{name}/current_now", lambda w, _j: w / (uv * 1e-6) * 1e6)


class Replay:
    """Lays the tree under ``folder`` and moves its sensors from entering to leaving.

    Args:
        folder: an empty folder, which becomes the sampler's ``root``.
        tree: as ``load_tree`` gives it.
        power: the device's power in W, at seconds since the start.
        sensors: what shows that power.
        period_s: how often the sensors get a new value.
    """

    def __init__(
        self, folder: Path, tree: dict[str, Any], power: PowerW, sensors: list[Sensor], period_s: float = 0.005
    ) -> None:
        self.root = str(folder)
        self.power, self.sensors, self.period_s = power, sensors, period_s
        self._ended = threading.Event()
        for path, text in tree.items():
            if path.startswith("/") and isinstance(text, str):
                file = folder / path[1:]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
        self._files = [(folder / s.path[1:]).open("r+b", buffering=0) for s in sensors]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.start_ns = 0

    def __enter__(self) -> Self:
        self.start_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._show(self.power(0.0), 0.0)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        for file in self._files:
            file.close()

    def true_energy_j(self, t0_ns: int, t1_ns: int) -> float:
        """The energy between two stamps of the device's clock, integrated finely from the power function."""
        steps = max(1000, int((t1_ns - t0_ns) / 1e6))
        t0_s, width_s = (t0_ns - self.start_ns) * 1e-9, (t1_ns - t0_ns) * 1e-9 / steps
        return sum(self.power(t0_s + (i + 0.5) * width_s) for i in range(steps)) * width_s

    def _run(self) -> None:
        energy_j, before_s = 0.0, 0.0
        while not self._ended.wait(self.period_s):
            now_s = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self.start_ns) * 1e-9
            # However late this thread wakes, the energy since is summed in fine steps.
            n = max(1, int((now_s - before_s) / 0.001))
            width_s = (now_s - before_s) / n
            energy_j += sum(self.power(before_s + (i + 0.5) * width_s) for i in range(n)) * width_s
            before_s = now_s
            self._show(self.power(now_s), energy_j)

    def _show(self, power_w: float, energy_j: float) -> None:
        for sensor, file in zip(self.sensors, self._files, strict=True):
            file.seek(0)
            file.write(f"{round(sensor.value(power_w, energy_j)):<{WIDTH}}\n".encode())
