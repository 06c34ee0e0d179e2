"""Waiting for a condition instead of for a time: quick on a quick machine, and right on a busy one."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], limit_s: float = 120.0, every_s: float = 0.02) -> T:
    """Asks until the answer is true, and gives it.

    Raises:
        AssertionError: it has not come true within the limit.
    """
    deadline = time.monotonic() + limit_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"it did not come within {limit_s} s"
        time.sleep(every_s)
    return answer
