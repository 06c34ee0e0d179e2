"""Devices as a plan finds them: looked at for a dry run, held and opened for a run."""

import contextlib
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.drivers import connect
from melt.drivers.identity import told
from melt.drivers.lease import lease, lease_name
from melt.errors import DeviceError, TransientDeviceError
from melt.spec.facts import DeviceFacts
from melt.spec.profile import DeviceProfile

if TYPE_CHECKING:
    from melt.drivers.base import Driver


@dataclass(frozen=True)
class Device:
    """A device that is held by this plan and by no other."""

    profile: DeviceProfile
    driver: "Driver"
    facts: DeviceFacts


def look_at(profile: DeviceProfile) -> DeviceFacts:
    """What a device says of itself; it is not held, and nothing is changed there.

    Raises:
        DeviceError: it is not there.
    """
    with closing(connect(profile)) as driver:
        return told(profile, driver.facts(), looking=True)


def open_device(profile: DeviceProfile, stack: ExitStack, say: Callable[[str], None]) -> Device:
    """Connects to a device and holds it until the stack is left, which puts its conditions back.

    Raises:
        DeviceError: it is not there, or somebody else holds it.
    """
    driver = connect(profile)
    stack.callback(_let_go, driver, say)
    facts = told(profile, driver.facts())
    stack.enter_context(lease(lease_name(profile, facts), profile.name))
    with contextlib.suppress(TransientDeviceError):  # each run waits for a device that went away
        driver.condition({})  # what a run that was killed had set is put back, and is no fact
        facts = facts.model_copy(update=dict(driver.held()))
    return Device(profile, driver, facts)


def _let_go(driver: "Driver", say: Callable[[str], None]) -> None:
    try:
        driver.close()
    except DeviceError as e:
        say(f"warning: {e.message}. {e.hint}")
