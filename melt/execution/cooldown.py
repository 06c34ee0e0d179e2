"""Every session starts from the same thermal band: wait by temperature, with a limit."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.spec.plan import CoolDown
from melt.spec.profile import ThermalBand
from melt.store.manifest import Flag
from melt.telemetry.bounds import BOUNDS
from melt.telemetry.registry import parse
from melt.telemetry.source import Discovery, Source
from melt.telemetry.thermal_band import watched_zones

if TYPE_CHECKING:
    from melt.drivers.base import Driver

_POLL_S = 2.0


@dataclass(frozen=True)
class Cooled:
    """How a session started: the hottest zone's temperature (None: no sensor), and the time waited."""

    start_temp_c: float | None
    waited_s: float
    flag: Flag | None = None


def wait_until_cool(driver: "Driver", discovery: Discovery, band: ThermalBand, rule: CoolDown) -> Cooled:
    """Waits until the hottest processor zone is below the band's upper end, or the limit has passed.

    The zones are those of the profile, or all of the processor's where it names none that is there.
    """
    zones = watched_zones(discovery, band)
    limit_c = rule.start_below_c if rule.start_below_c is not None else band.start_below_c
    started = time.monotonic()
    while True:
        now_c = hottest_c(driver, discovery, zones)
        waited_s = time.monotonic() - started
        if now_c is None or limit_c is None or now_c < limit_c:
            return Cooled(now_c, waited_s)
        if waited_s >= rule.limit_s:
            evidence = f"{now_c:.1f} °C after waiting {waited_s:.0f} s for less than {limit_c:g} °C"
            return Cooled(now_c, waited_s, Flag(name="start_temperature_out_of_band", evidence=evidence))
        time.sleep(min(_POLL_S, max(0.05, rule.limit_s - waited_s)))


def hottest_c(driver: "Driver", discovery: Discovery, zones: tuple[Source, ...]) -> float | None:
    """The highest of the zones' temperatures right now, °C; None where there is none to read."""
    wanted = {z.probe for z in zones}
    raw = driver.read([p for p in discovery.probes if p.name in wanted]) if wanted else {}
    readings = [(z, parse(z, raw[z.probe])) for z in zones if z.probe in raw]
    low_c, high_c = BOUNDS["temperature_c"]
    found = (value * z.scale for z, value in readings if value is not None)
    return max((value_c for value_c in found if low_c <= value_c <= high_c), default=None)
