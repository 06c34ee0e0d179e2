"""What an Android phone can tell about itself, beyond what its Linux kernel does: pure functions of an Inventory.

Phones differ in what adb's shell may read. The kernel's files are preferred, as they cost nothing; what they do not
tell is asked of Android's services, which cost the phone some milliseconds each and so are asked seldom.
"""

from collections.abc import Sequence

from melt.spec.profile import Sensors
from melt.telemetry import linux
from melt.telemetry.android_facts import PROPERTIES, properties
from melt.telemetry.kinds import android_battery, battery, power_rails
from melt.telemetry.kinds.base import SLOW_MS, Found, source, why
from melt.telemetry.kinds.power_rails import Rail
from melt.telemetry.parsers import (
    BATTERY_SERVICE,
    HAL_TEMPERATURES,
    SKIN,
    THERMAL_SERVICE,
    hal_temperatures,
    parse,
)
from melt.telemetry.source import Discovery, Inventory, Probe, Site

GPU_MEMORY = "dumpsys gpu"
COMMANDS = {  # an inventory's entries that are no files, and the command that gives each
    BATTERY_SERVICE: "dumpsys battery",
    GPU_MEMORY: "dumpsys gpu --gpumem",
    THERMAL_SERVICE: "dumpsys thermalservice",
}
_KGSL = "/sys/class/kgsl/kgsl-3d0"
_MALI = "/sys/class/misc/mali0/device/devfreq/*/cur_freq"
_TENSOR_MALI = "/sys/devices/platform/*.mali/cur_freq"
GLOBS = (f"{_KGSL}/gpuclk", f"{_KGSL}/gpubusy", _MALI, _TENSOR_MALI, *android_battery.GLOBS)
THERMAL_MS = 2000
GPU_MEMORY_MS = 2000
# android.hardware.thermal's TemperatureType. 6 to 8 are limits of current and no temperatures; -1 is what its
# maker does not name: differences of two sensors are among them.
_SITES: dict[int, Site] = {0: "cpu", 1: "gpu", 2: "battery", SKIN: "skin"}
_NO_TEMPERATURE = (-1, 6, 7, 8)


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
    _find_gpu_memory(found, inventory)
    _find_thermal_service(found, inventory)
    maker = properties(inventory.text(PROPERTIES) or "").get("ro.product.manufacturer", "")
    android_battery.find_battery(found, inventory, sensors, maker)
    found.sources += power_rails.sources(list(rails))
    return linux.decide(found, sensors, (power_rails.total, battery.total))


def _find_gpu(found: Found, inventory: Inventory) -> None:
    """Adreno's clock and load, Mali's clock."""
    if inventory.number(f"{_KGSL}/gpuclk") is not None:
        found.add(source("gpu:adreno:frequency", "number", "frequency_hz", "gpu", "kernel"), f"{_KGSL}/gpuclk", SLOW_MS)
    elif inventory.error(f"{_KGSL}/gpuclk"):
        found.miss("gpu:adreno:frequency", why(inventory, f"{_KGSL}/gpuclk"))
    if (
        parse(source("x", "busy_of_total", "utilisation", "gpu", ""), inventory.text(f"{_KGSL}/gpubusy") or "")
        is not None
    ):
        busy = source("gpu:adreno:load", "busy_of_total", "utilisation", "gpu", "kernel")
        found.add(busy, f"{_KGSL}/gpubusy", SLOW_MS)
    for path in (*inventory.matching(_MALI)[:1], *inventory.matching(_TENSOR_MALI)[:1]):
        if inventory.number(path) is not None:
            clock = source("gpu:mali:frequency", "number", "frequency_hz", "gpu", "kernel")
            scale = 1.0 if "devfreq" in path else 1e3
            found.add(clock.model_copy(update={"scale": scale}), path, SLOW_MS)
        else:
            found.miss("gpu:mali:frequency", why(inventory, path))


def _find_gpu_memory(found: Found, inventory: Inventory) -> None:
    """All that the GPU holds, of every process; Android 12 and newer count it. It is no part of any resident set."""
    memory = source("gpu:memory", "labelled", "memory_bytes", "gpu", "Android GPU service")
    memory = memory.model_copy(update={"probe": GPU_MEMORY, "key": "Global total"})
    if parse(memory, inventory.text(GPU_MEMORY) or "") is None:
        found.miss("gpu:memory", why(inventory, GPU_MEMORY), "Android 12 and newer count it, where the driver does.")
        return
    found.probes.append(
        Probe(name=GPU_MEMORY, exec=("dumpsys", "gpu", "--gpumem"), period_ms=GPU_MEMORY_MS, lines=("Global total:",))
    )
    found.sources.append(memory)


def _find_thermal_service(found: Found, inventory: Inventory) -> None:
    """The phone's own thermal status, and the temperatures that its maker shows to Android."""
    text = inventory.text(THERMAL_SERVICE)
    if text is None or "Thermal Status" not in text:
        found.miss(THERMAL_SERVICE, why(inventory, THERMAL_SERVICE), "Android 10 and newer have it.")
        return
    lines = ("Thermal Status:", "Current temperatures from HAL:", "Current cooling", "Temperature{", "\tTemperature{")
    probe = Probe(name=THERMAL_SERVICE, exec=("dumpsys", "thermalservice"), period_ms=THERMAL_MS, lines=lines)
    found.probes.append(probe)
    status = source("android:throttled", "thermal_status", "throttled", "cpu", "Android thermal status")
    found.sources.append(status.model_copy(update={"probe": THERMAL_SERVICE}))
    for one in {t.name: t for t in hal_temperatures(text)}.values():
        if one.kind in _NO_TEMPERATURE:
            continue
        name = f"android:{one.name}"
        heat = source(name, HAL_TEMPERATURES, "temperature_c", _SITES.get(one.kind, "system"), "Android thermal HAL")
        heat = heat.model_copy(update={"probe": THERMAL_SERVICE, "key": one.name, "rail": one.name})
        if one.value == 0.0:
            found.miss(name, "the phone says exactly 0 degrees, as one that is not fitted does")
        elif parse(heat, text) is None:
            found.miss(name, f"the phone says {one.value:g} degrees")
        else:
            found.sources.append(heat)
