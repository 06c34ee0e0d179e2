"""The device's own clock: monotonic, and counting through sleep."""

import time

NAME = "CLOCK_BOOTTIME"


def now_ns() -> int:
    """Nanoseconds since boot, sleep included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def clock_pair() -> dict[str, str | int]:
    """The clock beside the time of day, read as close together as can be."""
    before = now_ns()
    realtime_ns = time.time_ns()
    return {"name": NAME, "t_ns": (before + now_ns()) // 2, "realtime_ns": realtime_ns}
