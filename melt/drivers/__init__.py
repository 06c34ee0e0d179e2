"""Drivers: how a device is reached. ``connect`` opens one by its profile."""

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from melt.errors import DeviceError
from melt.util.yaml import did_you_mean

if TYPE_CHECKING:
    from melt.drivers.base import Driver
    from melt.spec.profile import DeviceProfile

GROUP = "melt.drivers"


def driver_names() -> tuple[str, ...]:
    """Every installed driver, built-in and third-party alike."""
    return tuple(sorted({e.name for e in entry_points(group=GROUP)}))


def connect(profile: "DeviceProfile") -> "Driver":
    """Opens the device of a profile.

    Raises:
        DeviceError: the device is not there, or its driver or the driver's own packages are not installed.
    """
    found = {e.name: e for e in entry_points(group=GROUP)}
    if profile.driver not in found:
        raise DeviceError(
            f"{profile.name}: no driver {profile.driver!r} in this melt{did_you_mean(profile.driver, found)}",
            f"Installed drivers: {', '.join(sorted(found))}.",
        )
    try:
        opener = found[profile.driver].load()
    except ImportError as e:
        raise DeviceError(
            f"{profile.name}: driver {profile.driver!r} needs a package that is not installed: {e.name}",
            f"pip install 'melt-bench[{profile.driver}]'",
        ) from e
    driver: Driver = opener(profile)
    return driver
