"""The runner's own process by /proc/PID: its memory and its processor time."""

from collections.abc import Sequence
from functools import partial

from melt.spec.profile import Sensors
from melt.telemetry.kinds.base import SLOW_MS, Findings, Precedence, SensorKind
from melt.telemetry.kinds.system import PAGE_SIZE, TICKS, page_bytes, tick_share
from melt.telemetry.source import Inventory, Source

_Source = partial(Source, sensor="kernel", site="process", native_period_s=0.01)


def find(inventory: Inventory, sensors: Sensors, _earlier: Sequence[Source]) -> Findings:
    """Its resident set, the most that was, and its share of all cores; every Linux has them."""
    findings = Findings()
    resident = _Source(
        name="process:rss",
        probe="process:statm",
        parser="field",
        key="1",
        quantity="memory_bytes",
        memory="rss",
        scale=page_bytes(inventory),
    )
    findings.add(resident, "/proc/{pid}/statm", sensors.period_ms)
    peak = _Source(
        name="process:peak_rss",
        probe="process:status",
        parser="named",
        key="VmHWM",
        quantity="memory_bytes",
        memory="peak_rss",
        scale=1024,
    )
    findings.add(peak, "/proc/{pid}/status", SLOW_MS, ("VmHWM:", "VmRSS:", "VmSwap:"))
    busy = _Source(
        name="process:cpu",
        probe="process:stat",
        parser="process_ticks",
        quantity="utilisation",
        scale=tick_share(inventory),
        rate=True,
    )
    findings.add(busy, "/proc/{pid}/stat", SLOW_MS)
    return findings


def process_ticks(raw: str, _key: str) -> float:
    """Ticks that a process ran: utime and stime of /proc/PID/stat, whose name in brackets may hold anything."""
    words = raw.rsplit(")", 1)[1].split()
    return float(words[11]) + float(words[12])


KIND = SensorKind(
    find, Precedence.PROCESS, globs=("/proc/stat", PAGE_SIZE, TICKS), parsers={"process_ticks": process_ticks}
)
