"""Which temperatures a device is held by before a session, as its profile asks and as far as it has them."""

from melt.spec.profile import ThermalBand
from melt.telemetry.source import Discovery, Source

_PROCESSOR_SITES = ("cpu", "gpu", "soc_rail", "system", "cpu_package")


def watched_zones(discovery: Discovery, band: ThermalBand) -> tuple[Source, ...]:
    """The zones of the profile, or all of the processor's where it names none that is there."""
    zones = [s for s in discovery.sources if s.quantity == "temperature_c"]
    named = tuple(z for z in zones if z.name in band.zones or z.rail in band.zones)
    return named or tuple(z for z in zones if z.site in _PROCESSOR_SITES)


def missing_zones(discovery: Discovery, band: ThermalBand) -> str:
    """Which zones of a profile's the device does not have, with those that it has; empty where it has all."""
    there = [s for s in discovery.sources if s.quantity == "temperature_c"]
    names = {name for s in there for name in (s.name, s.rail)}
    lacking = [zone for zone in band.zones if zone not in names]
    has = ", ".join(s.rail or s.name for s in there) or "none"
    return f"no thermal zone {', '.join(lacking)}; there are {has}" if lacking else ""
