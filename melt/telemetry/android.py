"""What an Android phone can tell about itself, beyond what its Linux kernel does: pure functions of an Inventory.

Phones differ in what adb's shell may read. The kernel's files are preferred, as they cost nothing; what they do not
tell is asked of Android's services, which cost the phone some milliseconds each and so are asked seldom.
"""

from collections.abc import Sequence

from melt.profile import Sensors
from melt.telemetry import battery, linux, power_rails
from melt.telemetry.android_facts import PROPERTIES, properties
from melt.telemetry.base import Discovery, Inventory, Probe, Quantity, Site, Source
from melt.telemetry.found import SLOW_MS, Found, why
from melt.telemetry.parsers import (
    BATTERY_SERVICE,
    FROZEN,
    HAL_TEMPERATURES,
    SKIN,
    THERMAL_SERVICE,
    hal_temperatures,
    parse,
)
from melt.telemetry.power_rails import Rail

COMMANDS = {  # an inventory's entries that are no files, and the command that gives each
    BATTERY_SERVICE: "dumpsys battery",
    THERMAL_SERVICE: "dumpsys thermalservice",
}
_KGSL = "/sys/class/kgsl/kgsl-3d0"
_MALI = "/sys/class/misc/mali0/device/devfreq/*/cur_freq"
_TENSOR_MALI = "/sys/devices/platform/*.mali/cur_freq"
_BATTERY = "/sys/class/power_supply/battery"
GLOBS = (f"{_KGSL}/gpuclk", f"{_KGSL}/gpubusy", _MALI, _TENSOR_MALI, f"{_BATTERY}/charge_counter", f"{_BATTERY}/temp")
SERVICE_MS = 5000  # a service's answer takes the phone some milliseconds: seldom enough to be no load
THERMAL_MS = 2000
_BATTERY_LINES = (
    *(f"  {kind} powered" for kind in ("AC", "USB", "Wireless", "Dock")),
    *(f"  {FROZEN}", "  status:", "  voltage:", "  temperature:", "  Charge counter:"),
)
_SURELY_UA = 10_000  # no phone draws ten amperes, so a larger figure is no mA
_NATIVE_S = 1.0
_BATTERY_AH = (1.0, 15.0)  # what phones' batteries hold
# android.hardware.thermal's TemperatureType. 6 to 8 are limits of current and no temperatures; -1 is what its
# maker does not name: differences of two sensors are among them.
_SITES: dict[int, Site] = {0: "cpu", 1: "gpu", 2: "battery", SKIN: "skin"}
_NO_TEMPERATURE = (-1, 6, 7, 8)
_CHARGING_HINT = (
    "Energy from the battery needs the phone to run on it: adb over Wi-Fi with the cable out, or the condition "
    "`charging: suspended` where the phone honours it."
)


def discover(
    inventory: Inventory,
    sensors: Sensors = Sensors(),  # noqa: B008 - frozen
    rails: Sequence[Rail] = (),
) -> Discovery:
    """Every probe worth reading on a phone, what each means, and what is missing and why.

    The rails are those that Perfetto records, beside the sampler. They measure the chip however the phone is fed, so
    they make the total where there are any that compute.
    """
    found = linux.find_kernel(inventory, sensors.period_ms)
    _find_gpu(found, inventory)
    _find_thermal_service(found, inventory)
    maker = properties(inventory.text(PROPERTIES) or "").get("ro.product.manufacturer", "")
    _find_battery(found, inventory, sensors, maker)
    found.sources += power_rails.sources(list(rails))
    return linux.decide(found, sensors, (power_rails.total, battery.total))


def _find_gpu(found: Found, inventory: Inventory) -> None:
    """Adreno's clock and load, Mali's clock."""
    if inventory.number(f"{_KGSL}/gpuclk") is not None:
        found.add(
            _source("gpu:adreno:frequency", "number", "frequency_hz", "gpu", "kernel"), f"{_KGSL}/gpuclk", SLOW_MS
        )
    elif inventory.error(f"{_KGSL}/gpuclk"):
        found.miss("gpu:adreno:frequency", why(inventory, f"{_KGSL}/gpuclk"))
    if (
        parse(_source("x", "busy_of_total", "utilisation", "gpu", ""), inventory.text(f"{_KGSL}/gpubusy") or "")
        is not None
    ):
        busy = _source("gpu:adreno:load", "busy_of_total", "utilisation", "gpu", "kernel")
        found.add(busy, f"{_KGSL}/gpubusy", SLOW_MS)
    for path in (*inventory.matching(_MALI)[:1], *inventory.matching(_TENSOR_MALI)[:1]):
        if inventory.number(path) is not None:
            clock = _source("gpu:mali:frequency", "number", "frequency_hz", "gpu", "kernel")
            scale = 1.0 if "devfreq" in path else 1e3
            found.add(clock.model_copy(update={"scale": scale}), path, SLOW_MS)
        else:
            found.miss("gpu:mali:frequency", why(inventory, path))


def _find_thermal_service(found: Found, inventory: Inventory) -> None:
    """The phone's own thermal status, and the temperatures that its maker shows to Android."""
    text = inventory.text(THERMAL_SERVICE)
    if text is None or "Thermal Status" not in text:
        found.miss(THERMAL_SERVICE, why(inventory, THERMAL_SERVICE), "Android 10 and newer have it.")
        return
    lines = ("Thermal Status:", "Current temperatures from HAL:", "Current cooling", "Temperature{", "\tTemperature{")
    probe = Probe(name=THERMAL_SERVICE, exec=("dumpsys", "thermalservice"), period_ms=THERMAL_MS, lines=lines)
    found.probes.append(probe)
    status = _source("android:throttled", "thermal_status", "throttled", "cpu", "Android thermal status")
    found.sources.append(status.model_copy(update={"probe": THERMAL_SERVICE}))
    for one in {t.name: t for t in hal_temperatures(text)}.values():
        if one.kind in _NO_TEMPERATURE:
            continue
        name = f"android:{one.name}"
        source = _source(name, HAL_TEMPERATURES, "temperature_c", _SITES.get(one.kind, "system"), "Android thermal HAL")
        source = source.model_copy(update={"probe": THERMAL_SERVICE, "key": one.name, "rail": one.name})
        if one.value == 0.0:
            found.miss(name, "the phone says exactly 0 degrees, as one that is not fitted does")
        elif parse(source, text) is None:
            found.miss(name, f"the phone says {one.value:g} degrees")
        else:
            found.sources.append(source)


def _find_battery(found: Found, inventory: Inventory, sensors: Sensors, maker: str) -> None:
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
    if inventory.number(f"{_BATTERY}/voltage_now") is None or inventory.number(f"{_BATTERY}/current_now") is None:
        found.miss("battery:current", "adb's shell may not read the fuel gauge's files on this phone", _CHARGING_HINT)
        return Found()
    unit = sensors.battery_current_unit
    raw = abs(inventory.number(f"{_BATTERY}/current_now") or 0.0)
    if unit == "auto" and (raw >= _SURELY_UA or maker == "Google"):
        unit = "uA"
    if unit == "auto":
        hint = "Say it in the profile, sensors: {battery_current_unit: mA}, from a reading while the phone works."
        found.miss("battery:current", "its fuel gauge's figure could be in mA or in uA", hint)
        return Found()
    gauge = battery.find(inventory, sensors.period_ms, [_BATTERY])
    factor = 1e3 if unit == "mA" else 1.0
    gauge.sources = [
        s.model_copy(update={"scale": s.scale * factor}) if s.quantity == "power_w" else s for s in gauge.sources
    ]
    return gauge


def _find_service(found: Found, text: str, with_energy: bool) -> None:
    """Android's battery service: whether it is fed, and where the gauge tells nothing also what is left."""
    found.probes.append(
        Probe(name=BATTERY_SERVICE, exec=("dumpsys", "battery"), period_ms=SERVICE_MS, lines=_BATTERY_LINES)
    )
    for name, parser, key, quantity, scale in (
        ("charging", "battery_service_charging", "", "charging", 1.0),
        ("voltage", "battery_service", "voltage", "voltage_v", 1e-3),
        ("temperature", "battery_service", "temperature", "temperature_c", 0.1),
    ):
        source = _source(f"battery:service:{name}", parser, quantity, "battery", "Android battery service")
        update = {"probe": BATTERY_SERVICE, "key": key, "scale": scale, "native_period_s": SERVICE_MS / 1000}
        source = source.model_copy(update={**update, "rail": "battery"})
        if parse(source, text) is not None:
            found.sources.append(source)
    if with_energy:
        _find_charge_counter(found, text)


def _find_charge_counter(found: Found, text: str) -> None:
    """What is left in the battery: its fall times the voltage is what was spent, over minutes.

    It is in uAh by the book and in mAh on some phones; what it says of a full battery tells which. It moves in
    steps, minutes apart on some phones, so only its steps are samples.
    """
    level = _source("battery:service:energy", "battery_service", "energy_j", "battery", "Android battery service")
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


def _source(name: str, parser: str, quantity: Quantity | str, site: Site, sensor: str) -> Source:
    return Source.model_validate(
        {
            "name": name,
            "probe": name,
            "parser": parser,
            "quantity": quantity,
            "site": site,
            "sensor": sensor,
            "native_period_s": _NATIVE_S,
        }
    )
