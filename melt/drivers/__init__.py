"""Drivers: how a device is reached. Each is a plug-in, found by its entry point; nothing here knows any by name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from melt.drivers.plugin import Address, Agree, ConnectOnly, DriverPlugin
from melt.errors import DeviceError, MeltError
from melt.util.yaml import did_you_mean

if TYPE_CHECKING:
    from melt.drivers.base import Driver
    from melt.spec.profile import DeviceProfile

GROUP = "melt.drivers"
T = TypeVar("T")


class MissingPackageError(DeviceError):
    """A driver needs a package that is optional and not installed."""


def driver_names() -> tuple[str, ...]:
    """Every installed driver, built-in and third-party alike."""
    return tuple(sorted({e.name for e in entry_points(group=GROUP)}))


def load_driver(name: str, whose: str = "") -> "DriverPlugin":
    """The plug-in of a driver.

    Args:
        name: of its entry point.
        whose: what a message begins with: the profile that asks for it.

    Raises:
        DeviceError: there is none of that name, or it cannot be loaded.
    """
    installed = {e.name: e for e in entry_points(group=GROUP)}
    if name not in installed:
        raise DeviceError(
            f"{whose}no driver {name!r} in this melt{did_you_mean(name, installed)}",
            f"Installed drivers: {', '.join(sorted(installed))}.",
        )
    try:
        return _plugin(installed[name].load())
    except Exception as e:  # a third party's module may raise anything
        raise DeviceError(
            f"{whose}driver {name!r} cannot be loaded: {e}", "Install the package that it is from anew, for this melt."
        ) from e


def _plugin(entry: Any) -> "DriverPlugin":
    """Of what an entry point names; raises TypeError where that is no plug-in, and whatever making one does."""
    if not (isinstance(entry, type) and issubclass(entry, DriverPlugin)):
        if not callable(entry):
            raise TypeError(f"{entry!r} is neither a DriverPlugin nor a function connect(profile)")
        return ConnectOnly(entry)
    plugin: DriverPlugin = entry()
    if not (isinstance(plugin.Address, type) and issubclass(plugin.Address, Address)):
        raise TypeError("its Address is no melt.drivers.plugin.Address")
    return plugin


def connect(profile: "DeviceProfile") -> "Driver":
    """Opens the device of a profile.

    Raises:
        DeviceError: the device is not there, its driver fails, or that or its own packages are not installed.
        ProfileError: the profile's address is not one of its driver's.
    """
    plugin = load_driver(profile.driver, f"{profile.name}: ")
    plugin.Address.of(profile)
    with _answering(plugin, profile.driver, f"{profile.name}: "):
        return plugin.connect(profile)


def is_host(profile: "DeviceProfile") -> bool:
    """Whether a profile is of the machine that melt itself runs on; False where its driver is not installed."""
    try:
        return load_driver(profile.driver).is_host
    except DeviceError:
        return False


def enrol_device(profile: "DeviceProfile", agree: "Agree") -> str:
    """Has a person agree to the keys of a device; see ``melt.drivers.plugin.DriverPlugin.enrol``.

    Raises:
        DeviceError: it has none, or it is not there.
    """
    plugin = load_driver(profile.driver, f"{profile.name}: ")
    with _answering(plugin, profile.driver, f"{profile.name}: "):
        return plugin.enrol(profile, agree)


def ask_drivers(question: "Callable[[DriverPlugin], T]") -> "dict[str, T | MeltError]":
    """What every installed driver answers, by its name, or why it cannot."""
    answers: dict[str, T | MeltError] = {}
    for name in driver_names():
        try:
            plugin = load_driver(name)
            with _answering(plugin, name):
                answers[name] = question(plugin)
        except MeltError as e:
            answers[name] = e
    return answers


@contextmanager
def _answering(plugin: "DriverPlugin", name: str, whose: str = "") -> Iterator[None]:
    """One message for every package that is optional and not installed, and for whatever else a driver raises."""
    try:
        yield
    except ImportError as e:
        raise MissingPackageError(
            f"{whose}driver {name!r} needs a package that is not installed: {e.name}",
            plugin.install or "Its own documentation says how to get it.",
        ) from e
    except MeltError:
        raise
    except Exception as e:  # a third party's driver may raise anything
        raise DeviceError(f"{whose}driver {name!r} fails: {e!r}", "Tell whoever made it.") from e
