"""What of a machine's state changes how fast it is, from the files that tell it."""

from typing import Any

import pytest

from melt.telemetry import android_facts, linux
from melt.telemetry.linux_state import state
from tests.telemetry.replay import inventory_of, load_tree

CPU = "/sys/devices/system/cpu"
SUPPLY = "/sys/class/power_supply"
BATTERY = {f"{SUPPLY}/BAT0/type": "Battery\n"}


def policy(number: int, **files: str) -> dict[str, Any]:
    return {f"{CPU}/cpufreq/policy{number}/{name}": text for name, text in files.items()}


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        (
            policy(0, scaling_min_freq="600000\n", scaling_max_freq="600000\n"),
            {"clocks": "locked", "clock_cap": "0.60 GHz"},
        ),
        (
            policy(0, scaling_min_freq="400000\n", scaling_max_freq="1200000\n"),
            {"clocks": "free", "clock_cap": "1.20 GHz"},
        ),
        (
            policy(0, scaling_max_freq="1800000\n") | policy(4, scaling_max_freq="2400000\n"),
            {"clock_cap": "1.80, 2.40 GHz"},
        ),
        (policy(0, energy_performance_preference="balance_power\n"), {"energy_preference": "balance_power"}),
        ({f"{CPU}/intel_pstate/no_turbo": "1\n"}, {"turbo": "off"}),
        ({f"{CPU}/intel_pstate/no_turbo": "0\n"}, {"turbo": "on"}),
        ({f"{CPU}/cpufreq/boost": "0\n"}, {"turbo": "off"}),
        ({"/sys/firmware/acpi/platform_profile": "low-power\n"}, {"platform_profile": "low-power"}),
        (BATTERY | {f"{SUPPLY}/AC/online": "1\n"}, {"supply": "mains"}),
        (BATTERY | {f"{SUPPLY}/AC/online": "0\n", f"{SUPPLY}/usb/online": "0\n"}, {"supply": "battery"}),
        (BATTERY, {}),
        ({f"{SUPPLY}/AC/online": "1\n"}, {}),  # nothing but mains is there to feed it
        ({}, {}),
    ],
)
def test_the_state_is_told_as_far_as_it_can_be_read(tree: dict[str, Any], told: dict[str, str]) -> None:
    assert state(inventory_of(tree)) == told
    passport = linux.facts(inventory_of(tree)).passport()
    assert passport.items() >= told.items()


def test_a_boards_gpu_is_among_its_clocks() -> None:
    assert "; GPU " in (linux.facts(inventory_of(load_tree("jetson-orin-nano"))).clock_cap or "")


@pytest.mark.parametrize(("answer", "told"), [("1\n", "on"), ("0\n", "off"), ("null\n", None), ("", None)])
def test_a_phone_tells_of_its_battery_saver(answer: str, told: str | None) -> None:
    assert android_facts.facts(inventory_of({"battery saver": answer})).battery_saver == told


def test_a_jetson_tells_which_processors_are_on_in_each_mode() -> None:
    told = linux.facts(inventory_of(load_tree("jetson-xavier-nx"))).mode_cpus
    assert told["MODE_15W_2CORE"] == (0, 1)
    assert told["MODE_15W_6CORE"] == (0, 1, 2, 3, 4, 5)
    assert linux.facts(inventory_of({"/proc/cpuinfo": "processor : 0\n"})).mode_cpus == {}


def test_a_core_id_that_cannot_be_read_is_no_core() -> None:
    def topology(cpu: int, **files: str) -> dict[str, Any]:
        return {f"{CPU}/cpu{cpu}/topology/{name}": text for name, text in files.items()}

    on = [topology(cpu, core_id=f"{cpu}\n", physical_package_id="0\n") for cpu in (0, 1)]
    off = [topology(cpu, core_id="", physical_package_id="") for cpu in (2, 3)]
    tree = {path: text for files in (*on, *off) for path, text in files.items()}
    assert linux.facts(inventory_of(tree)).physical_cores == 2
