"""What instruments tell of melt's app on an iPhone and of the system, and what only the app can know of itself.

Each probe's raw text is a JSON object of what the service gave. Nothing here has been seen on an iPhone.
"""

from collections.abc import Sequence
from functools import partial

from melt.spec.profile import Sensors
from melt.telemetry.kinds.base import IOS, Findings, Precedence, SensorKind
from melt.telemetry.source import Inventory, Probe, Source

APP, SYSTEM, GPU = "app", "system", "gpu"
OWN_MEMORY, OWN_MEMORY_MS = "memory", 500  # what the app samples of itself, and how often it does
CORES = "cores"  # the inventory's entry
GPU_MS = 1000
_LEAST_MS = 100  # more often than this the phone's own sampling would be in the measurement
_GPU_BUSY = "Device Utilization %"


def find(inventory: Inventory, sensors: Sensors, _earlier: Sequence[Source]) -> Findings:
    """The telemetry of an app at work; processor time only where the iPhone said how many processors it shares."""
    findings, cores = Findings(), inventory.number(CORES)
    period_ms = max(_LEAST_MS, sensors.period_ms)
    source = partial(Source, parser="json_number", native_period_s=period_ms / 1000, sensor="sysmontap")
    footprint = source(
        name="process:footprint",
        probe=APP,
        key="physFootprint",
        quantity="memory_bytes",
        memory="footprint",
        site="process",
    )
    findings.sources.append(footprint)
    if cores:
        busy = partial(source, quantity="utilisation", scale=0.01 / cores)
        findings.sources.append(busy(name="process:cpu", probe=APP, key="cpuUsage", site="process"))
        findings.sources.append(busy(name="cpu:load", probe=SYSTEM, key="CPU_TotalLoad", site="system"))
        findings.probes.append(Probe(name=SYSTEM, period_ms=period_ms))
    else:
        findings.miss("cpu:load", "the iPhone did not say how many processors it has", quantity="utilisation")
    findings.probes.append(Probe(name=APP, period_ms=period_ms))
    _find_gpu_and_own_memory(findings)
    findings.miss("frequency", "iOS tells no clock of its processor", quantity="frequency_hz")
    hint = "melt's app writes a warning into a run when its thermal state changes: nominal, fair, serious, critical."
    findings.miss("temperature of the processor", "iOS tells none", hint, "temperature_c")
    hint = "Xcode's energy gauge is a score and no joules, so melt leaves it out."
    findings.miss("power rails", "iOS tells none", hint, "power_w")
    return findings


def _find_gpu_and_own_memory(findings: Findings) -> None:
    findings.probes += [Probe(name=GPU, period_ms=GPU_MS), Probe(name=OWN_MEMORY, period_ms=OWN_MEMORY_MS)]
    findings.sources += [
        Source(
            name="gpu:load",
            probe=GPU,
            parser="json_number",
            key=_GPU_BUSY,
            quantity="utilisation",
            scale=0.01,
            sensor="graphics.opengl",
            site="gpu",
            native_period_s=GPU_MS / 1000,
        ),
        Source(
            name="process:available",
            probe=OWN_MEMORY,
            parser="json_number",
            key="available_bytes",
            quantity="memory_bytes",
            memory="available",
            sensor="os_proc_available_memory",
            site="process",
            native_period_s=OWN_MEMORY_MS / 1000,
        ),
    ]


KIND = SensorKind(find, Precedence.PROCESS, platforms=(IOS,))
