"""A phone's temperatures: chip and body warm up with the power, each at its own pace."""

import math
import re

from tests.doubles.phone.recording import Recording
from tests.telemetry.replay import Sensor

CHIP_C_PER_W, CHIP_S = 6.0, 4.0
BODY_C_PER_W, BODY_S = 1.5, 90.0
ZONE = re.compile(r"(/sys/class/thermal/thermal_zone\d+)/temp")
CHIP_ZONE = re.compile(r"cpu|gpu|soc|big|mid|little|tpu|npu|apc|prime|silver|gold", re.IGNORECASE)
FROM_HAL = "Current temperatures from HAL:"
TEMPERATURE = re.compile(r"mValue=([-\d.]+), mType=(\d+)")
CHIP_TYPES, BODY_TYPES = (0, 1, 9), (2, 3)  # CPU, GPU, NPU; battery, skin


class Heat:
    """Attributes: chip_c, body_c: how much warmer than recorded."""

    def __init__(self, recording: Recording, idle_w: float) -> None:
        self._recording, self._idle_w = recording, idle_w
        self.chip_c = self.body_c = 0.0

    def step(self, seconds: float, load_w: float) -> None:
        """The phone has drawn this much for so long; idling, it keeps the recorded temperatures."""
        above_w = load_w - self._idle_w
        self.chip_c += (above_w * CHIP_C_PER_W - self.chip_c) * (1 - math.exp(-seconds / CHIP_S))
        self.body_c += (above_w * BODY_C_PER_W - self.body_c) * (1 - math.exp(-seconds / BODY_S))

    def sensors(self) -> list[Sensor]:
        """The zones of sysfs that show a number; an exact 0 is a sensor that is not fitted."""
        found = []
        for path, text in self._recording.tree.items():
            if (zone := ZONE.fullmatch(path)) and re.fullmatch(r"-?\d+", text.strip()) and int(text):
                chip = bool(CHIP_ZONE.search(self._recording.tree.get(f"{zone[1]}/type", "")))
                found.append(self._sensor(path, int(text), chip))
        return found

    def text(self) -> str:
        """`dumpsys thermalservice`: its cached temperatures stay as recorded, as on a phone."""
        before, heading, rest = self._recording.thermal.partition(FROM_HAL)
        block = re.match(r"(?:\n[ \t]+.*)*", rest)
        end = block.end() if block else 0
        return before + heading + TEMPERATURE.sub(self._warmer, rest[:end]) + rest[end:]

    def _sensor(self, path: str, recorded: int, chip: bool) -> Sensor:
        scale = 1000 if abs(recorded) >= 1000 else 1
        return Sensor(path, lambda _w, _j: recorded + scale * (self.chip_c if chip else self.body_c))

    def _warmer(self, found: re.Match[str]) -> str:
        value, kind = float(found[1]), int(found[2])
        rise = self.chip_c if kind in CHIP_TYPES else self.body_c if kind in BODY_TYPES else 0.0
        return f"mValue={value + rise:.3f}, mType={kind}" if value and rise else found[0]
