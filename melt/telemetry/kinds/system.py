"""The whole machine by /proc: memory left, processor time, pages swapped."""

from collections.abc import Sequence
from functools import partial

from melt.spec.profile import Sensors
from melt.telemetry.kinds.base import SLOW_MS, Findings, Precedence, SensorKind, why
from melt.telemetry.source import Inventory, Source

PAGE_SIZE, TICKS = "sysconf:SC_PAGE_SIZE", "sysconf:SC_CLK_TCK"
DEFAULT_PAGE_BYTES, DEFAULT_TICKS_PER_S = 4096, 100
_FILES = ("/proc/meminfo", "/proc/stat", "/proc/vmstat")
_Source = partial(Source, sensor="kernel", site="system", native_period_s=0.01)


def find(inventory: Inventory, _sensors: Sensors, _earlier: Sequence[Source]) -> Findings:
    """What of it the kernel tells."""
    findings = Findings()
    for path in _FILES:
        if inventory.text(path) is None:
            findings.miss(path, why(inventory, path))
    if "MemAvailable:" in (inventory.text("/proc/meminfo") or ""):
        available = _Source(
            name="system:available",
            probe="meminfo",
            parser="named",
            key="MemAvailable",
            quantity="memory_bytes",
            memory="available",
            scale=1024,
        )
        findings.add(available, "/proc/meminfo", SLOW_MS // 2, ("MemAvailable:",))
    if inventory.text("/proc/stat") is not None:
        busy = _Source(
            name="system:cpu",
            probe="stat",
            parser="busy_ticks",
            quantity="utilisation",
            scale=tick_share(inventory),
            rate=True,
        )
        findings.add(busy, "/proc/stat", SLOW_MS, ("cpu ",))
    if "pswpin" in (inventory.text("/proc/vmstat") or ""):
        for way in ("in", "out"):
            swap = _Source(
                name=f"system:swap_{way}",
                probe="vmstat",
                parser="named",
                key=f"pswp{way}",
                quantity="swap_bytes",
                scale=page_bytes(inventory),
            )
            findings.add(swap, "/proc/vmstat", SLOW_MS, ("pswpin ", "pswpout "))
    return findings


def page_bytes(inventory: Inventory) -> float:
    """The size of a page of memory."""
    return inventory.number(PAGE_SIZE) or DEFAULT_PAGE_BYTES


def tick_share(inventory: Inventory) -> float:
    """Of a processor tick, the share that it is of one second of every core."""
    cores = sum(
        1 for line in (inventory.text("/proc/stat") or "").splitlines() if line[:3] == "cpu" and line[3:4].isdigit()
    )
    return 1 / ((inventory.number(TICKS) or DEFAULT_TICKS_PER_S) * max(1, cores))


def busy_ticks(raw: str, _key: str) -> float | None:
    """Ticks in which a processor was not idle: all of /proc/stat's but idle and iowait (and guests, held in user)."""
    words = raw.split("\n", 1)[0].split()
    if len(words) < 5 or words[0] != "cpu":
        return None
    ticks = [float(w) for w in words[1:9]]
    return sum(ticks) - sum(ticks[3:5])


KIND = SensorKind(find, Precedence.KERNEL, globs=(*_FILES, PAGE_SIZE, TICKS), parsers={"busy_ticks": busy_ticks})
