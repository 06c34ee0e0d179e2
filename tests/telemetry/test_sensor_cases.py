"""Sensors that say other than they seem to: counters told twice, zones of other units, a fan's control value."""

import json
import math
from typing import Any

import pytest

from melt.analysis.integration import total_energy
from melt.spec.profile import Sensors
from melt.telemetry import linux
from melt.telemetry.kinds.power_rails import MAX_RAILS, read_rails
from melt.telemetry.needed_time import stated_period_s
from melt.telemetry.registry import parse
from melt.telemetry.series import series
from melt.telemetry.source import Discovery
from tests.doubles.perfetto_trace import rail_trace
from tests.telemetry.replay import inventory_of, load_tree

S = 10**9
RAPL = "/sys/class/powercap/intel-rapl"


def discover(tree: dict[str, Any], **sensors: Any) -> Discovery:
    return linux.discover(inventory_of(tree), Sensors(**sensors))


def lines(rows: list[tuple[int, str, str]]) -> list[str]:
    return [json.dumps({"t_ns": t, "t_end_ns": t, "probe": p, "raw": raw}) for t, p, raw in rows]


def counted(found: Discovery) -> list[str]:
    return [s.name for s in found.sources if s.counts_in_total]


def why_absent(found: Discovery, name: str) -> str:
    return next(a.reason for a in found.absent if a.name == name)


def dies(*microjoules: int) -> dict[str, Any]:
    files = {"max_energy_range_uj": "65532610987\n"}
    return {
        f"{RAPL}:{i}/{name}": text
        for i, uj in enumerate(microjoules)
        for name, text in {**files, "name": f"package-0-die-{i}\n", "energy_uj": f"{uj}\n"}.items()
    }


def test_two_dies_that_tell_one_counter_are_counted_once() -> None:
    found = discover(dies(1_036_000_000, 1_036_000_003))
    rows = [
        (i * S // 10, f"rapl:package-0-die-{die}", str(1_036_000_000 + 3 * die + i * 6_800_000))
        for i in range(40)
        for die in (0, 1)
    ]
    total = total_energy(found, series(found, lines(rows)), 0, 39 * S // 10)
    assert total.energy_j == pytest.approx(265.2)
    assert "one counter" in why_absent(found, "rapl:package-0-die-1")


def test_a_zone_that_never_counted_is_absent() -> None:
    dram = {f"{RAPL}:0:0/name": "dram", f"{RAPL}:0:0/energy_uj": "0"}
    found = discover(dies(1_036_000_000) | dram)
    assert counted(found) == ["rapl:package-0-die-0"]
    assert "does not count" in why_absent(found, "rapl:package-0-die-0:dram")


def test_two_dies_with_a_counter_each_are_both_counted() -> None:
    assert counted(discover(dies(1_036_000_000, 911_000_000))) == ["rapl:package-0-die-0", "rapl:package-0-die-1"]


@pytest.mark.parametrize(
    ("zone", "says", "degrees"),
    [("battery", "37000", 37.0), ("msm_therm", "36", 36.0), ("cpu-0-0", "52", 52.0), ("cpu-1-0", "410", 41.0)],
)
def test_a_zone_is_read_in_the_unit_that_makes_it_a_temperature(zone: str, says: str, degrees: float) -> None:
    folder = "/sys/class/thermal/thermal_zone3/"
    found = discover({folder + "type": zone, folder + "temp": says})
    source = next(s for s in found.sources if s.quantity == "temperature_c")
    value = parse(source, says)
    assert value is not None
    assert value * source.scale == pytest.approx(degrees)


@pytest.mark.parametrize(("zone", "says"), [("soc", "87"), ("pm8150b-ibat-lvl0", "3200"), ("x", "3"), ("x", "4100000")])
def test_a_zone_that_is_no_temperature_is_absent_with_what_it_says(zone: str, says: str) -> None:
    folder = "/sys/class/thermal/thermal_zone3/"
    found = discover({folder + "type": zone, folder + "temp": says})
    assert says in why_absent(found, f"thermal:{zone}")


@pytest.mark.parametrize(
    ("labels", "read"), [({"1": "Tctl", "2": "Tdie"}, "temp2"), ({"1": "Tctl"}, "temp1"), ({}, "temp1")]
)
def test_a_fans_control_value_is_not_taken_for_the_die(labels: dict[str, str], read: str) -> None:
    chip = "/sys/class/hwmon/hwmon1"
    tree = {f"{chip}/name": "k10temp", f"{chip}/temp1_input": "68000", f"{chip}/temp2_input": "41000"}
    found = discover(tree | {f"{chip}/temp{n}_label": label for n, label in labels.items()})
    assert [p.read for p in found.probes if p.name == "thermal:k10temp"] == [f"{chip}/{read}_input"]


def test_rails_of_two_streams_are_told_apart() -> None:
    samples = [(1000 + 250 * k, {0: 1_000_000 + k * 500_000, 1: 500_000 + k * 100_000}) for k in range(40)]
    others = [(1100 + 250 * k, {0: 90_000_000 + k * 900_000, 1: 7_000_000}) for k in range(40)]
    trace = rail_trace({0: ("S4M_VDD_CPUCL0", "cpu"), 1: ("S1M_VDD_MIF", "mif")}, samples, stream=7)
    trace += rail_trace({0: ("L21S_DISPLAY", ""), 1: ("L9S_WIFI", "")}, others, stream=8)
    trace += rail_trace({0: ("S4M_VDD_CPUCL0", "cpu")}, samples, stream=9)  # the first stream's once more
    rails, found = read_rails(trace)
    by_name = {r.name: [s.energy_uws for s in found if s.index == r.index] for r in rails}
    assert {name: (values[0], values[-1]) for name, values in by_name.items()} == {
        "S4M_VDD_CPUCL0": (1_000_000, 20_500_000),
        "S1M_VDD_MIF": (500_000, 4_400_000),
        "L21S_DISPLAY": (90_000_000, 125_100_000),
        "L9S_WIFI": (7_000_000, 7_000_000),
    }
    assert {r.index for r in rails} == {0, 1, MAX_RAILS, MAX_RAILS + 1}


@pytest.mark.parametrize(
    ("device", "pattern", "summed"),
    [
        ("laptop-xps15-9560", "rapl:*", ["rapl:package-0", "rapl:package-0:dram"]),
        ("jetson-orin-nano", "ina3221:*", ["ina3221:1-0040:1:VDD_IN"]),
    ],
)
def test_a_rail_inside_another_is_not_added_to_it(device: str, pattern: str, summed: list[str]) -> None:
    found = discover(load_tree(device), total=(pattern,))
    assert counted(found) == summed
    told = [a for a in found.absent if a.name.endswith(" in the total")]
    assert told
    assert all("which holds it" in a.reason for a in told)


def test_the_platform_holds_the_package() -> None:
    zone = f"{RAPL}:1/"
    tree = load_tree("laptop-xps15-9560") | {zone + "name": "psys\n", zone + "energy_uj": "9\n"}
    assert counted(discover(tree, total=("rapl:*",))) == ["rapl:psys"]


@pytest.mark.parametrize("load_sign", [1, -1])
def test_a_second_of_charging_current_is_no_load(load_sign: int) -> None:
    battery = "/sys/class/power_supply/BAT0"
    files = {"type": "Battery", "status": "Discharging", "present": "1", "voltage_now": "10000000"}
    found = discover({f"{battery}/{f}": text for f, text in files.items()} | {f"{battery}/current_now": "1"})
    amps = [0.64] * 41
    amps[20] = -0.35  # the driver signs it, while the status still says the same
    says = {"voltage": "10000000", "charging": "Discharging"}
    rows = [(i * S, f"battery:BAT0:{name}", text) for i in range(41) for name, text in says.items()]
    rows += [(i * S, "battery:BAT0:power", str(round(load_sign * a * 1e6))) for i, a in enumerate(amps)]
    spent = total_energy(found, series(found, lines(rows)), 0, 40 * S)
    assert spent.energy_j == pytest.approx(256 - 9.9)


def test_a_gauge_that_says_nothing_is_used_and_a_counter_that_stands_still_measure_nothing() -> None:
    battery = "/sys/class/power_supply/BAT0"
    files = {"type": "Battery", "status": "Discharging", "present": "1", "voltage_now": "12000000", "current_now": "0"}
    found = discover({f"{battery}/{f}": text for f, text in files.items()})
    says = {"power": "0", "voltage": "12000000", "charging": "Discharging"}
    rows = [(i * S, f"battery:BAT0:{name}", text) for i in range(40) for name, text in says.items()]
    gauge = total_energy(found, series(found, lines(rows)), 0, 39 * S)
    assert math.isnan(gauge.energy_j)
    assert gauge.reason == "battery:BAT0:power said 0 W all the while"
    zone = f"{RAPL}:0"
    found = discover({f"{zone}/name": "package-0", f"{zone}/energy_uj": "262143"})
    rows = [(i * S // 10, "rapl:package-0", "262143") for i in range(40)]
    counter = total_energy(found, series(found, lines(rows)), 0, 39 * S // 10)
    assert math.isnan(counter.energy_j)
    assert counter.reason == "rapl:package-0 stood still all the while"


def test_the_time_that_a_sensor_needs_follows_from_what_is_stated() -> None:
    board = load_tree("jetson-orin-nano")
    assert stated_period_s(discover(board)) == pytest.approx(0.1)
    assert stated_period_s(discover(board, period_ms=500)) == pytest.approx(0.5)
    assert stated_period_s(discover(load_tree("laptop-xps15-9560"))) == 0  # a counter
    assert stated_period_s(discover(load_tree("laptop-xps15-9560"), total=("battery:*",))) == pytest.approx(1.0)
