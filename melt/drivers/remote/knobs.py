"""What can be set on a kind of device, and the commands that read and write each knob."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from melt.drivers.remote.base import quoted

# What a profile may ask for, its values, and the knobs that each of them turns, to what.
Conditions = Mapping[str, Mapping[str, Mapping[str, str]]]
_MAX_POLICIES = 1024  # some processors have one for each of their cores


@dataclass(frozen=True)
class Knob:
    """One thing that can be set on a device; ``{}`` in ``write`` stands for the value, quoted.

    ``keeps`` is the value that holds where the device does not tell: it can be set but not read, or has no value
    before it is set.
    """

    write: str
    read: str = ""
    unset: str = ""  # how to take the value away again, where it was not set at all
    keeps: str = ""
    moves: tuple[str, ...] = ()  # other knobs that change with it
    confirm: str = ""  # tells the device, once it is set, that it is still heard: else it undoes it by itself
    by_sudo: tuple[str, ...] = ()  # the programs that ``write`` starts by sudo, where its user is not root
    effect: str = ""  # a command that says the value by what the device does; of any value but the one it keeps


@dataclass(frozen=True)
class Knobs:
    """What can be set on a kind of device: each knob by name, and by condition and value
    the knobs that it turns and to what.

    ``system`` is what people call it, "Android". The clock governor of every cluster belongs to all. What a device's
    conditions are may have to be asked of it, and is when one is set. ``root`` is where its /sys is.
    """

    system: str
    by_name: Mapping[str, Knob] = field(default_factory=dict)
    conditions: Callable[[], Conditions] = dict
    root: str = ""

    @property
    def known(self) -> dict[str, Knob]:
        """Every knob by name."""
        return {**self.by_name, **{f"governor/policy{n}": self._governor(n) for n in range(_MAX_POLICIES)}}

    def _governor(self, policy: int) -> Knob:
        file = below(self.root, f"/sys/devices/system/cpu/cpufreq/policy{policy}/scaling_governor")
        return Knob(f"echo {{}} > {braced(file)}", f"cat {file} 2>/dev/null")

    @property
    def policies(self) -> str:
        """A command that names every policy that has a governor."""
        return below(self.root, "ls -d /sys/devices/system/cpu/cpufreq/policy*/scaling_governor 2>/dev/null; true")


def below(root: str, script: str) -> str:
    """A script of melt's own with its /sys below a folder."""
    return script.replace("/sys/", f"{quoted(root)}/sys/") if root else script


def literal(text: str) -> str:
    """Any text, quoted, for a command into which the value is put later."""
    return braced(quoted(text))


def braced(text: str) -> str:
    """What ``str.format`` leaves as it is."""
    return text.replace("{", "{{").replace("}", "}}")
