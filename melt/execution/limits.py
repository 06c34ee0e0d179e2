"""A run stops itself where its device comes beyond the profile's limits, seen in the telemetry as it comes."""

import time
from typing import TYPE_CHECKING

from melt.errors import DeviceError
from melt.spec.failures import LIMIT
from melt.spec.profile import Limits
from melt.store.manifest import RunFailure
from melt.telemetry.limits import beyond_now
from melt.telemetry.source import Discovery

if TYPE_CHECKING:
    from melt.drivers.base import Driver

_POLL_S = 2.0


class LimitError(DeviceError):
    """The device is beyond a limit of its profile."""


def failure(over: str) -> RunFailure:
    """A run that a limit has stopped."""
    return RunFailure(kind=LIMIT, message=f"stopped, as the device came beyond a limit of its profile: {over}")


def wait_below(driver: "Driver", discovery: Discovery, limits: Limits, longest_s: float) -> float:
    """Until the device is below its limits, as it cools with time; the seconds it took.

    Raises:
        LimitError: it is not, after so long.
    """
    began = time.monotonic()
    while True:
        now, waited_s = beyond_now(limits, discovery, driver.read), time.monotonic() - began
        if not now.over:
            return waited_s
        if waited_s >= longest_s or not now.cools:
            after = f", after {waited_s:.0f} s of waiting" if now.cools else ""
            raise LimitError(f"not started, as the device is beyond a limit of its profile: {now.over}{after}")
        time.sleep(min(_POLL_S, max(0.05, longest_s - waited_s)))
