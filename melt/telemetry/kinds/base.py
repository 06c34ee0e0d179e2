"""What one kind of sensor yields, and the few moves that every kind makes."""

from dataclasses import dataclass, field

from melt.telemetry.source import Absent, Inventory, Probe, Quantity, Site, Source

_NATIVE_S = 1.0
SLOW_MS = 1000  # temperatures, clocks and memory of the whole device change no faster than this matters

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


@dataclass
class Found:
    """Probes, sources and absences gathered so far."""

    probes: list[Probe] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)

    def add(self, source: Source, read: str, period_ms: int, lines: tuple[str, ...] = ()) -> None:
        """Takes a source up together with the probe it parses, which several sources may share."""
        if all(p.name != source.probe for p in self.probes):
            self.probes.append(Probe(name=source.probe, read=read, period_ms=period_ms, lines=lines))
        self.sources.append(source)

    def miss(self, name: str, reason: str, hint: str = "") -> None:
        """Records what is not there."""
        self.absent.append(Absent(name=name, reason=reason, hint=hint))

    def extend(self, other: "Found") -> None:
        """Takes all of another."""
        self.probes += other.probes
        self.sources += other.sources
        self.absent += other.absent


def why(inventory: Inventory, path: str) -> str:
    """Why a file gives nothing, in words."""
    error = inventory.error(path)
    if error is None:
        return "the file is not there" if inventory.text(path) is None else "its content is not understood"
    return f"{REASONS.get(error, 'it cannot be read')} ({error})"


def source(name: str, parser: str, quantity: Quantity | str, site: Site, sensor: str) -> Source:
    """A source that has its probe to itself and changes about once a second."""
    return Source.model_validate(
        {
            "name": name,
            "probe": name,
            "parser": parser,
            "quantity": quantity,
            "site": site,
            "sensor": sensor,
            "native_period_s": _NATIVE_S,
        }
    )
