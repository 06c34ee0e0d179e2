"""Zones that a profile names and the device does not have are told, and the gate holds all the same."""

import pytest

from melt.spec.profile import ThermalBand
from melt.telemetry.source import Discovery, Site, Source
from melt.telemetry.thermal_band import missing_zones, watched_zones


def zone(name: str, site: Site) -> Source:
    return Source(name=f"thermal:{name}", rail=name, quantity="temperature_c", sensor="zone", site=site)


FOUND = Discovery(sources=(zone("cpu0", "cpu"), zone("gpu", "gpu"), zone("battery", "battery")))


@pytest.mark.parametrize(
    ("named", "watched", "told"),
    [
        ((), ["cpu0", "gpu"], ""),
        (("battery",), ["battery"], ""),
        (("thermal:gpu",), ["gpu"], ""),
        (("skin",), ["cpu0", "gpu"], "no thermal zone skin; there are cpu0, gpu, battery"),
        (("skin", "gpu"), ["gpu"], "no thermal zone skin; there are cpu0, gpu, battery"),
    ],
)
def test_what_is_watched_and_what_is_missed(named: tuple[str, ...], watched: list[str], told: str) -> None:
    band = ThermalBand(zones=named)
    assert [z.rail for z in watched_zones(FOUND, band)] == watched
    assert missing_zones(FOUND, band) == told


def test_a_device_without_zones_says_so() -> None:
    assert missing_zones(Discovery(), ThermalBand(zones=("skin",))) == "no thermal zone skin; there are none"
