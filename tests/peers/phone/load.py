"""How busy the processes of a box keep the processor, and what a quantity has added up to."""

import bisect
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
WINDOW_NS = 100_000_000  # the kernel counts in ticks of 10 ms, so that less shows mostly 0 or 1


def boot_ns() -> int:
    """The host's boot clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class LoadMeter:
    """Counts the processor time of some processes.

    Args:
        pids: the processes, as they are now.
    """

    def __init__(self, pids: Callable[[], list[int]]) -> None:
        self._pids = pids
        self._ticks: dict[int, int] = {}
        self._used_s = 0.0
        self._seen: deque[tuple[int, float]] = deque()

    def sample(self) -> float:
        """How many cores were busy of late: 1.0 is one core. What began and ended since the last call is lost."""
        ticks = {pid: t for pid in self._pids() if (t := _ticks_of(pid)) is not None}
        self._used_s += sum(max(0, t - self._ticks.get(pid, 0)) for pid, t in ticks.items()) / TICKS_PER_S
        self._ticks = ticks
        self._seen.append((time.monotonic_ns(), self._used_s))
        while len(self._seen) > 2 and self._seen[-1][0] - self._seen[1][0] >= WINDOW_NS:
            self._seen.popleft()
        (t0, used0), (t1, used1) = self._seen[0], self._seen[-1]
        return (used1 - used0) / max(1e-3, (t1 - t0) * 1e-9)


def _ticks_of(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # it has ended
        return None
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


class History:
    """A quantity that holds each value until the next, with its exact integral.

    One thread adds; others may ask meanwhile.
    """

    def __init__(self, start_ns: int, value: float) -> None:
        self._ns, self._values, self._sums = [start_ns], [value], [0.0]

    def add(self, ns: int, value: float) -> None:
        held = self._values[-1] * (ns - self._ns[-1]) * 1e-9
        self._sums.append(self._sums[-1] + held)
        self._values.append(value)
        self._ns.append(ns)  # last: who asks looks here first

    def at(self, ns: int) -> float:
        return self._values[self._index(ns)]

    def integral(self, ns: int) -> float:
        """From the start, where ``ns`` may lie before it or after the last value."""
        i = self._index(ns)
        return self._sums[i] + self._values[i] * (ns - self._ns[i]) * 1e-9

    def _index(self, ns: int) -> int:
        return max(0, bisect.bisect_right(self._ns, ns) - 1)
