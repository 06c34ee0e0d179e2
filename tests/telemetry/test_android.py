"""What five makers' phones say, understood: recorded outputs, and text that is nothing of the kind."""

import json
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.analysis.integration import phase_energy
from melt.spec.profile import Sensors
from melt.telemetry import android_properties
from melt.telemetry.android import discover
from melt.telemetry.android_facts import facts
from melt.telemetry.android_properties import properties
from melt.telemetry.kinds.android_battery import BATTERY_SERVICE, battery_service, battery_service_charging
from melt.telemetry.kinds.android_gpu import GPU_MEMORY, busy_of_total
from melt.telemetry.kinds.android_thermal import THERMAL_SERVICE, hal_temperatures, thermal_status
from melt.telemetry.registry import parse, registry
from melt.telemetry.series import read
from melt.telemetry.source import Discovery, Inventory, InventoryEntry
from tests.telemetry.replay import DATA, inventory_of, load_tree

PHONES = ("galaxy-s23", "locked-down", "oneplus", "pixel-8", "xiaomi")


def text_of(phone: str, file: str) -> str:
    return (DATA / "android" / phone / f"{file}.txt").read_text(encoding="utf-8")


def inventory(phone: str, battery: str = "dumpsys-battery") -> Inventory:
    tree = load_tree(f"android/{phone}")
    tree[BATTERY_SERVICE] = text_of(phone, battery)
    tree[THERMAL_SERVICE] = text_of(phone, "dumpsys-thermalservice")
    tree["getprop"] = text_of(phone, "getprop")
    gpu_memory = DATA / "android" / phone / "dumpsys-gpu-gpumem.txt"
    tree[GPU_MEMORY] = gpu_memory.read_text(encoding="utf-8") if gpu_memory.exists() else ""
    return inventory_of(tree)


def values(found: Discovery, battery: str) -> dict[str, float]:
    """What the battery service's sources read in that text, in SI units."""
    sources = [s for s in found.sources if s.probe == BATTERY_SERVICE]
    return {s.name: v * s.scale for s in sources if (v := parse(s, battery)) is not None}


@pytest.mark.parametrize(
    ("phone", "file", "charging", "volts", "celsius"),
    [
        ("galaxy-s23", "dumpsys-battery", 0.0, 3.674, 40.7),
        ("galaxy-s23", "dumpsys-battery-usb", 1.0, None, None),
        ("oneplus", "dumpsys-battery", 1.0, 4.402, 32.5),
        ("oneplus", "dumpsys-battery-unplugged", 0.0, None, None),
        ("xiaomi", "dumpsys-battery", 0.0, 3.678, 38.1),
        ("xiaomi", "dumpsys-battery-charging", 1.0, None, None),
    ],
)
def test_the_battery_service_of_every_maker(
    phone: str, file: str, charging: float, volts: float | None, celsius: float | None
) -> None:
    found = values(discover(inventory(phone, file)), text_of(phone, file))
    assert found["battery:service:charging"] == charging
    if volts is not None:
        assert found["battery:service:voltage"] == pytest.approx(volts)
        assert found["battery:service:temperature"] == pytest.approx(celsius)


def test_the_charge_counters_unit_is_that_of_a_battery() -> None:
    """A Redmi Note 14 counts mAh: 748 at 14 %. Others count uAh by the book."""
    level = {}
    for phone in ("xiaomi", "galaxy-s23", "oneplus"):
        source = next(s for s in discover(inventory(phone)).sources if s.name == "battery:service:energy")
        level[phone] = (parse(source, text_of(phone, "dumpsys-battery")) or 0) * source.scale
        assert source.counts_in_total
    assert level["xiaomi"] == pytest.approx(0.748 * 3600)
    assert level["galaxy-s23"] == pytest.approx(1.24488 * 3600)
    assert level["oneplus"] == pytest.approx(4.864 * 3600)


def test_a_pixel_gives_its_gauge_and_the_service_only_whether_it_is_fed() -> None:
    found = discover(inventory("pixel-8"))
    names = {s.name for s in found.sources}
    assert {"battery:battery:power", "battery:service:charging"} <= names
    assert not names & {"battery:service:energy", "battery:battery:charging"}
    assert [s.name for s in found.sources if s.counts_in_total] == ["battery:battery:power"]
    charging = next(s for s in found.sources if s.quantity == "charging")
    assert parse(charging, text_of("pixel-8", "dumpsys-battery")) == 0.0  # status 4, and nothing is plugged in


def with_gauge(phone: str, file: str) -> Inventory:
    """A phone whose gauge the shell may read, as a rooted one's."""
    readable = json.loads((DATA / "android" / phone / file).read_text(encoding="utf-8"))
    tree = {**load_tree(f"android/{phone}"), **{k: v for k, v in readable.items() if k.startswith("/")}}
    tree |= {BATTERY_SERVICE: text_of(phone, "dumpsys-battery-unplugged"), "getprop": text_of(phone, "getprop")}
    return inventory_of(tree)


def test_a_gauge_whose_unit_cannot_be_told_is_not_used_unless_the_profile_says_it() -> None:
    """A OnePlus gives mA: taken for uA its power would be a thousandth."""
    unknown = discover(with_gauge("oneplus", "power-supply-oplus.json"))
    assert "battery:battery:power" not in {s.name for s in unknown.sources}
    absent = {a.name: a for a in unknown.absent}
    assert "mA or in uA" in absent["battery:current"].reason
    assert "battery_current_unit" in absent["battery:current"].hint
    told = discover(with_gauge("oneplus", "power-supply-oplus.json"), Sensors(battery_current_unit="mA"))
    power = next(s for s in told.sources if s.name == "battery:battery:power")
    assert power.scale == 1e-3


def test_a_second_supply_that_calls_itself_a_battery_counts_no_joule_twice() -> None:
    tree = load_tree("android/pixel-8")
    tree |= {p.replace("/battery/", "/maxfg/"): t for p, t in tree.items() if "/power_supply/battery/" in p}
    tree[BATTERY_SERVICE] = text_of("pixel-8", "dumpsys-battery")
    tree["getprop"] = text_of("pixel-8", "getprop")
    found = discover(inventory_of(tree))
    assert [s.name for s in found.sources if s.counts_in_total] == ["battery:battery:power"]


def test_a_counter_that_stands_still_is_no_energy() -> None:
    """An S23's counter moves by one percent, minutes apart: what lies between its steps is not known."""
    found = discover(inventory("galaxy-s23"))
    source = next(s for s in found.sources if s.name == "battery:service:energy")
    text = text_of("galaxy-s23", "dumpsys-battery")
    later = text.replace("Charge counter: 1244880", "Charge counter: 1233765")

    def lines(texts: list[str]) -> str:
        rows = [
            {"t_ns": i * 5_000_000_000, "t_end_ns": i * 5_000_000_000 + 1, "probe": BATTERY_SERVICE, "raw": t}
            for i, t in enumerate(texts)
        ]
        return "\n".join(json.dumps(r, separators=(",", ":")) for r in rows)

    still = read(found, lines([text] * 24)).series
    assert source.name not in still
    stepped = read(found, lines([text] * 12 + [later] * 12)).series[source.name]
    assert len(stepped.t_ns) == 1
    assert phase_energy(source, stepped, 10 * 10**9, 110 * 10**9).reason


def test_a_phone_that_denies_nearly_everything_says_so_one_by_one() -> None:
    found = discover(inventory("locked-down"))
    reasons = {a.name: a.reason for a in found.absent}
    assert reasons["/proc/stat"] == "reading it is not permitted (EACCES)"
    assert reasons["frequency:policy0"] == "reading it is not permitted (EACCES)"
    assert "no battery's size" in reasons["battery:service:energy"]
    assert reasons["energy"] == f"battery:current: {reasons['battery:current']}"
    assert not [s for s in found.sources if s.counts_in_total]


@pytest.mark.parametrize(
    ("folder", "reason"),
    [({"error": "EACCES"}, "reading it is not permitted (EACCES)"), (None, "no cpufreq policy is to be seen")],
)
def test_a_phone_that_hides_its_clocks_is_no_virtual_machine(folder: dict[str, str] | None, reason: str) -> None:
    tree = {p: t for p, t in load_tree("android/pixel-8").items() if "/cpufreq/" not in p}
    tree |= {"getprop": "[ro.serialno]: [1]"} | ({"/sys/devices/system/cpu/cpufreq": folder} if folder else {})
    [clocks] = [a for a in discover(inventory_of(tree)).absent if a.name == "CPU frequency"]
    assert clocks.reason == reason
    assert clocks.hint == "Some phones show them to nobody: throttling is then judged by speed."


def test_a_frozen_battery_service_is_not_believed() -> None:
    found = discover(inventory("locked-down", "dumpsys-battery-stopped"))
    absent = {a.name: a for a in found.absent}
    assert "frozen" in absent["battery:service"].reason
    assert "dumpsys battery reset" in absent["battery:service"].hint
    for parser in (battery_service, battery_service_charging):
        assert parser(text_of("locked-down", "dumpsys-battery-stopped"), "voltage") is None
    assert not [s for s in found.sources if s.name.startswith("battery")]


def test_temperatures_are_those_of_now_and_real_ones() -> None:
    phone = text_of("xiaomi", "dumpsys-thermalservice")
    now = {t.name: t.value for t in hal_temperatures(phone)}
    assert now["CPU"] == 62.842  # 87.556 is what Android remembers
    names = {s.rail for s in discover(inventory("pixel-8")).sources if s.sensor == "Android thermal HAL"}
    assert {"BIG", "MID", "LITTLE", "G3D", "TPU", "VIRTUAL-SKIN", "battery"} <= names
    assert not names & {"vdroop1", "batoilo", "soc", "USB-MINUS-NEUTRAL", "VIRTUAL-USB-UI"}


def test_every_site_is_the_makers_own_word() -> None:
    sites = {s.rail: s.site for s in discover(inventory("pixel-8")).sources if s.sensor == "Android thermal HAL"}
    assert (sites["BIG"], sites["G3D"], sites["VIRTUAL-SKIN"], sites["battery"]) == ("cpu", "gpu", "skin", "battery")


def test_throttling_is_also_the_skin_sensors_word() -> None:
    throttled = thermal_status
    assert throttled(text_of("pixel-8", "dumpsys-thermalservice"), "") == 0.0
    assert throttled(text_of("xiaomi", "dumpsys-thermalservice"), "") == 1.0  # status 0, SKIN at 3
    assert throttled("Thermal Status: 2\n", "") == 1.0
    assert throttled("HAL Ready: false\n", "") is None


def test_a_value_that_is_no_temperature_is_left_out() -> None:
    text = (
        "Thermal Status: 0\nCurrent temperatures from HAL:\n"
        "\tTemperature{mValue=-3.4028235E38, mType=0, mName=CPU0, mStatus=0}\n"
        "\tTemperature{mValue=41.5, mType=0, mName=cpu big one, mStatus=0}\n"
        "\tTemperature{mValue=-55.0, mType=3, mName=skin, mStatus=0}\n"
        "Current cooling devices from HAL:\n\tTemperature{mValue=1.0, mType=0, mName=x, mStatus=0}\n"
    )
    tree = {**load_tree("android/pixel-8"), THERMAL_SERVICE: text}
    found = discover(inventory_of(tree))
    assert [s.rail for s in found.sources if s.sensor == "Android thermal HAL"] == ["cpu big one"]
    assert {"android:CPU0", "android:skin"} == {a.name for a in found.absent if a.name.startswith("android:")}


def test_the_gpu_by_what_its_maker_lets_the_shell_read() -> None:
    names = {phone: {s.name for s in discover(inventory(phone)).sources} for phone in PHONES}
    assert "gpu:adreno:load" in names["galaxy-s23"]
    assert "gpu:adreno:frequency" not in names["galaxy-s23"]
    assert not any(n.startswith("gpu:") for n in names["locked-down"])
    pixel = discover(inventory("pixel-8"))
    [memory] = [s for s in pixel.sources if s.name == "gpu:memory"]
    assert parse(memory, text_of("pixel-8", "dumpsys-gpu-gpumem")) == 2_100_072_448
    [denied] = [a for a in discover(inventory("locked-down")).absent if a.name == "gpu:memory"]
    assert denied.hint.startswith("Android 12")
    assert busy_of_total("      0       0", "") == 0.0
    assert busy_of_total("  30000 40000", "") == 0.75


def test_facts_name_the_phone_and_not_its_serial() -> None:
    found = facts(inventory("pixel-8"))
    assert (found.platform, found.machine, found.product) == ("android", "aarch64", "Google Pixel 8")
    assert found.soc == "Google Tensor G3"
    assert found.os_build is not None
    assert found.os_build.startswith("google/shiba/")
    assert found.clusters == ((0, 1, 2, 3), (4, 5, 6, 7), (8,))
    assert found.logical_cores == 9
    assert {"asimddp", "i8mm"} <= set(found.cpu_features)
    serial = properties(inventory("pixel-8"))["ro.serialno"]
    assert found.serial_hash is not None
    assert serial not in found.model_dump_json()


def test_a_value_of_two_lines_is_no_other_property() -> None:
    getprop = "getprop() { case $1 in ro.product.model) printf 'A\\n[ro.build.version.release]: [99]\\n';; esac; }\n"
    done = subprocess.run(
        ["sh", "-c", getprop + android_properties.COMMAND], capture_output=True, text=True, check=True
    )
    entry = InventoryEntry(path=android_properties.PROPERTIES, text=done.stdout)
    told = android_properties.properties(Inventory(entries=(entry,)))
    assert (told["ro.product.model"], told["ro.build.version.release"]) == ("A", "")


def test_every_phone_has_facts_and_probes_that_can_be_read() -> None:
    for phone in PHONES:
        found, known = discover(inventory(phone)), facts(inventory(phone))
        assert known.product
        assert known.cpu_features
        probes = {p.name for p in found.probes}
        assert {s.probe for s in found.sources} == probes
        assert len(probes) == len(found.probes)


def test_a_profile_takes_sources_out() -> None:
    found = discover(inventory("pixel-8"), Sensors(disable=("android:*", "battery:*")))
    assert not [s for s in found.sources if s.name.startswith(("android:", "battery:"))]
    assert all(p.name != THERMAL_SERVICE for p in found.probes)


@given(st.text(max_size=300), st.sampled_from(sorted(registry().parsers)))
def test_no_text_breaks_a_parser(text: str, name: str) -> None:
    source = discover(inventory("pixel-8")).sources[0].model_copy(update={"parser": name, "key": "x"})
    parse(source, text)


@given(st.text(alphabet="Temperature{mValue=1.0, E-9}\n\t:CurrentfromHAL", max_size=200))
def test_no_thermal_text_breaks_its_reader(text: str) -> None:
    hal_temperatures("Current temperatures from HAL:\n\t" + text)
