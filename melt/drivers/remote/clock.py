"""A device's clock beside the host's, by one shell that answers again and again."""

import time

from melt.drivers.remote.base import ConnectionLostError, Remote
from melt.drivers.remote.process import RemoteProcess
from melt.errors import DeviceError
from melt.spec.facts import ClockReading

_READINGS = 15
_ANSWER_S = 10.0
_STEP_NS = 10_000_000  # of /proc/uptime


def read_clock(remote: Remote) -> ClockReading:
    """CLOCK_BOOTTIME by /proc/uptime, by the quickest of several answers.

    Runner and sampler stamp by that clock themselves; this only sets it beside the host's.

    Raises:
        ConnectionLostError: no answer comes.
        DeviceError: the answer is no time.
    """
    # Builtins alone: a process a reading would add a millisecond to each.
    process = RemoteProcess(remote, "while read l; do read up idle < /proc/uptime; echo $up; done")
    try:
        return min((_one_reading(process) for _ in range(_READINGS)), key=lambda r: r.bound_ns)
    except TimeoutError as e:
        raise ConnectionLostError(f"{remote.name}: the {remote.what} does not answer: {e}", remote.back_hint) from e
    except (ValueError, OverflowError) as e:
        raise DeviceError(f"{remote.name}: the {remote.what} does not tell its time: {e}") from e
    finally:
        process.end_of_input()
        process.kill()


def _one_reading(process: RemoteProcess) -> ClockReading:
    before = time.time_ns()
    process.tell("")
    answer = process.next_line(_ANSWER_S) or ""
    after = time.time_ns()
    # It cuts off what is below its step, so the time is half a step later, give or take as much.
    device_ns = round(float(answer) * 1e9) + _STEP_NS // 2
    bound_ns = (after - before + 1) // 2 + _STEP_NS // 2
    return ClockReading("CLOCK_BOOTTIME", device_ns, (before + after) // 2, bound_ns)
