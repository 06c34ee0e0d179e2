"""An iPhone's battery by its IOPMPowerSource. Nothing here has been seen on an iPhone."""

import json
from collections.abc import Sequence
from functools import partial

from melt.spec.profile import Sensors
from melt.telemetry.kinds.base import IOS, Findings, Precedence, SensorKind
from melt.telemetry.kinds.battery import total
from melt.telemetry.source import Inventory, Probe, Source

BATTERY, BATTERY_MS = "battery", 1000
POWER_SOURCE = "IOPMPowerSource"  # the inventory's entry, a JSON object
UPDATE_S = "battery update period"  # the inventory's entry: how often the gauge was seen to have a new figure
VOLTAGE, CURRENT, TEMPERATURE = "Voltage", "InstantAmperage", "Temperature"
LEVEL, EXTERNAL, IS_CHARGING = "CurrentCapacity", "ExternalConnected", "IsCharging"
UNPLUG_HINT = "An external meter, or a connection by Wi-Fi with the cable out: docs/ios.md#energy."
_Source = partial(Source, probe=BATTERY, parser="json_number", sensor="fuel gauge", site="battery", rail="battery")
KEYS = (VOLTAGE, CURRENT, TEMPERATURE, LEVEL, EXTERNAL, IS_CHARGING, "UpdateTime")


def find(inventory: Inventory, _sensors: Sensors, _earlier: Sequence[Source]) -> Findings:
    """Its current times its voltage, and whether the iPhone is fed from outside."""
    findings = Findings()
    battery = json.loads(inventory.text(POWER_SOURCE) or "{}")
    missing = [k for k in (VOLTAGE, CURRENT, EXTERNAL) if k not in battery]
    if missing:
        findings.miss("battery:power", f"its battery does not tell {', '.join(missing)}", quantity="power_w")
        return findings
    source = partial(_Source, native_period_s=inventory.number(UPDATE_S) or BATTERY_MS / 1000)
    findings.probes.append(Probe(name=BATTERY, period_ms=BATTERY_MS))
    voltage = source(name="battery:voltage", key=VOLTAGE, quantity="voltage_v", scale=1e-3)
    power = source(
        name="battery:power",
        key=CURRENT,
        quantity="power_w",
        scale=1e-3,
        times=voltage.name,
        sign="load_negative",
    )
    findings.sources += [source(name="battery:charging", key=EXTERNAL, quantity="charging"), voltage, power]
    if TEMPERATURE in battery:
        heat = source(name="battery:temperature", key=TEMPERATURE, quantity="temperature_c", scale=0.01)
        findings.sources.append(heat)
    if LEVEL in battery:
        findings.sources.append(source(name="battery:level", key=LEVEL, quantity="battery_level", scale=0.01))
    if battery.get(EXTERNAL) or battery.get(IS_CHARGING):
        reason = "on a cable the iPhone charges, and its battery then says nothing of the load"
        findings.miss("battery:power while charging", reason, UNPLUG_HINT, "power_w")
    return findings


KIND = SensorKind(find, Precedence.BATTERY, platforms=(IOS,), total=total, unplug_hint=UNPLUG_HINT)
