"""What is read of an Android phone: for its facts and for its sensors.

Phones differ in what adb's shell may read. The kernel's files are preferred, as they cost nothing; what they do not
tell is asked of Android's services, which cost the phone some milliseconds each and so are asked seldom.
"""

from collections.abc import Sequence

from melt.spec.profile import Sensors
from melt.telemetry import android_facts, discovery, linux_facts
from melt.telemetry.kinds.base import ANDROID
from melt.telemetry.kinds.power_rails import Rail, inventory_entry
from melt.telemetry.source import Discovery, Inventory


def inventory_globs() -> tuple[str, ...]:
    """The files of its inventory."""
    globs = dict.fromkeys((*linux_facts.GLOBS, *discovery.sensor_globs(ANDROID)))
    return tuple(g for g in globs if g.startswith("/"))  # the others are words of the runner's own inventory


def inventory_commands() -> dict[str, str]:
    """The inventory's entries that are no files, and the command that gives each."""
    return android_facts.COMMANDS | discovery.sensor_commands(ANDROID)


def discover(
    inventory: Inventory,
    sensors: Sensors = Sensors(),  # noqa: B008 - frozen
    rails: Sequence[Rail] = (),
) -> Discovery:
    """Its telemetry, with the rails that Perfetto records beside the sampler."""
    with_rails = Inventory(entries=(*inventory.entries, inventory_entry(rails)))
    return discovery.discover(ANDROID, with_rails, sensors)
