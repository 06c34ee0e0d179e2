"""What is read of a Linux machine: for its facts and for its sensors."""

from melt.spec.profile import Sensors
from melt.telemetry import discovery, linux_facts
from melt.telemetry.kinds.base import LINUX
from melt.telemetry.linux_facts import facts
from melt.telemetry.source import Discovery, Inventory

__all__ = ["discover", "facts", "inventory_commands", "inventory_globs"]


def inventory_globs() -> tuple[str, ...]:
    """The files of its inventory. Those that begin with no slash are words of the runner's own inventory."""
    return tuple(dict.fromkeys((*linux_facts.GLOBS, *discovery.sensor_globs(LINUX))))


def inventory_commands() -> dict[str, str]:
    """The inventory's entries that are no files, and the command that gives each."""
    return linux_facts.COMMANDS | discovery.sensor_commands(LINUX)


def discover(inventory: Inventory, sensors: Sensors = Sensors()) -> Discovery:  # noqa: B008 - frozen
    """Its telemetry. See ``melt.telemetry.discovery.discover``."""
    return discovery.discover(LINUX, inventory, sensors)
