"""What a kind of sensor is: what it reads on a device, what the text means, and which of it makes a total."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from melt.spec.profile import Sensors
from melt.telemetry.parsers import Parser
from melt.telemetry.source import Absent, Inventory, Probe, Quantity, Source

SLOW_MS = 1000  # temperatures, clocks and memory of the whole device change no faster than this matters
LINUX, ANDROID, IOS = "linux", "android", "ios"
NO_TOTAL_HINT = "Name the sources that make its total under `sensors: total:` in the device's profile."

# What an errno means to somebody who wonders why there is no figure.
REASONS = {
    "EACCES": "reading it is not permitted",
    "EPERM": "reading it is not permitted",
    "ENOENT": "the file is not there",
    "ENODATA": "the driver has no data",
    "EAGAIN": "the part is powered off or not ready",
    "EIO": "the driver could not read the sensor",
    "ENODEV": "the device is gone",
}


class Precedence(IntEnum):
    """Kinds are asked in this order, and the first that can makes the device's total: one alone, so that no joule
    counts twice.

    A battery's gauge sees the whole device, but gives a new figure only about once a second, too seldom for most
    phases; so it comes after what measures the chip. The site is in the source.
    """

    PROCESS = 0  # the runner's own process, read first
    KERNEL = 1  # what every kernel tells; no power
    METER = 10  # measures all that the device takes
    BOARD = 20  # a board's power rails
    BOARD_PROGRAM = 21  # a board's rails by a program, where the kernel's files do not tell them
    CHIP = 30  # the processor, or what computes
    BATTERY = 40


@dataclass
class Findings:
    """What one kind finds on a device: the probes to read, the sources to make of them, and what is not there."""

    probes: list[Probe] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)

    def add(self, source: Source, read: str, period_ms: int, lines: tuple[str, ...] = ()) -> None:
        """Takes a source up together with the probe it parses, which several sources may share."""
        if all(p.name != source.probe for p in self.probes):
            self.probes.append(Probe(name=source.probe, read=read, period_ms=period_ms, lines=lines))
        self.sources.append(source)

    def miss(self, name: str, reason: str, hint: str = "", quantity: Quantity | None = None) -> None:
        """Records what is not there, and what it would have measured, where that is one quantity."""
        self.absent.append(Absent(name=name, reason=reason, hint=hint, quantity=quantity))

    def extend(self, other: "Findings") -> None:
        """Takes all of another."""
        self.probes += other.probes
        self.sources += other.sources
        self.absent += other.absent


def _no_total(_sources: Sequence[Source]) -> list[str]:
    return []


@dataclass(frozen=True)
class SensorKind:
    """One kind of sensor: what its entry point of the group ``melt.sensors`` names. All of it is pure.

    ``find`` is given what was read on the device (the files of ``globs``, the output of ``commands``), the profile's
    sensors, and the sources that the kinds asked before have found. ``total`` is given those of this kind's sources
    that are recorded, and names the ones that together are what the device takes, each watt once; none where they are
    not. ``globs`` and ``commands`` are put into a shell's script as they are.
    """

    find: Callable[[Inventory, Sensors, Sequence[Source]], Findings]
    precedence: Precedence
    platforms: tuple[str, ...] = (LINUX, ANDROID)
    globs: tuple[str, ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)  # an inventory's entry by name, and the command for it
    parsers: Mapping[str, Parser] = field(default_factory=dict)  # by the names that sources have for them
    total: Callable[[Sequence[Source]], Sequence[str]] = _no_total
    unplug_hint: str = ""  # of a kind whose sources tell nothing while the device is fed: how it is not


def why(inventory: Inventory, path: str) -> str:
    """Why a file gives nothing, in words."""
    error = inventory.error(path)
    if error is None:
        return "the file is not there" if inventory.text(path) is None else "its content is not understood"
    return f"{REASONS.get(error, 'it cannot be read')} ({error})"
