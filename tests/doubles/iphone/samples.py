"""What sysmontap samples of the processes of the phone, which are this machine's: memory, processor time, clocks.

The phone's clock is this machine's CLOCK_BOOTTIME, told in Apple's ticks of 125/3 nanoseconds.
"""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.doubles.iphone.phone import IPhone

PROCESS_ATTRIBUTES = ("memVirtualSize", "cpuUsage", "pid", "name", "memResidentSize", "physFootprint", "threadCount")
SYSTEM_ATTRIBUTES = ("vmFreeCount", "vmUsedCount", "physMemSize", "vmPageSize")
_NUMER, _DENOM = 125, 3
_PAGE_BYTES = 16384
CPUS = 6


def ticks() -> int:
    """mach_continuous_time, and mach_absolute_time as well: this phone never sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * _DENOM // _NUMER


def mach_time() -> list[int]:
    """deviceinfo's machTimeInfo."""
    now = ticks()
    return [now, _NUMER, _DENOM, now, _NUMER, _DENOM]


class Sampler:
    """One tap's samples; processor use is what was used since the one before."""

    def __init__(self, phone: "IPhone", process: list[str], system: list[str]) -> None:
        self._phone, self._process, self._system = phone, process, system
        self._used_s: dict[int, float] = {}
        self._at = ticks()

    def rows(self) -> list[dict[str, Any]]:
        """A row of the system, and one of the processes."""
        before, self._at = self._at, ticks()
        span_s = max(1e-6, (self._at - before) * _NUMER / _DENOM * 1e-9)
        stamps = {"StartMachAbsTime": before, "EndMachAbsTime": self._at}
        processes = {}
        busy = 0.0
        for pid, app in list(self._phone.apps.running.items()):
            found = _read(pid) if app.alive else None
            if found is None:
                continue
            used_s = found.pop("used_s")
            percent = 100 * (used_s - self._used_s.get(pid, used_s)) / span_s
            self._used_s[pid] = used_s
            busy += percent
            row = {**found, "cpuUsage": percent, "pid": pid, "name": app.app.bundle_id.rsplit(".", 1)[-1]}
            processes[pid] = [row.get(a) for a in self._process]
        load = {"CPU_TotalLoad": busy + 3.0, "CPU_UserLoad": -1.0, "CPU_SystemLoad": -1.0, "CPU_NiceLoad": 0.0}
        per_cpu = [{**load, "CPU_TotalLoad": (busy + 3.0) / CPUS}] * CPUS
        counts = {"CPUCount": CPUS, "EnabledCPUs": CPUS}
        system = {"vmFreeCount": 20_000, "vmUsedCount": 100_000, "physMemSize": 2 * 2**30 // _PAGE_BYTES}
        whole = {**counts, "SystemCPUUsage": load, "PerCPUUsage": per_cpu, "Type": 33, **stamps}
        whole["System"] = [system.get(a, _PAGE_BYTES) for a in self._system]
        return [whole, {"Processes": processes, "Type": 5, **stamps}]


def _read(pid: int) -> dict[str, Any] | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    except (OSError, IndexError, ValueError):
        return None
    if "RssAnon" not in status:  # it has ended and nobody has asked how yet
        return None
    kib = {k: int(status[k].split()[0]) * 1024 for k in ("VmSize", "VmRSS", "RssAnon")}
    used_s = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    memory = {"memVirtualSize": kib["VmSize"], "memResidentSize": kib["VmRSS"], "physFootprint": kib["RssAnon"]}
    return {**memory, "threadCount": int(status["Threads"]), "used_s": used_s}
