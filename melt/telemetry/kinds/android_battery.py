"""What an Android phone's battery gives: by the kernel's files where adb's shell may read them, else by Android's
service."""

import re
from collections.abc import Sequence
from functools import partial

from melt.spec.profile import Sensors
from melt.telemetry.android_properties import properties
from melt.telemetry.kinds import battery
from melt.telemetry.kinds.base import ANDROID, Findings, Precedence, SensorKind, why
from melt.telemetry.parsers import apply, labelled
from melt.telemetry.source import Inventory, Probe, Quantity, Source

BATTERY_SERVICE = "dumpsys battery"
FROZEN = "(UPDATES STOPPED"  # it says so after "unplug" or "set"
FOLDER = "/sys/class/power_supply/battery"
_COUNTER = "Charge counter"
SERVICE_MS = 5000  # a service's answer takes the phone some milliseconds: seldom enough to be no load
_LINES = (
    *(f"  {kind} powered" for kind in ("AC", "USB", "Wireless", "Dock")),
    *(f"  {FROZEN}", "  status:", "  level:", "  voltage:", "  temperature:", f"  {_COUNTER}:"),
)
_KNOWN_BY_SERVICE = ("charging", "battery_level", "temperature_c")
_SURELY_UA = 10_000  # no phone draws ten amperes, so a larger figure is no mA
_BATTERY_AH = (1.0, 15.0)  # what phones' batteries hold
_UNPLUG_HINT = (
    "Energy from the battery needs the phone to run on it: adb over Wi-Fi with the cable out, or the condition "
    "`charging: suspended` where the phone honours it: docs/android.md#energy."
)
_Source = partial(
    Source,
    probe=BATTERY_SERVICE,
    sensor="Android battery service",
    site="battery",
    rail="battery",
    native_period_s=SERVICE_MS / 1000,
)


def find(inventory: Inventory, sensors: Sensors, _earlier: Sequence[Source]) -> Findings:
    """What it draws by the kernel's files where adb's shell may read them, else by Android's battery service.

    Whether it is charging is the service's word wherever there is one: it knows what is plugged in, where the
    kernel's "Not charging" is said with the cable out as well as in.
    """
    findings, text = Findings(), inventory.text(BATTERY_SERVICE)
    gauge = _gauge(findings, inventory, sensors)
    if text is not None and FROZEN in text:
        hint = "Thaw it: adb shell dumpsys battery reset"
        findings.miss("battery:service", "Android's battery service is frozen", hint, "energy_j")
    elif text is None or "level:" not in text:
        hint = "Then only an external meter gives its energy."
        findings.miss("battery:service", why(inventory, BATTERY_SERVICE), hint, "energy_j")
    else:
        _find_service(findings, text, with_energy=not gauge.sources)
        gauge.sources = [s for s in gauge.sources if s.quantity not in _KNOWN_BY_SERVICE]
    used = {s.probe for s in gauge.sources}
    gauge.probes = [p for p in gauge.probes if p.name in used]
    findings.extend(gauge)
    return findings


def _gauge(findings: Findings, inventory: Inventory, sensors: Sensors) -> Findings:
    """The fuel gauge by its files. Of several supplies that call themselves a battery only the one of this name feeds
    the phone. Its unit is uA by the book; some makers' is mA, and a figure that could be either is not used."""
    if inventory.number(f"{FOLDER}/voltage_now") is None or inventory.number(f"{FOLDER}/current_now") is None:
        reason = "adb's shell may not read the fuel gauge's files on this phone"
        findings.miss("battery:current", reason, _UNPLUG_HINT, "power_w")
        return Findings()
    unit, maker = sensors.battery_current_unit, properties(inventory).get("ro.product.manufacturer", "")
    raw = abs(inventory.number(f"{FOLDER}/current_now") or 0.0)
    if unit == "auto" and (raw >= _SURELY_UA or maker == "Google"):
        unit = "uA"
    if unit == "auto":
        hint = "Say it in the profile, sensors: {battery_current_unit: mA}, from a reading while the phone works."
        findings.miss("battery:current", "its fuel gauge's figure could be in mA or in uA", hint, "power_w")
        return Findings()
    gauge = battery.find_in(inventory, sensors.period_ms, [FOLDER])
    factor = 1e3 if unit == "mA" else 1.0
    gauge.sources = [
        s.model_copy(update={"scale": s.scale * factor}) if s.quantity == "power_w" else s for s in gauge.sources
    ]
    return gauge


def _find_service(findings: Findings, text: str, with_energy: bool) -> None:
    """Android's battery service: whether it is fed, and where the gauge tells nothing also what is left."""
    command = ("dumpsys", "battery")
    findings.probes.append(Probe(name=BATTERY_SERVICE, exec=command, period_ms=SERVICE_MS, lines=_LINES))
    rows: tuple[tuple[str, str, str, Quantity, float], ...] = (
        ("charging", "battery_service_charging", "", "charging", 1.0),
        ("level", "battery_service", "level", "battery_level", 0.01),
        ("voltage", "battery_service", "voltage", "voltage_v", 1e-3),
        ("temperature", "battery_service", "temperature", "temperature_c", 0.1),
    )
    for name, parser, key, quantity, scale in rows:
        if apply(_PARSERS[parser], text, key) is not None:
            source = _Source(name=f"battery:service:{name}", parser=parser, key=key, quantity=quantity, scale=scale)
            findings.sources.append(source)
    if with_energy:
        _find_charge_counter(findings, text)


def _find_charge_counter(findings: Findings, text: str) -> None:
    """What is left in the battery: its fall times the voltage is what was spent, over minutes.

    It is in uAh by the book and in mAh on some phones; what it says of a full battery tells which. It moves in
    steps, minutes apart on some phones, so only its steps are samples.
    """
    level = partial(
        _Source,
        name="battery:service:energy",
        parser="battery_service",
        key=_COUNTER,
        quantity="energy_j",
        times="battery:service:voltage",
        sign="load_negative",
        steps=True,
    )
    left, percent = (apply(battery_service, text, key) or 0.0 for key in (_COUNTER, "level"))
    full_ah = 100 * left / percent if percent else 0.0
    if _BATTERY_AH[0] <= full_ah * 1e-6 <= _BATTERY_AH[1]:
        findings.sources.append(level(scale=battery.COULOMB_PER_UAH))
    elif _BATTERY_AH[0] <= full_ah * 1e-3 <= _BATTERY_AH[1]:
        findings.sources.append(level(scale=battery.COULOMB_PER_UAH * 1e3))
    else:
        reason = f"its charge counter, {left:g} at {percent:g} %, is of no battery's size"
        findings.miss("battery:service:energy", reason, quantity="energy_j")


def battery_service(raw: str, key: str) -> float | None:
    """A number of ``dumpsys battery``; none while somebody has frozen what it says."""
    return None if FROZEN in raw else labelled(raw, key)


def battery_service_charging(raw: str, _key: str) -> float | None:
    """Whether a source is plugged in, which feeds the phone whatever the status says. Without one only status 2,
    charging, contradicts: phones say 4, not charging, and 5, full, with the cable out."""
    if FROZEN in raw:
        return None
    if re.search(r"^  \w[\w ]* powered: true", raw, re.M):
        return 1.0
    return {2.0: 1.0, 3.0: 0.0, 4.0: 0.0, 5.0: 0.0}.get(labelled(raw, "status") or 0.0)


_PARSERS = {"battery_service": battery_service, "battery_service_charging": battery_service_charging}
KIND = SensorKind(
    find,
    Precedence.BATTERY,
    platforms=(ANDROID,),
    globs=(*battery.GLOBS, f"{FOLDER}/charge_counter"),
    commands={BATTERY_SERVICE: "dumpsys battery"},
    parsers=_PARSERS,
    total=battery.total,
    unplug_hint=_UNPLUG_HINT,
)
