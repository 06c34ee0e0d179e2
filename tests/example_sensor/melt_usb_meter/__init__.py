"""A meter in the device's supply, whose reader keeps ``/run/usb-meter/NAME/now`` up to date: "5.123V 1.034A"."""

import re
from collections.abc import Sequence

from melt.spec.profile import Sensors
from melt.telemetry.kinds.base import Findings, Precedence, SensorKind, why
from melt.telemetry.source import Inventory, Source

NOW = "/run/usb-meter/*/now"


def find(inventory: Inventory, sensors: Sensors, _earlier: Sequence[Source]) -> Findings:
    """Every meter whose file can be read and understood."""
    findings = Findings()
    for path in inventory.matching(NOW):
        name = f"meter:{path.split('/')[3]}"
        if watts(inventory.text(path) or "", "") is None:
            findings.miss(name, why(inventory, path), "Is its reader running?", "power_w")
            continue
        meter = Source(
            name=name,
            parser="usb_meter_w",
            quantity="power_w",
            sensor="USB meter",
            site="input",
            sign="load_positive",
            native_period_s=0.02,
            accuracy=0.01,
        )
        findings.add(meter, path, sensors.period_ms)
    return findings


def watts(raw: str, _key: str) -> float | None:
    """Volts times amperes."""
    match = re.fullmatch(r"\s*([0-9.]{1,9})V ([0-9.]{1,9})A\s*", raw)
    return float(match[1]) * float(match[2]) if match else None


def total(sources: Sequence[Source]) -> list[str]:
    """One meter sees all that the device takes."""
    return [s.name for s in sources][:1]


KIND = SensorKind(find, Precedence.METER, globs=(NOW,), parsers={"usb_meter_w": watts}, total=total)
