"""The nouns of telemetry: what is read on a device, and what it means.

The device side is dumb: it reads files, stamps their raw text and stores it. Meaning is given on the
host by pure parsers, and the raw text is kept, so that a parser fix is a re-parse and not a re-run.
"""

import fnmatch
import re
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

Quantity = Literal[
    "power_w",  # instantaneous power
    "energy_j",  # cumulative energy counter
    "charge_c",  # cumulative charge counter
    "current_a",
    "voltage_v",
    "temperature_c",
    "frequency_hz",
    "utilisation",  # 0 to 1
    "memory_bytes",
    "swap_bytes",  # cumulative bytes swapped
    "charging",  # 1 while the device is fed from outside (charging, full, held), 0 while it discharges
    "throttled",  # 1 while the firmware says that it holds clocks down
    "thermal_status",  # Android's, 0 none to 6 shutdown
    "battery_level",  # of what the full battery holds, 0 to 1
]
OF_ENERGY: tuple[Quantity, ...] = ("power_w", "energy_j")  # joules are made of these alone
NO_ENERGY = "energy"  # the absent total of a device
Memory = Literal[
    "",  # no memory
    "rss",  # a process's resident set
    "peak_rss",  # the most that it was
    "pss",  # a process's proportional set
    "footprint",  # a process's memory as Apple's systems count it
    "available",  # what a device, or a process on it, may still have
    "allocated",  # what an accelerator's driver has given out
]
Site = Literal["battery", "input", "soc_rail", "wall", "cpu_package", "process", "system", "cpu", "gpu", "skin"]


# What results from before Source.memory call their sources.
_MEMORY_BY_NAME: dict[str, Memory] = {
    "process:rss": "rss",
    "process:peak_rss": "peak_rss",
    "process:footprint": "footprint",
    "process:available": "available",
    "system:available": "available",
    "gpu:memory": "allocated",
}
# What the names of absent sensors of power hold, in results from before Absent.quantity.
_POWER_BY_NAME = ("rapl", "power", "battery")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Probe(_Frozen):
    """One thing for the sampler to read: a file, the output of a program, or each line of one that goes on.

    In ``read``, ``{pid}`` stands for the runner's process id, which the sampler is told when it starts.
    With ``lines`` only the lines that begin with one of them are kept of a long file.
    """

    name: str
    read: str | None = None
    exec: tuple[str, ...] | None = None
    stream: tuple[str, ...] | None = None
    period_ms: Annotated[int, Field(ge=1)] = 100
    lines: tuple[str, ...] = ()


class Source(_Frozen):
    """One series: which probe's raw text, read by which parser, gives which quantity.

    ``parser`` and ``key`` name a pure function (``melt.telemetry.registry``) and what to pick from the text.
    ``scale`` turns the parsed number into the quantity's SI unit.

    ``times`` names another source of the same run whose value multiplies this one: a current times its rail's
    voltage is a power. In a cumulative counter it multiplies each step: a charge that went at a voltage is
    an energy. With ``rate`` the parsed number is a counter and the quantity its rise a second.
    """

    name: str  # unique within a run, for example "rapl:package-0"
    probe: str = Field(default_factory=lambda data: data.get("name", ""))  # its own, unless several share one
    parser: str = "number"
    key: str = ""
    quantity: Quantity
    memory: Memory = ""  # which memory, of quantity memory_bytes
    scale: float = 1.0
    times: str = ""
    rate: bool = False
    sensor: str  # what measures, for people: "Intel RAPL", "INA3221", "fuel gauge"
    site: Site
    rail: str = ""
    sign: Literal["load_positive", "load_negative", "unsigned"] = "unsigned"
    native_period_s: float = 0.1  # how often the sensor itself gives a new value
    window_s: float | None = None  # a value is the mean over this time before it; None where that is not known
    steps: bool = False  # it stays at one value for long: only a change of it is a sample
    wrap_at: float | None = None  # a cumulative counter starts again at this value (in SI units)
    resolution: float | None = None  # the smallest step, SI
    accuracy: float | None = None  # relative, as the maker states it; None when not stated
    inside: tuple[str, ...] = ()  # the names of the sources that measure what this one does, and more
    counts_in_total: bool = False  # a power or energy source that is summed into the device's total
    verified_on: str = ""  # the hardware it was seen right on; empty when never seen

    @property
    def is_of_energy(self) -> bool:
        """Whether joules can be made of it."""
        return self.quantity in OF_ENERGY

    @model_validator(mode="before")
    @classmethod
    def _memory_of_old_results(cls, data: Any) -> Any:
        """Results from before the field say it by the source's name alone."""
        if isinstance(data, dict) and "memory" not in data and data.get("quantity") == "memory_bytes":
            return {**data, "memory": _MEMORY_BY_NAME.get(str(data.get("name")), "")}
        return data


class Absent(_Frozen):
    """A source that was looked for and is not there, with the reason and what to do about it.

    ``quantity`` is what it would have measured; None where it is no sensor, or one of several quantities.
    """

    name: str
    reason: str
    hint: str = ""
    quantity: Quantity | None = None

    @model_validator(mode="before")
    @classmethod
    def _quantity_of_old_results(cls, data: Any, info: ValidationInfo) -> Any:
        """Results from before the field say by the name alone what would have given energy."""
        if info.mode == "json" and isinstance(data, dict) and "quantity" not in data:
            name = str(data.get("name"))
            return {**data, "quantity": "power_w"} if any(w in name for w in _POWER_BY_NAME) else data
        return data


class Discovery(_Frozen):
    """What a device can tell about itself: the probes to read, their meaning, and what is missing."""

    probes: tuple[Probe, ...] = ()
    sources: tuple[Source, ...] = ()
    absent: tuple[Absent, ...] = ()

    @property
    def why_no_energy(self) -> str:
        """Why nothing counts in the total, where nothing does."""
        of_total = [a.reason for a in self.absent if a.name == NO_ENERGY]
        of_sensors = [a.reason for a in self.absent if a.quantity in OF_ENERGY]
        return next(iter(of_total + of_sensors), "no power sensor")


class InventoryEntry(_Frozen):
    """One file of a device as it was read once: its text, or the errno name that came instead."""

    path: str
    text: str | None = None
    error: str | None = None


class Inventory(_Frozen):
    """Files read on a device before any measurement, by path; the raw material of discovery and facts."""

    entries: tuple[InventoryEntry, ...] = ()

    def text(self, path: str) -> str | None:
        """The stripped text of one file, or None where it was not there or could not be read."""
        entry = self._index.get(path)
        return entry.text.strip("\0 \t\r\n") if entry and entry.text is not None else None

    def number(self, path: str) -> float | None:
        """The number that is all of one file's text, or None."""
        try:
            return float(self.text(path) or "")
        except ValueError:
            return None

    def error(self, path: str) -> str | None:
        """The errno name that came instead of one file's text, or None."""
        entry = self._index.get(path)
        return entry.error if entry else None

    def matching(self, pattern: str) -> list[str]:
        """The paths that match a pattern in which ``*`` stays within one folder name, in natural order."""
        depth = pattern.count("/")
        paths = [p for p in self._index if p.count("/") == depth and _matches(p, pattern)]
        return sorted(paths, key=natural)

    def without_root(self, root: str) -> "Inventory":
        """The same files as those of a machine whose tree was found below a folder."""
        return Inventory(entries=tuple(e.model_copy(update={"path": e.path.removeprefix(root)}) for e in self.entries))

    @cached_property
    def _index(self) -> dict[str, InventoryEntry]:
        return {e.path: e for e in self.entries}


def natural(text: str) -> list[tuple[int, str]]:
    """A sort key by which "zone2" comes before "zone10"."""
    parts = re.split(r"([0-9]+)", text)
    return [(int(p), "") if i % 2 else (0, p) for i, p in enumerate(parts)]


def _matches(path: str, pattern: str) -> bool:
    return all(fnmatch.fnmatchcase(a, b) for a, b in zip(path.split("/"), pattern.split("/"), strict=True))
