"""Whether a device is beyond its profile's limits, by what it tells; what it does not tell is beyond nothing."""

import json

import pytest

from melt.spec.profile import Limits
from melt.telemetry.limits import LimitsWatch, beyond_now
from melt.telemetry.source import Discovery, Probe, Quantity, Site, Source

S = 1_000_000_000


def source(name: str, quantity: Quantity, site: Site = "battery", scale: float = 1.0) -> Source:
    return Source(name=name, quantity=quantity, site=site, sensor="a sensor", scale=scale)


PHONE = Discovery(
    probes=tuple(Probe(name=name, read="/") for name in ("level", "fed", "heat", "status", "chip")),
    sources=(
        source("level", "battery_level", scale=0.01),
        source("fed", "charging"),
        source("heat", "temperature_c", scale=0.1),
        source("status", "thermal_status", "cpu"),
        source("chip", "temperature_c", "cpu"),
    ),
)


def told(*said: tuple[float, str, float], limits: Limits | None = None, discovery: Discovery = PHONE) -> LimitsWatch:
    """What comes of some (second, probe, number)."""
    watch = LimitsWatch(limits or Limits(), discovery)
    watch.hear(json.dumps({"t_ns": int(t * S), "t_end_ns": int(t * S), "probe": p, "raw": str(n)}) for t, p, n in said)
    return watch


@pytest.mark.parametrize(
    ("said", "over"),
    [
        ([(0, "heat", 449)], ""),
        ([(0, "heat", 451)], "its battery (heat) is at 45.1 °C, above 45 °C"),
        ([(0, "chip", 95)], ""),
        ([(0, "level", 14), (0, "fed", 0)], "its battery has 14 % left, less than 15 %, and is not charged"),
        ([(0, "fed", 0), (0, "level", 15), (5, "level", 14)], "its battery has 14 % left"),
        ([(0, "level", 14)], ""),  # whether it is charged is not known yet
        ([(0, "fed", 1), (0, "level", 14)], ""),
        ([(0, "fed", 1), (0, "level", 14), (5, "fed", 0)], "its battery has 14 % left"),
        ([(0, "status", 3), (59, "status", 4)], ""),
        ([(0, "status", 3), (60, "status", 4)], "its thermal status is 4, severe or worse, for 60 s"),
        ([(0, "status", 3), (30, "status", 2), (60, "status", 3), (119, "status", 3)], ""),
        ([(0, "heat", 99_990)], ""),  # is no battery's temperature
    ],
)
def test_what_is_beyond(said: list[tuple[float, str, float]], over: str) -> None:
    found = told(*said).over
    assert found.startswith(over) if over else not found


def test_what_was_beyond_once_stays_so() -> None:
    assert told((0, "heat", 500), (5, "heat", 200)).over


def test_of_two_batteries_the_fuller_one_counts() -> None:
    two = Discovery(sources=(source("a", "battery_level", scale=0.01), source("b", "battery_level", scale=0.01)))
    assert not told((0, "a", 5), (0, "b", 80), discovery=two).over
    assert told((0, "a", 5), (0, "b", 8), discovery=two).over.startswith("its battery has 8 % left")


def test_a_battery_that_does_not_know_whether_it_is_charged_hides_no_other() -> None:
    names = ("a", "b")
    two = Discovery(
        sources=(
            *(source(f"{n} level", "battery_level", scale=0.01) for n in names),
            *(source(f"{n} fed", "charging") for n in names),
        )
    )
    assert told((0, "a level", 5), (0, "b level", 8), (0, "a fed", 0), discovery=two).over  # b says nothing of it


def test_null_is_no_limit() -> None:
    none = Limits(battery_c=None, battery_percent=None, severe_s=None)
    assert not told((0, "heat", 600), (0, "fed", 0), (0, "level", 1), (0, "status", 6), limits=none).over


def test_what_is_severe_now_is_beyond_now() -> None:
    now = beyond_now(Limits(), PHONE, lambda _probes: {"status": "3"})
    assert now.over == "its thermal status is 3, severe or worse"
    assert now.cools
    assert not beyond_now(Limits(), PHONE, lambda _probes: {"level": "3", "fed": "0"}).cools


@pytest.mark.parametrize(
    "line",
    [
        *("", "no JSON", "[]", "null", '"heat"', "{}", '{"t_ns": "x", "probe": "heat", "raw": "999"}'),
        *('{"t_ns": Infinity, "probe": "heat", "raw": "999"}', '{"t_ns": 1, "probe": "heat", "raw": 999}'),
        *('{"t_ns": 1, "probe": "heat", "raw": "warm"}', '{"t_ns": 1, "probe": "other", "raw": "999"}'),
        *('{"t_ns": 1, "probe": ["heat"], "raw": {}}', "[" * 70_000, "[" * 10_000),
    ],
)
def test_any_line_is_survived(line: str) -> None:
    watch = LimitsWatch(Limits(), PHONE)
    watch.hear([line])
    assert not watch.over
