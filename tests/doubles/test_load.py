"""The loads that the boxes' powers follow."""

import os
import time

import pytest

from tests.doubles.phone.load import LoadMeter

pytestmark = pytest.mark.doubles


def test_a_load_is_known_to_less_than_a_tick_of_the_kernel() -> None:
    """In ticks of 10 ms, 3 ms of work would be none or all of one."""

    def now_ns() -> tuple[int, int]:
        return time.monotonic_ns(), time.process_time_ns()

    meter = LoadMeter(lambda: [os.getpid()])
    (wall0, used0), _, (wall1, used1) = now_ns(), meter.sample(), now_ns()
    while time.process_time_ns() - used1 < 3_000_000:
        pass
    (wall2, used2), busy_cores, (wall3, used3) = now_ns(), meter.sample(), now_ns()
    assert (used2 - used1) / (wall3 - wall0) <= busy_cores <= (used3 - used0) / (wall2 - wall1)
