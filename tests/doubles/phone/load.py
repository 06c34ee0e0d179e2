"""How busy the processes of a box keep the processor, and what a quantity has added up to."""

import bisect
import re
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

WINDOW_NS = 100_000_000  # a rail does not follow every turn that the scheduler gives
_SEEMS_BUSY = re.compile(r"paced (\d+\.\d+)\n")


def boot_ns() -> int:
    """The host's boot clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class LoadMeter:
    """Counts the processor time of some processes, and what paced ones among them say that they would use.

    Args:
        pids: the processes, as they are now.
    """

    def __init__(self, pids: Callable[[], list[int]]) -> None:
        self._pids = pids
        self._seen_ns: dict[int, int] = {}
        self._used_ns = 0
        self._of_late: deque[tuple[int, int]] = deque()

    def sample(self) -> float:
        """How many cores were busy of late: 1.0 is one core. What began and ended since the last call is lost."""
        pids = self._pids()
        used_ns = {pid: ns for pid in pids if (ns := _processor_ns(pid)) is not None}
        self._used_ns += sum(max(0, ns - self._seen_ns.get(pid, 0)) for pid, ns in used_ns.items())
        self._seen_ns = used_ns
        late = self._of_late
        late.append((time.monotonic_ns(), self._used_ns))
        while len(late) > 2 and late[-1][0] - late[1][0] >= WINDOW_NS:
            late.popleft()
        used = (late[-1][1] - late[0][1]) / max(1_000_000, late[-1][0] - late[0][0])
        return used + sum(map(seeming_cores, pids))


def seeming_cores(pid: int) -> float:
    """How many cores a paced runner's process has just now named itself by (tests/doubles/paced); 0 for any other."""
    try:
        named = _SEEMS_BUSY.fullmatch(Path(f"/proc/{pid}/comm").read_text(errors="replace"))
    except OSError:
        return 0.0
    return float(named[1]) if named else 0.0


def _processor_ns(pid: int) -> int | None:
    """What a process's threads have used; None if it has ended.

    By its clock (clock_getcpuclockid(3)). /proc counts in ticks of 10 ms: a power made of those has a ripple that a
    sampler of every 20 ms may meet at one height again and again.
    """
    try:
        return time.clock_gettime_ns(~pid << 3 | 2)
    except OSError:
        return None


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
