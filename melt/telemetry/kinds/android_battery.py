"""What an Android phone's battery gives: by the kernel's files where adb's shell may read them, else by Android's
service."""

from melt.spec.profile import Sensors
from melt.telemetry.kinds import battery
from melt.telemetry.kinds.base import Found, source, why
from melt.telemetry.parsers import BATTERY_SERVICE, FROZEN, parse
from melt.telemetry.source import Inventory, Probe

FOLDER = "/sys/class/power_supply/battery"
GLOBS = (f"{FOLDER}/charge_counter", f"{FOLDER}/temp")
SERVICE_MS = 5000  # a service's answer takes the phone some milliseconds: seldom enough to be no load
_LINES = (
    *(f"  {kind} powered" for kind in ("AC", "USB", "Wireless", "Dock")),
    *(f"  {FROZEN}", "  status:", "  voltage:", "  temperature:", "  Charge counter:"),
)
_SURELY_UA = 10_000  # no phone draws ten amperes, so a larger figure is no mA
_BATTERY_AH = (1.0, 15.0)  # what phones' batteries hold
_CHARGING_HINT = (
    "Energy from the battery needs the phone to run on it: adb over Wi-Fi with the cable out, or the condition "
    "`charging: suspended` where the phone honours it."
)


def find_battery(found: Found, inventory: Inventory, sensors: Sensors, maker: str) -> None:
    """What it draws by the kernel's files where adb's shell may read them, else by Android's battery service.

    Whether it is charging is the service's word wherever there is one: it knows what is plugged in, where the
    kernel's "Not charging" is said with the cable out as well as in.
    """
    text = inventory.text(BATTERY_SERVICE)
    frozen = text is not None and FROZEN in text
    gauge = _gauge(found, inventory, sensors, maker)
    if frozen:
        found.miss("battery:service", "Android's battery service is frozen", "Thaw it: adb shell dumpsys battery reset")
    elif text is None or "level:" not in text:
        found.miss("battery:service", why(inventory, BATTERY_SERVICE), "Then only an external meter gives its energy.")
    else:
        _find_service(found, text, with_energy=not gauge.sources)
        gauge.sources = [s for s in gauge.sources if s.quantity != "charging"]
    used = {s.probe for s in gauge.sources}
    gauge.probes = [p for p in gauge.probes if p.name in used]
    found.extend(gauge)


def _gauge(found: Found, inventory: Inventory, sensors: Sensors, maker: str) -> Found:
    """The fuel gauge by its files. Of several supplies that call themselves a battery only the one of this name feeds
    the phone. Its unit is uA by the book; some makers' is mA, and a figure that could be either is not used."""
    if inventory.number(f"{FOLDER}/voltage_now") is None or inventory.number(f"{FOLDER}/current_now") is None:
        found.miss("battery:current", "adb's shell may not read the fuel gauge's files on this phone", _CHARGING_HINT)
        return Found()
    unit = sensors.battery_current_unit
    raw = abs(inventory.number(f"{FOLDER}/current_now") or 0.0)
    if unit == "auto" and (raw >= _SURELY_UA or maker == "Google"):
        unit = "uA"
    if unit == "auto":
        hint = "Say it in the profile, sensors: {battery_current_unit: mA}, from a reading while the phone works."
        found.miss("battery:current", "its fuel gauge's figure could be in mA or in uA", hint)
        return Found()
    gauge = battery.find(inventory, sensors.period_ms, [FOLDER])
    factor = 1e3 if unit == "mA" else 1.0
    gauge.sources = [
        s.model_copy(update={"scale": s.scale * factor}) if s.quantity == "power_w" else s for s in gauge.sources
    ]
    return gauge


def _find_service(found: Found, text: str, with_energy: bool) -> None:
    """Android's battery service: whether it is fed, and where the gauge tells nothing also what is left."""
    found.probes.append(Probe(name=BATTERY_SERVICE, exec=("dumpsys", "battery"), period_ms=SERVICE_MS, lines=_LINES))
    for name, parser, key, quantity, scale in (
        ("charging", "battery_service_charging", "", "charging", 1.0),
        ("voltage", "battery_service", "voltage", "voltage_v", 1e-3),
        ("temperature", "battery_service", "temperature", "temperature_c", 0.1),
    ):
        one = source(f"battery:service:{name}", parser, quantity, "battery", "Android battery service")
        update = {"probe": BATTERY_SERVICE, "key": key, "scale": scale, "native_period_s": SERVICE_MS / 1000}
        one = one.model_copy(update={**update, "rail": "battery"})
        if parse(one, text) is not None:
            found.sources.append(one)
    if with_energy:
        _find_charge_counter(found, text)


def _find_charge_counter(found: Found, text: str) -> None:
    """What is left in the battery: its fall times the voltage is what was spent, over minutes.

    It is in uAh by the book and in mAh on some phones; what it says of a full battery tells which. It moves in
    steps, minutes apart on some phones, so only its steps are samples.
    """
    level = source("battery:service:energy", "battery_service", "energy_j", "battery", "Android battery service")
    level = level.model_copy(
        update={
            "probe": BATTERY_SERVICE,
            "key": "Charge counter",
            "scale": battery.COULOMB_PER_UAH,
            "times": "battery:service:voltage",
            "sign": "load_negative",
            "rail": "battery",
            "native_period_s": SERVICE_MS / 1000,
            "steps": True,
        }
    )
    left, percent = parse(level, text) or 0.0, parse(level.model_copy(update={"key": "level"}), text) or 0.0
    full_ah = 100 * left / percent if percent else 0.0
    if _BATTERY_AH[0] <= full_ah * 1e-6 <= _BATTERY_AH[1]:
        found.sources.append(level)
    elif _BATTERY_AH[0] <= full_ah * 1e-3 <= _BATTERY_AH[1]:
        found.sources.append(level.model_copy(update={"scale": battery.COULOMB_PER_UAH * 1e3}))
    else:
        found.miss("battery:service:energy", f"its charge counter, {left:g} at {percent:g} %, is of no battery's size")
