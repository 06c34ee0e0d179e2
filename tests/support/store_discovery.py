"""What the device of a written store says of its sensors."""

from typing import Any

from melt.telemetry.source import Absent, Discovery, Probe, Quantity, Site, Source
from tests.support.store_recipe import Recipe

PAGE_BYTES = 4096


def discovery(recipe: Recipe) -> Discovery:
    """What a Linux device with these probes says of itself."""
    period = recipe.telemetry_period_ms

    def probe(name: str, path: str) -> Probe:
        return Probe(name=name, read=path, period_ms=period)

    def source(name: str, probe: str, quantity: Quantity, site: Site, **more: Any) -> Source:
        return Source(
            name=name, probe=probe, quantity=quantity, site=site, **{"parser": "number", "sensor": "kernel", **more}
        )

    probes = [
        probe("process:statm", "/proc/{pid}/statm"),
        probe("process:status", "/proc/{pid}/status"),
        probe("meminfo", "/proc/meminfo"),
        probe("stat", "/proc/stat"),
        probe("process:stat", "/proc/{pid}/stat"),
        probe("vmstat", "/proc/vmstat"),
        probe("cpu0:frequency", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"),
        probe("thermal_zone0", "/sys/class/thermal/thermal_zone0/temp"),
    ]
    kib: dict[str, Any] = {"parser": "named", "scale": 1024}
    swap: dict[str, Any] = {"parser": "named", "scale": PAGE_BYTES}
    sources = [
        source("process:rss", "process:statm", "memory_bytes", "process", parser="field", key="1", scale=PAGE_BYTES),
        source("process:peak_rss", "process:status", "memory_bytes", "process", key="VmHWM", **kib),
        source("system:available", "meminfo", "memory_bytes", "system", key="MemAvailable", **kib),
        source("system:cpu", "stat", "utilisation", "system", parser="busy_ticks", scale=1 / 400, rate=True),
        source(
            "process:cpu", "process:stat", "utilisation", "process", parser="process_ticks", scale=1 / 400, rate=True
        ),
        source("system:swap_in", "vmstat", "swap_bytes", "system", key="pswpin", **swap),
        source("system:swap_out", "vmstat", "swap_bytes", "system", key="pswpout", **swap),
        source("cpu0:frequency", "cpu0:frequency", "frequency_hz", "cpu", scale=1e3),
        source("thermal:x86_pkg_temp", "thermal_zone0", "temperature_c", "cpu_package", scale=1e-3),
    ]
    if not recipe.power_w:
        absent = (
            Absent(
                name="rapl",
                reason="/sys/class/powercap is empty: a virtual machine has no RAPL",
                hint="Measure energy on real hardware.",
                quantity="energy_j",
            ),
        )
        return Discovery(probes=tuple(probes), sources=tuple(sources), absent=absent)
    probes.append(probe("rapl:package-0", "/sys/class/powercap/intel-rapl:0/energy_uj"))
    sources.append(
        source(
            "rapl:package-0",
            "rapl:package-0",
            "energy_j",
            recipe.power_site,
            scale=1e-6,
            sensor="RAPL",
            rail="package-0",
            sign="load_positive",
            native_period_s=0.001,
            wrap_at=262_143.3,
            counts_in_total=True,
        )
    )
    return Discovery(probes=tuple(probes), sources=tuple(sources))
