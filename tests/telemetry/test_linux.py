"""What recorded machines can measure, and what of it makes their total."""

from typing import Any

import pytest

from melt.spec.profile import Sensors
from melt.telemetry import linux
from melt.telemetry.source import NO_ENERGY, Discovery, Inventory, natural
from tests.telemetry.replay import inventory_of, load_tree

LAPTOP, PI, NANO, AGX = "laptop-xps15-9560", "raspberry-pi-4", "jetson-orin-nano", "jetson-agx-orin"
DENIED = {"error": "EACCES"}


def discover(device: str, changes: dict[str, Any] | None = None, **sensors: Any) -> Discovery:
    tree = load_tree(device) | (changes or {})
    return linux.discover(inventory_of({p: t for p, t in tree.items() if t is not None}), Sensors(**sensors))


def total(discovery: Discovery) -> list[str]:
    return [s.name for s in discovery.sources if s.counts_in_total]


def names(discovery: Discovery, quantity: str = "") -> list[str]:
    return [s.name for s in discovery.sources if not quantity or s.quantity == quantity]


def absent(discovery: Discovery, name: str) -> str:
    return next(f"{a.reason} | {a.hint}" for a in discovery.absent if a.name == name)


def test_laptop_counts_each_joule_once() -> None:
    found = discover(LAPTOP)
    assert names(found, "energy_j") == [
        *("rapl:package-0", "rapl:package-0:core", "rapl:package-0:uncore", "rapl:package-0:dram"),
    ]
    assert total(found) == ["rapl:package-0", "rapl:package-0:dram"]
    package = next(s for s in found.sources if s.name == "rapl:package-0")
    assert package.wrap_at == pytest.approx(262143.32885)
    assert package.resolution == pytest.approx(61.03e-6, rel=1e-3)
    assert "battery:BAT0:power" in names(found, "power_w")


def test_platform_zone_beats_the_package_that_it_holds() -> None:
    zone = "/sys/class/powercap/intel-rapl:1/"
    found = discover(LAPTOP, {zone + "name": "psys\n", zone + "energy_uj": "9\n", zone + "max_energy_range_uj": "9\n"})
    assert total(found) == ["rapl:psys"]


def test_memory_mapped_twin_zone_is_passed_over() -> None:
    zone = "/sys/class/powercap/intel-rapl-mmio:0/"
    assert total(discover(LAPTOP, {zone + "name": "package-0\n", zone + "energy_uj": "9\n"})) == total(discover(LAPTOP))


def denied_rapl() -> dict[str, Any]:
    return {p: DENIED for p in load_tree(LAPTOP) if p.endswith("energy_uj")}


def test_denied_counters_say_how_to_allow_them_and_the_battery_counts() -> None:
    found = discover(LAPTOP, denied_rapl())
    assert total(found) == ["battery:BAT0:power"]
    assert "EACCES" in absent(found, "rapl:package-0")
    assert "CVE-2020-8694" in absent(found, "rapl:package-0")
    source = next(s for s in found.sources if s.name == "battery:BAT0:power")
    assert (source.times, source.sign, source.site) == ("battery:BAT0:voltage", "unsigned", "battery")


BAT = "/sys/class/power_supply/BAT0/"


@pytest.mark.parametrize(
    ("files", "read", "quantity", "times"),
    [
        ({"power_now": "27758000\n"}, "power_now", "power_w", ""),
        ({"current_now": None, "charge_now": None, "energy_now": "2420000\n"}, "energy_now", "energy_j", ""),
        ({"current_now": None}, "charge_now", "energy_j", "battery:BAT0:voltage"),
    ],
)
def test_battery_gives_one_figure_of_the_best_kind(files: dict[str, Any], read: str, quantity: str, times: str) -> None:
    found = discover(LAPTOP, denied_rapl() | {BAT + f: t for f, t in files.items()})
    (name,) = total(found)
    source = next(s for s in found.sources if s.name == name)
    probe = next(p for p in found.probes if p.name == source.probe)
    assert (probe.read, source.quantity, source.times) == (BAT + read, quantity, times)


def test_battery_without_a_gauge_and_a_mouse_is_no_power_sensor() -> None:
    gone = {BAT + f: None for f in ("current_now", "charge_now")}
    mouse = "/sys/class/power_supply/hid-1/"
    found = discover(LAPTOP, denied_rapl() | gone | {mouse + "type": "Battery\n", mouse + "scope": "Device\n"})
    assert total(found) == []
    assert "gauge" in absent(found, "battery:BAT0:power")
    assert absent(found, "energy") == absent(found, "rapl:package-0").replace(
        "reading", "rapl:package-0 and 3 more: reading"
    )
    assert not any("hid-1" in n for n in names(found))


def test_orin_nano_total_is_the_input_rail() -> None:
    found = discover(NANO)
    assert total(found) == ["ina3221:1-0040:1:VDD_IN"]
    source = next(s for s in found.sources if s.counts_in_total)
    assert source.site == "input"
    assert source.resolution == pytest.approx(40e-6 / 5e-3 * 5.16)
    assert "gpu:gpu:load" in names(found, "utilisation")


def test_agx_orin_total_leaves_out_the_rail_that_is_inside_another() -> None:
    found = discover(AGX)
    assert total(found) == [f"ina3221:1-0040:{r}" for r in ("1:VDD_GPU_SOC", "2:VDD_CPU_CV", "3:VIN_SYS_5V0")]
    assert "ina3221:1-0041:2:VDDQ_VDD2_1V8AO" in names(found)
    assert not any("NC" in n or "sum of shunt" in n for n in names(found))


def test_rails_of_one_label_are_kept_apart() -> None:
    chip = "/sys/bus/i2c/drivers/ina3221/1-0044/hwmon/hwmon5/"
    found = discover(NANO, {chip + "in1_label": "VDD_IN\n", chip + "in1_input": "5000\n", chip + "curr1_input": "1\n"})
    assert {"ina3221:1-0040:1:VDD_IN", "ina3221:1-0044:1:VDD_IN"} <= set(names(found))
    assert total(found) == ["ina3221:1-0040:1:VDD_IN"]


def test_board_of_unknown_rails_has_no_total_and_says_what_to_do() -> None:
    label = "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in1_label"
    found = discover(NANO, {label: "SOMETHING\n"})
    assert total(found) == []
    assert absent(found, "energy").startswith("no rail is known to be all that the board takes | Name the sources")


def test_nothing_is_missing_where_the_profile_names_the_total() -> None:
    label = "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in1_label"
    found = discover(NANO, {label: "SOMETHING\n"}, total=("*:SOMETHING",))
    assert total(found) == ["ina3221:1-0040:1:SOMETHING"]
    assert NO_ENERGY not in {a.name for a in found.absent}


def test_a_total_that_is_not_here_is_the_profiles() -> None:
    found = discover(NANO, total=("rapl:*",))
    assert found.why_no_energy == "the profile's sensors.total names no power or energy source that is here"


def test_rails_that_may_not_be_read_are_the_reason() -> None:
    rails = "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/"
    found = discover(AGX, {f"{rails}curr3_input": DENIED})
    assert found.why_no_energy == "ina3221:1-0040:3:VIN_SYS_5V0: reading it is not permitted (EACCES)"
    assert f"sudo chmod a+r {rails}curr3_input" in absent(found, "energy")
    found = discover(AGX, {p: DENIED for p in load_tree(AGX) if "/hwmon/" in p and p.endswith("_input")})
    assert found.why_no_energy.startswith("ina3221:1-0040:1:VDD_GPU_SOC and 3 more: reading it is not permitted")
    assert "hwmon power" not in {a.name for a in found.absent}  # there is one


def test_a_total_that_the_profile_disables_is_the_reason() -> None:
    found = discover(NANO, disable=("*:VDD_IN",))
    assert found.why_no_energy == "ina3221:1-0040:1:VDD_IN: disabled in the profile"


def test_thor_input_rail_is_in_the_label_file() -> None:
    chip = "/sys/class/hwmon/hwmon9/"
    found = discover(PI, {chip + "name": "ina238\n", chip + "label": "VIN\n", chip + "power1_input": "9000000\n"})
    assert total(found) == ["hwmon:hwmon9:ina238:VIN"]


def test_raspberry_pi_has_no_power_sensor_but_says_when_it_is_throttled() -> None:
    found = discover(PI)
    assert total(found) == []
    assert "firmware:throttled" in names(found, "throttled")
    assert names(found, "temperature_c") == ["thermal:cpu-thermal"]
    assert names(found, "frequency_hz") == ["frequency:policy0"]


def test_zone_that_is_off_now_is_reported_and_still_read_later() -> None:
    found = discover(NANO)
    assert "thermal:cv0-thermal" in names(found)
    assert "EAGAIN" in absent(found, "thermal:cv0-thermal")


def test_profile_can_disable_and_choose() -> None:
    found = discover(LAPTOP, disable=("thermal:*", "rapl:package-0:dram"))
    assert not any(n.startswith("thermal:") for n in names(found))
    assert not any(p.name.startswith("thermal:") for p in found.probes)
    assert total(found) == ["rapl:package-0"]
    chosen = discover(LAPTOP, total=("battery:*", "nothing"))
    assert total(chosen) == ["battery:BAT0:power"]
    assert "sensors.total" in absent(chosen, "nothing")
    assert "There are: rapl:package-0" in absent(chosen, "nothing")


@pytest.mark.parametrize("device", [LAPTOP, PI, NANO, AGX])
def test_every_source_has_its_probe_and_a_name_of_its_own(device: str) -> None:
    found = discover(device, period_ms=50)
    probes = {p.name for p in found.probes}
    assert len(probes) == len(found.probes)
    assert {s.probe for s in found.sources} == probes
    assert len(set(names(found))) == len(found.sources)
    assert all(s.times in names(found) for s in found.sources if s.times)
    quick = [p for p in found.probes if p.period_ms < 500]
    assert {p.period_ms for p in quick} == {50}
    assert len(quick) <= 12


def test_nothing_at_all_is_survived() -> None:
    found = linux.discover(Inventory())
    assert all(s.site == "process" for s in found.sources)
    assert {"rapl", "battery", "hwmon power", "energy"} <= {a.name for a in found.absent}
    assert linux.facts(Inventory()).platform == "linux"


def test_facts_of_the_laptop() -> None:
    found = linux.facts(inventory_of(load_tree(LAPTOP)), {"engines": {"llama.cpp": "1"}})
    assert found.soc == "Intel(R) Core(TM) i7-7700HQ CPU @ 2.80GHz"
    assert (found.machine, found.product) == ("x86_64", "Dell Inc. XPS 15 9560")
    assert (found.logical_cores, found.physical_cores) == (8, 4)
    assert found.battery_capacity_j == pytest.approx(4.901 * 11.4 * 3600)
    assert found.battery_health == "100 %"
    assert found.governor == "powersave"
    assert found.ram_bytes == 16281520 * 1024
    assert found.virtual_machine is None
    assert "avx2" in found.cpu_features
    assert found.engines == {"llama.cpp": "1"}


@pytest.mark.parametrize(
    ("device", "soc", "product", "cores", "mode"),
    [
        (PI, "brcm,bcm2711 Cortex-A72", "Raspberry Pi 4 Model B Rev 1.5", 4, None),
        (NANO, "nvidia,tegra234 Cortex-A78AE", "NVIDIA Jetson Orin Nano Developer Kit", 6, "25W"),
        (AGX, "nvidia,tegra234 Cortex-A78AE", "NVIDIA Jetson AGX Orin Developer Kit", 12, "MAXN"),
    ],
)
def test_facts_of_boards(device: str, soc: str, product: str, cores: int, mode: str | None) -> None:
    found = linux.facts(inventory_of(load_tree(device)))
    assert (found.machine, found.soc, found.product) == ("aarch64", soc, product)
    assert (found.logical_cores, found.physical_cores, found.power_mode) == (cores, cores, mode)
    assert found.battery_capacity_j is None


def test_serial_is_hashed_and_never_told() -> None:
    tree = load_tree(LAPTOP)
    found = linux.facts(inventory_of(tree))
    assert found.serial_hash is not None
    assert len(found.serial_hash) == 16
    assert tree["/etc/machine-id"].strip() not in found.model_dump_json()


def test_virtual_machine_is_told() -> None:
    tree = load_tree(LAPTOP)
    tree["/proc/cpuinfo"] = tree["/proc/cpuinfo"].replace("avx2", "avx2 hypervisor")
    assert linux.facts(inventory_of(tree)).virtual_machine == "hypervisor"
    tree["/sys/class/dmi/id/sys_vendor"] = "QEMU\n"
    assert linux.facts(inventory_of(tree)).virtual_machine == "QEMU"


def test_natural_order() -> None:
    assert sorted(["zone10", "zone2", "a"], key=natural) == ["a", "zone2", "zone10"]
