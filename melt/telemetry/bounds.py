"""What can be: the bounds of every quantity that a device or a file may tell, in SI units.

A reading outside them is no reading, whatever wrote it: a gauge that says -2^63, a zone in another unit, a hostile
file. They are wide: what a phone, a board, a laptop or a server with accelerators could ever say lies well within.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from melt.telemetry.readings import Values
from melt.telemetry.source import Quantity

MOST_POWER_W = 5000.0
BOUNDS: Mapping[Quantity, tuple[float, float]] = {
    "power_w": (-MOST_POWER_W, MOST_POWER_W),
    "energy_j": (-1e14, 1e14),  # a counter of microjoules in 64 bits
    "charge_c": (-1e9, 1e9),
    "current_a": (-500.0, 500.0),
    "voltage_v": (0.0, 1000.0),
    "temperature_c": (-40.0, 200.0),  # a part that is off or not fitted says less, another unit more
    "frequency_hz": (0.0, 1e11),
    "utilisation": (0.0, 4096.0),  # of all processors together
    "memory_bytes": (0.0, 2.0**50),
    "swap_bytes": (0.0, 2.0**60),
    "charging": (0.0, 1.0),
    "throttled": (0.0, 1.0),
    "thermal_status": (0.0, 6.0),
    "battery_level": (0.0, 1.1),  # gauges count somewhat past full
}
_UNITS: Mapping[Quantity, str] = {
    "power_w": "W",
    "energy_j": "J",
    "charge_c": "C",
    "current_a": "A",
    "voltage_v": "V",
    "temperature_c": "°C",
    "frequency_hz": "Hz",
    "memory_bytes": "bytes",
    "swap_bytes": "bytes",
}


@dataclass(frozen=True)
class Refused:
    """Readings of one source that cannot be: how many, and the first of them."""

    quantity: Quantity
    count: int
    first: float

    def __str__(self) -> str:
        low, high = BOUNDS[self.quantity]
        unit = _UNITS.get(self.quantity, "")
        return f"{self.first:.4g} {unit}".rstrip() + f", which is not between {low:g} and {high:g}"


def possible(quantity: Quantity, value: Values) -> "np.ndarray":
    """Which of some values can be."""
    low, high = BOUNDS[quantity]
    return np.asarray((value >= low) & (value <= high))


def refused(quantity: Quantity, value: Values) -> Refused | None:
    """What of some values cannot be; None where all can."""
    bad = ~possible(quantity, value)
    return Refused(quantity, int(bad.sum()), float(value[bad][0])) if bad.any() else None
