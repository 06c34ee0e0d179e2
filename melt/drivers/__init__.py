"""Drivers: how a device is reached. Each is a plug-in, found by its entry point; nothing here knows any by name."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from melt.drivers.base import Driver, Process, Recording, ShellDriver
from melt.drivers.plugin import Address, Agree, ConnectOnly, DriverPlugin
from melt.errors import DeviceError, MeltError
from melt.util.plugins import CANNOT_BE_LOADED, Plugin, in_words
from melt.util.yaml import did_you_mean

if TYPE_CHECKING:
    from melt.spec.profile import DeviceProfile

GROUP = "melt.drivers"
ROLES = (ShellDriver, Driver, Process, Recording)
# By agreement, as their roles say it: what comes too late, and what this host cannot write.
MAY_RAISE = {"next_line": (TimeoutError,), "wait": (TimeoutError,), "pull": (OSError,), "stop": (OSError,)}
T = TypeVar("T")


class MissingPackageError(DeviceError):
    """A driver needs a package that is optional and not installed."""


@dataclass(frozen=True)
class _DriverPackage(Plugin):
    """A driver's plug-in, which may need packages that are optional."""

    install: str = ""  # how to get them

    def fault(self, raised: BaseException, fails: str) -> MeltError:
        """As for any plug-in, but for a package that is not installed."""
        if not isinstance(raised, ImportError) or fails == CANNOT_BE_LOADED:
            return super().fault(raised, fails)
        return MissingPackageError(
            f"{self.whose}{self} needs a package that is not installed: {raised.name or in_words(raised)}",
            self.install or "Its own documentation says how to get it.",
        )


def driver_names() -> tuple[str, ...]:
    """Every installed driver, built-in and third-party alike."""
    return tuple(sorted({e.name for e in entry_points(group=GROUP)}))


def load_driver(name: str, whose: str = "") -> DriverPlugin:
    """The plug-in of a driver; whatever it raises is a ``DeviceError``.

    Args:
        name: of its entry point.
        whose: what a message begins with: the profile that asks for it.

    Raises:
        DeviceError: there is none of that name, or it cannot be loaded.
    """
    return _load(name, whose)[1]


def _load(name: str, whose: str = "") -> tuple[Plugin, DriverPlugin]:
    installed = {e.name: e for e in entry_points(group=GROUP)}
    if name not in installed:
        raise DeviceError(
            f"{whose}no driver {name!r} in this melt{did_you_mean(name, installed)}",
            f"Installed drivers: {', '.join(sorted(installed))}.",
        )
    package = _DriverPackage("driver", installed[name], DeviceError, whose, ROLES, MAY_RAISE)
    with package.calling(CANNOT_BE_LOADED):
        made = _plugin(installed[name].load())
        package = replace(package, install=made.install)
        return package, package.guard(made, DriverPlugin)


def _plugin(entry: Any) -> DriverPlugin:
    """Of what an entry point names; raises TypeError where that is no plug-in, and whatever making one does."""
    if not (isinstance(entry, type) and issubclass(entry, DriverPlugin)):
        if not callable(entry):
            raise TypeError(f"{entry!r} is neither a DriverPlugin nor a function connect(profile)")
        return ConnectOnly(entry)
    plugin: DriverPlugin = entry()
    if not (isinstance(plugin.Address, type) and issubclass(plugin.Address, Address)):
        raise TypeError("its Address is no melt.drivers.plugin.Address")
    return plugin


def check_address(profile: "DeviceProfile", whose: str = "") -> None:
    """Raises pydantic's ValidationError where a profile's address is not one of its driver's.

    Raises:
        DeviceError: there is no such driver, or checking fails by itself.
    """
    package, plugin = _load(profile.driver, whose)
    with package.calling("fails in Address", but=(ValidationError,)):
        plugin.Address(**profile.address)


def connect(profile: "DeviceProfile") -> Driver:
    """Opens the device of a profile.

    Raises:
        DeviceError: the device is not there, its driver fails, or that or its own packages are not installed.
        ProfileError: the profile's address is not one of its driver's.
    """
    package, plugin = _load(profile.driver, f"{profile.name}: ")
    with package.calling("fails in Address"):
        plugin.Address.of(profile)
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
    return load_driver(profile.driver, f"{profile.name}: ").enrol(profile, agree)


def ask_drivers(question: "Callable[[DriverPlugin], T]") -> "dict[str, T | MeltError]":
    """What every installed driver answers, by its name, or why it cannot."""
    answers: dict[str, T | MeltError] = {}
    for name in driver_names():
        try:
            answers[name] = question(load_driver(name))
        except MeltError as e:
            answers[name] = e
    return answers
