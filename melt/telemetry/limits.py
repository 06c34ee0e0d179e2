"""Whether a device is beyond its profile's limits, by what its battery and its thermal service tell."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from melt.spec.profile import Limits
from melt.telemetry.bounds import BOUNDS
from melt.telemetry.registry import parse
from melt.telemetry.source import Discovery, Probe, Source
from melt.util.units import S_PER_NS

SEVERE = 3.0  # of Android's thermal statuses
Read = Callable[[Sequence[Probe]], Mapping[str, str]]  # as Driver.read
_OF_LEVEL = ("battery_level", "charging")
_MOST_CHARS = 65_536  # of a line; the device's own word


@dataclass
class LimitsWatch:
    """What the device last told of itself, held against the limits; a limit whose sensor is not there holds nothing.

    Attributes:
        over: why to stop, in words; empty where nothing is above its limit.
        cools: whether waiting helps.
    """

    limits: Limits
    discovery: Discovery
    over: str = ""
    cools: bool = True
    _level: dict[str, float] = field(default_factory=dict)  # by the names of the sources, as the below
    _fed: dict[str, bool] = field(default_factory=dict)
    _severe_since_ns: dict[str, int] = field(default_factory=dict)

    @property
    def probes(self) -> frozenset[str]:
        """The names of the probes that tell it."""
        return frozenset(s.probe for s in self._sources())

    def _sources(self) -> list[Source]:
        return [
            s
            for s in self.discovery.sources
            if s.quantity in (*_OF_LEVEL, "thermal_status") or (s.quantity == "temperature_c" and s.site == "battery")
        ]

    def hear(self, lines: Iterable[str]) -> None:
        """Takes lines of the sampler's; what is none of them is passed over."""
        for line in lines:
            try:
                row = json.loads(line) if len(line) <= _MOST_CHARS else {}
                t_ns, probe, raw = row["t_ns"], row["probe"], row["raw"]
            except (ValueError, TypeError, KeyError, RecursionError):
                continue
            if isinstance(t_ns, int) and isinstance(probe, str) and isinstance(raw, str):
                self._read(probe, raw, t_ns)
        self._judge_level()

    def look(self, texts: Mapping[str, str]) -> None:
        """Takes what probes say, by their names, read at once."""
        for probe, raw in texts.items():
            self._read(probe, raw, 0)
        self._judge_level()

    def _read(self, probe: str, raw: str, t_ns: int) -> None:
        """Takes what one probe said."""
        for source in self._sources():
            parsed = parse(source, raw) if source.probe == probe else None
            if parsed is None:
                continue
            low, high = BOUNDS[source.quantity]
            value = parsed * source.scale
            if low <= value <= high:
                self._judge(source, value, t_ns)

    def _judge(self, source: Source, value: float, t_ns: int) -> None:
        limits = self.limits
        match source.quantity:
            case "temperature_c":
                if limits.battery_c is not None and value > limits.battery_c:
                    self._stop(f"its battery ({source.name}) is at {value:.1f} °C, above {limits.battery_c:g} °C")
            case "thermal_status":
                since_ns = self._severe_since_ns.setdefault(source.name, t_ns)
                if value < SEVERE:
                    del self._severe_since_ns[source.name]
                elif limits.severe_s is not None and (t_ns - since_ns) * S_PER_NS >= limits.severe_s:
                    for_s = f", for {limits.severe_s:g} s" if limits.severe_s else ""
                    self._stop(f"its thermal status is {value:.0f}, severe or worse{for_s}")
            case "charging":
                self._fed[source.name] = value > 0
            case _:
                self._level[source.name] = 100 * value

    def _judge_level(self) -> None:
        """By all that has come at once: how full a battery is may be told before whether it is charged, and one of
        two may not know that."""
        percent, kinds = self.limits.battery_percent, {s.name: s.quantity for s in self._sources()}
        levels = [name for name, quantity in kinds.items() if quantity == "battery_level"]
        if percent is None or not levels or not self._level.keys() >= set(levels):
            return
        known = bool(self._fed) or "charging" not in kinds.values()
        fullest = max(self._level.values())
        if known and fullest < percent and not any(self._fed.values()):
            why = f"its battery has {fullest:.0f} % left, less than {percent:g} %, and is not charged"
            self._stop(why, cools=False)

    def _stop(self, why: str, cools: bool = True) -> None:
        if not self.over:
            self.over, self.cools = why, cools


def beyond_now(limits: Limits, discovery: Discovery, read: Read) -> LimitsWatch:
    """What the device tells now, held against the limits."""
    # By a status that is severe now: how long it has been is not known.
    watch = LimitsWatch(limits.model_copy(update={"severe_s": limits.severe_s and 0.0}), discovery)
    probes = [p for p in discovery.probes if p.name in watch.probes]
    watch.look(read(probes) if probes else {})
    return watch
