"""A phone's GPU: Adreno's clock and load, Mali's clock, and all that it holds of the memory."""

from collections.abc import Sequence
from functools import partial

from melt.spec.profile import Sensors
from melt.telemetry.kinds.base import ANDROID, SLOW_MS, Findings, Precedence, SensorKind, why
from melt.telemetry.parsers import apply, labelled
from melt.telemetry.source import Inventory, Probe, Source

_KGSL = "/sys/class/kgsl/kgsl-3d0"
_MALI = "/sys/class/misc/mali0/device/devfreq/*/cur_freq"
_TENSOR_MALI = "/sys/devices/platform/*.mali/cur_freq"
GPU_MEMORY, _TOTAL = "dumpsys gpu", "Global total"
GPU_MEMORY_MS = 2000
_Source = partial(Source, site="gpu", native_period_s=1.0)


def find(inventory: Inventory, _sensors: Sensors, _earlier: Sequence[Source]) -> Findings:
    """What adb's shell may read of it."""
    findings = Findings()
    _find_adreno(findings, inventory)
    for path in (*inventory.matching(_MALI)[:1], *inventory.matching(_TENSOR_MALI)[:1]):
        if inventory.number(path) is not None:
            scale = 1.0 if "devfreq" in path else 1e3
            clock = _Source(name="gpu:mali:frequency", quantity="frequency_hz", scale=scale, sensor="kernel")
            findings.add(clock, path, SLOW_MS)
        else:
            findings.miss("gpu:mali:frequency", why(inventory, path), quantity="frequency_hz")
    _find_memory(findings, inventory)
    return findings


def _find_adreno(findings: Findings, inventory: Inventory) -> None:
    clock, load = f"{_KGSL}/gpuclk", f"{_KGSL}/gpubusy"
    if inventory.number(clock) is not None:
        source = _Source(name="gpu:adreno:frequency", quantity="frequency_hz", sensor="kernel")
        findings.add(source, clock, SLOW_MS)
    elif inventory.error(clock):
        findings.miss("gpu:adreno:frequency", why(inventory, clock), quantity="frequency_hz")
    if apply(busy_of_total, inventory.text(load) or "") is not None:
        source = _Source(name="gpu:adreno:load", parser="busy_of_total", quantity="utilisation", sensor="kernel")
        findings.add(source, load, SLOW_MS)


def _find_memory(findings: Findings, inventory: Inventory) -> None:
    """Of every process; Android 12 and newer count it. It is no part of any resident set."""
    if apply(labelled, inventory.text(GPU_MEMORY) or "", _TOTAL) is None:
        hint = "Android 12 and newer count it, where the driver does."
        findings.miss("gpu:memory", why(inventory, GPU_MEMORY), hint, "memory_bytes")
        return
    command = ("dumpsys", "gpu", "--gpumem")
    findings.probes.append(Probe(name=GPU_MEMORY, exec=command, period_ms=GPU_MEMORY_MS, lines=(f"{_TOTAL}:",)))
    findings.sources.append(
        _Source(
            name="gpu:memory",
            probe=GPU_MEMORY,
            parser="labelled",
            key=_TOTAL,
            quantity="memory_bytes",
            memory="allocated",
            sensor="Android GPU service",
        )
    )


def busy_of_total(raw: str, _key: str) -> float | None:
    """Adreno's gpubusy: ticks busy and ticks in all since the last reading; both zero while it is off."""
    busy, total = map(float, raw.split()[:2])
    return busy / total if total > 0 else 0.0


KIND = SensorKind(
    find,
    Precedence.KERNEL,
    platforms=(ANDROID,),
    globs=(f"{_KGSL}/gpuclk", f"{_KGSL}/gpubusy", _MALI, _TENSOR_MALI),
    commands={GPU_MEMORY: "dumpsys gpu --gpumem"},
    parsers={"busy_of_total": busy_of_total},
)
