"""The phone's battery and its gauge, which has a new figure only every so often."""

import threading
import time
from collections.abc import Callable
from typing import Any

from tests.doubles.phone.load import History, boot_ns, seeming_cores


class Battery:
    """What may be told of it at any time; the gauge's figure holds still for a period.

    Args:
        pids: the phone's processes; a paced runner among them draws as much as the cores that it seems to keep busy.
    """

    def __init__(self, pids: Callable[[], list[int]]) -> None:
        self.plugged_in = True
        self.update_s = 1.0
        self.load_ma = 800  # while the cable is out
        self.core_ma = 400  # more for each busy core
        self.charge_ma = 950
        self._pids = pids
        self._updates, self._updated = 0, time.time()
        self._drawn_ma, self._voltage_mv = self.load_ma, 3900
        self._shown = History(boot_ns(), self._drawn_ma * self._voltage_mv * 1e-6)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._move, daemon=True)

    def start(self) -> None:
        """The gauge has new figures from now on."""
        self._thread.start()

    def stop(self) -> None:
        """It has no more."""
        self._ended.set()
        self._thread.join()

    def true_energy_j(self, t0_ns: int, t1_ns: int) -> float:
        """What the battery gave between two stamps of the phone's clock, by its gauge, while the cable is out."""
        return self._shown.integral(t1_ns) - self._shown.integral(t0_ns)

    def _move(self) -> None:
        while not self._ended.wait(self.update_s):
            self._updates, self._updated = self._updates + 1, time.time()
            cores = sum(map(seeming_cores, self._pids()))
            self._drawn_ma = self.load_ma + self._updates % 7 + round(self.core_ma * cores)
            self._voltage_mv = 3900 + self._updates % 3
            self._shown.add(boot_ns(), self._drawn_ma * self._voltage_mv * 1e-6)

    def short(self) -> dict[str, Any]:
        """lockdownd's few words on it."""
        return {
            "BatteryCurrentCapacity": 80,
            "BatteryIsCharging": self.plugged_in,
            "ExternalChargeCapable": self.plugged_in,
            "ExternalConnected": self.plugged_in,
            "FullyCharged": False,
            "GasGaugeCapability": True,
            "HasBattery": True,
        }

    def power_source(self) -> dict[str, Any]:
        """IOPMPowerSource as the IORegistry has it."""
        current_ma = self.charge_ma if self.plugged_in else -self._drawn_ma
        return {
            "AppleRawCurrentCapacity": 1456,
            "AppleRawMaxCapacity": 1720,
            "CurrentCapacity": 80,
            "CycleCount": 321,
            "DesignCapacity": 1821,
            "ExternalConnected": self.plugged_in,
            "FullyCharged": False,
            "InstantAmperage": current_ma,
            "Amperage": current_ma,
            "IsCharging": self.plugged_in,
            "MaxCapacity": 100,
            "NominalChargeCapacity": 1720,
            "Temperature": 2950,
            "UpdateTime": int(self._updated),
            "Voltage": self._voltage_mv,
        }
