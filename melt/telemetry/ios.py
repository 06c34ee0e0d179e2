"""What an iPhone tells of itself while it works: instruments' samples of the app and the system, its battery, and what
only the app can know.

Each probe's raw text is a JSON object of what the service gave. Nothing here has been seen on an iPhone.
"""

import json
from collections.abc import Mapping
from typing import Any

from melt.spec.profile import Sensors
from melt.telemetry import linux
from melt.telemetry.kinds.base import Found
from melt.telemetry.source import Discovery, Probe, Source

APP, SYSTEM, GPU, BATTERY = "app", "system", "gpu", "battery"
OWN_MEMORY, OWN_MEMORY_MS = "memory", 500  # what the app samples of itself, and how often it does
BATTERY_KEYS = ("Voltage", "InstantAmperage", "Temperature", "ExternalConnected", "IsCharging", "UpdateTime")
BATTERY_MS = 1000
_LEAST_MS = 100  # more often than this the phone's own sampling would be in the measurement
_GPU_BUSY = "Device Utilization %"
_GAUGE = "fuel gauge"
_LATEST_NS = 2**62


def discover(battery: Mapping[str, Any], cores: int | None, update_s: float | None, sensors: Sensors) -> Discovery:
    """The telemetry of an iPhone, and what it cannot give, with reasons.

    Args:
        battery: its IOPMPowerSource.
        cores: its processors, of which utilisation is a share; None where it did not say.
        update_s: how often its gauge was seen to have a new figure; None where that is not known.
        sensors: the profile's.
    """
    found = Found()
    _find_instruments(found, cores, max(_LEAST_MS, sensors.period_ms))
    left = "available_bytes", "memory_bytes", "process", "os_proc_available_memory"
    _add(found, OWN_MEMORY, OWN_MEMORY_MS, *left, name="process:available")
    _find_battery(found, battery, update_s)
    found.miss("frequency", "iOS tells no clock of its processor")
    found.miss(
        "temperature of the processor",
        "iOS tells none",
        "melt's app writes a warning into a run when its thermal state changes: nominal, fair, serious, critical.",
    )
    found.miss("power rails", "iOS tells none", "Xcode's energy gauge is a score and no joules, so melt leaves it out.")
    decided = linux.decide(found, sensors, (_total,))
    return decided.model_copy(update={"absent": tuple(a for a in decided.absent if a.name != "energy" or not battery)})


def _total(sources: list[Source]) -> list[str]:
    return [s.name for s in sources if s.quantity == "power_w" and s.site == "battery"]


def _find_instruments(found: Found, cores: int | None, period_ms: int) -> None:
    _add(found, APP, period_ms, "physFootprint", "memory_bytes", "process", "sysmontap", name="process:footprint")
    if cores:
        share = 0.01 / cores
        _add(found, APP, period_ms, "cpuUsage", "utilisation", "process", "sysmontap", share, name="process:cpu")
        _add(found, SYSTEM, period_ms, "CPU_TotalLoad", "utilisation", "system", "sysmontap", share, name="cpu:load")
    else:
        found.miss("cpu:load", "the iPhone did not say how many processors it has")
    _add(found, GPU, 1000, _GPU_BUSY, "utilisation", "gpu", "graphics.opengl", 0.01, name="gpu:load")


def _find_battery(found: Found, battery: Mapping[str, Any], update_s: float | None) -> None:
    missing = [k for k in ("Voltage", "InstantAmperage", "ExternalConnected") if k not in battery]
    if missing:
        found.miss("battery:power", f"its battery does not tell {', '.join(missing)}")
        return
    update = {"native_period_s": update_s or BATTERY_MS / 1000, "rail": "battery"}
    for name, key, quantity, scale in (
        ("charging", "ExternalConnected", "charging", 1.0),
        ("voltage", "Voltage", "voltage_v", 1e-3),
        ("temperature", "Temperature", "temperature_c", 0.01),
        ("power", "InstantAmperage", "power_w", 1e-3),
    ):
        if key in battery:
            more = {"sign": "load_negative", "times": "battery:voltage"} if name == "power" else {}
            _add(found, BATTERY, BATTERY_MS, key, quantity, "battery", _GAUGE, scale, f"battery:{name}", update | more)
    if battery.get("ExternalConnected") or battery.get("IsCharging"):
        found.miss(
            "battery:power while charging",
            "on a cable the iPhone charges, and its battery then says nothing of the load",
            "An external meter, or a connection by Wi-Fi with the cable out: docs/ios.md.",
        )


def _add(
    found: Found,
    probe: str,
    period_ms: int,
    key: str,
    quantity: str,
    site: str,
    sensor: str,
    scale: float = 1.0,
    name: str = "",
    more: Mapping[str, Any] | None = None,
) -> None:
    if all(p.name != probe for p in found.probes):
        found.probes.append(Probe(name=probe, period_ms=period_ms))
    fixed = {"name": name, "probe": probe, "parser": "json_number", "key": key, "quantity": quantity, "site": site}
    source = {**fixed, "sensor": sensor, "scale": scale, "native_period_s": period_ms / 1000, **(more or {})}
    found.sources.append(Source.model_validate(source))


def battery_text(battery: Mapping[str, Any]) -> str:
    """A reading of the battery as it is kept."""
    return as_text({k: battery[k] for k in BATTERY_KEYS if k in battery})


def as_text(values: Mapping[str, Any]) -> str:
    """Values of a service as they are kept: numbers and words only."""
    return json.dumps({str(k): v for k, v in values.items() if isinstance(v, bool | int | float | str)})


def own_samples(text: str) -> list[tuple[int, str]]:
    """The samples in the app's own file, each its stamp and its line; what is no such sample is left out."""
    found = []
    for line in text.splitlines():
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(told, dict) or told.get("probe") != OWN_MEMORY or not isinstance(told.get("raw"), str):
            continue
        t_ns, t_end_ns = told.get("t_ns"), told.get("t_end_ns")
        if type(t_ns) is int and type(t_end_ns) is int and 0 <= t_ns <= t_end_ns <= _LATEST_NS:
            found.append((t_ns, sample_line(t_ns, t_end_ns, OWN_MEMORY, told["raw"])))
    return found


def sample_line(t_ns: int, t_end_ns: int, probe: str, raw: str) -> str:
    """A sample as melt's sampler writes it."""
    return json.dumps({"t_ns": t_ns, "t_end_ns": t_end_ns, "probe": probe, "raw": raw}, separators=(",", ":"))
