"""What the kernel counts of this process and of the machine, read around the phases of a pass.

Files are opened before a pass and each is read by one call into memory that is there, outside the windows of prefill
and decode: before the prompt is submitted, between the prefill's end and the first sampling, after the last token.
What cannot be read is absent.
"""

import os
import resource
import time
from typing import Any

BEFORE, BETWEEN, AFTER = range(3)
_MARKS = 3
_BYTES = 2048  # holds the fields that are wanted of each file
_BUSY = (0, 1, 2, 5, 6)  # user, nice, system, irq, softirq of the line ``cpu`` in /proc/stat
_STOLEN = 7
_NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class KernelCounters:
    """The readings of one pass; to be closed after it."""

    def __init__(self) -> None:
        self._threads = [f for f in (_Kept.opened(path) for path in _schedstats()) if f]
        self._stat, self._status = _Kept.opened("/proc/stat"), _Kept.opened("/proc/self/status")
        self._wide = [f for f in (self._stat, self._status) if f]
        self._usage: list[Any] = [None] * _MARKS
        self._suspended_ns = [0] * _MARKS

    def read(self, mark: int) -> None:
        """One reading; what concerns the whole machine is left out between the phases."""
        self._usage[mark] = resource.getrusage(resource.RUSAGE_SELF)
        for file in self._threads:
            file.read(mark)
        self._suspended_ns[mark] = _suspended_ns()
        if mark != BETWEEN:
            for file in self._wide:
                file.read(mark)

    def counts(self) -> dict[str, Any]:
        """What was counted in each phase and in the whole pass."""
        return {
            "prefill": self._between(BEFORE, BETWEEN),
            "decode": self._between(BETWEEN, AFTER),
            "pass": {**self._between(BEFORE, AFTER), **self._machine(), **self._swapped()},
        }

    def close(self) -> None:
        """Closes the files."""
        for file in (*self._threads, *self._wide):
            file.close()

    def _between(self, first: int, last: int) -> dict[str, int]:
        a, b = self._usage[first], self._usage[last]
        delays = [d for d in (_delay_ns(f.text(first), f.text(last)) for f in self._threads) if d is not None]
        waited = {"run_delay_ns": sum(delays), "threads": len(delays)} if delays else {}
        # Counted from two clocks that are read one after the other.
        suspended_ns = max(0, self._suspended_ns[last] - self._suspended_ns[first])
        return {
            **waited,
            "involuntary_switches": b.ru_nivcsw - a.ru_nivcsw,
            "major_faults": b.ru_majflt - a.ru_majflt,
            "cpu_ns": round((b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime) * 1e9),
            "suspended_ns": suspended_ns,
        }

    def _machine(self) -> dict[str, int]:
        """Time of all processors together that something ran, and that the host of a virtual machine kept."""
        if self._stat is None:
            return {}
        a, b = (_cpu_ticks(self._stat.text(mark)) for mark in (BEFORE, AFTER))
        if not a or not b:
            return {}
        busy, stolen = sum(b[i] - a[i] for i in _BUSY), b[_STOLEN] - a[_STOLEN]
        return {"busy_ns": max(0, busy) * _NS_PER_TICK, "stolen_ns": max(0, stolen) * _NS_PER_TICK}

    def _swapped(self) -> dict[str, int]:
        """This process's own memory that is swapped out after the pass."""
        for line in self._status.text(AFTER).splitlines() if self._status else ():
            name, _, rest = line.partition(b":")
            if name == b"VmSwap" and rest.split():
                return {"swapped_bytes": int(rest.split()[0]) * 1024}
        return {}


class _Kept:
    """An open file, and the memory for its text at every mark."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffers = [[bytearray(_BYTES)] for _ in range(_MARKS)]
        self._sizes = [0] * _MARKS

    @classmethod
    def opened(cls, path: str) -> "_Kept | None":
        try:
            return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return None

    def read(self, mark: int) -> None:
        try:
            self._sizes[mark] = os.preadv(self._fd, self._buffers[mark], 0)
        except OSError:  # the thread has ended
            self._sizes[mark] = 0

    def text(self, mark: int) -> bytes:
        return bytes(self._buffers[mark][0][: self._sizes[mark]])

    def close(self) -> None:
        os.close(self._fd)


def _schedstats() -> list[str]:
    try:
        threads = os.listdir("/proc/self/task")  # noqa: PTH208 - the device program keeps its imports few
        return [f"/proc/self/task/{thread}/schedstat" for thread in threads]
    except OSError:
        return []


def _delay_ns(first: bytes, last: bytes) -> int | None:
    """How long a thread waited for a processor; None where the kernel does not count, or the thread has ended."""
    try:
        (_, delay_ns, _), (_, end_ns, slices) = ([int(n) for n in text.split()] for text in (first, last))
    except ValueError:
        return None
    return max(0, end_ns - delay_ns) if slices else None


def _cpu_ticks(text: bytes) -> list[int]:
    """The fields of the first line of /proc/stat, of all processors together; empty where it has not enough."""
    words = text.split(b"\n", 1)[0].split()
    try:
        return [int(n) for n in words[1:]] if len(words) > _STOLEN + 1 else []
    except ValueError:
        return []


def _suspended_ns() -> int:
    """How long the device has been suspended since it booted."""
    monotonic_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - monotonic_ns
