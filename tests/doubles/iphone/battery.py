"""The phone's battery and its gauge, which has a new figure only every so often."""

import time
from typing import Any


class Battery:
    """What may be told of it at any time; the gauge's figure holds still for a period."""

    def __init__(self) -> None:
        self.plugged_in = True
        self.update_s = 1.0
        self.load_ma = 800  # while the cable is out
        self.charge_ma = 950
        self._from = time.time()

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
        updates = int((time.time() - self._from) / self.update_s)
        current_ma = self.charge_ma if self.plugged_in else -self.load_ma - updates % 7
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
            "UpdateTime": int(self._from + updates * self.update_s),
            "Voltage": 3900 + updates % 3,
        }
