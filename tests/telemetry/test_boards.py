"""What Jetsons and Raspberry Pis tell beyond any Linux machine, from recorded files and answers."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.spec.profile import Sensors
from melt.telemetry import linux
from melt.telemetry.kinds import raspberry, tegrastats
from melt.telemetry.registry import parse
from melt.telemetry.source import Discovery
from tests.telemetry.replay import DATA, inventory_of, load_tree

NANO, AGX, XAVIER, THOR, PI5 = (
    "jetson-orin-nano",
    "jetson-agx-orin",
    "jetson-xavier-nx",
    "jetson-thor",
    "raspberry-pi-5",
)
TOOLS = DATA / "jetson-tools"
FAMILIES = sorted((DATA / "jetson-tegrastats").glob("*.txt"))


def lines(family: str) -> list[str]:
    return (DATA / "jetson-tegrastats" / f"{family}.txt").read_text().splitlines()


def discover(tree: dict[str, Any], **sensors: Any) -> Discovery:
    return linux.discover(inventory_of(tree), Sensors(**sensors))


def total(found: Discovery) -> list[str]:
    return [s.name for s in found.sources if s.counts_in_total]


def absent(found: Discovery, name: str) -> str:
    return next(f"{a.reason} | {a.hint}" for a in found.absent if a.name == name)


def without_rails(device: str) -> dict[str, Any]:
    return {p: t for p, t in load_tree(device).items() if "ina3221" not in str(t) + p}


class TestTegrastats:
    @pytest.mark.parametrize(
        ("family", "number", "expected"),
        [
            ("orin-nano", 0, {"VDD_IN": 4761, "VDD_CPU_GPU_CV": 515, "VDD_SOC": 1428}),
            ("agx-orin", 3, {"VDD_GPU_SOC": 2265, "VDD_CPU_CV": 2643, "VIN_SYS_5V0": 4722}),
            ("agx-xavier", 0, {"GPU": 463, "CPU": 618, "SOC": 2936, "CV": 0, "VDDRQ": 309, "SYS5V": 3306}),
            ("xavier-nx", 0, {"VDD_IN": 14703, "VDD_CPU_GPU_CV": 10874, "VDD_SOC": 1405}),
            ("xavier-nx", 3, {}),  # without root
            ("xavier-nx", 4, {"VDD_IN": 5079, "VDD_CPU_GPU_CV": 696, "VDD_SOC": 1104}),
            ("nano", 0, {"POM_5V_IN": 2746, "POM_5V_GPU": 159, "POM_5V_CPU": 796}),
            ("tx2", 3, {"VDD_IN": 3177, "VDD_CPU": 536, "VDD_GPU": 383, "VDD_SOC": 536, "VDD_WIFI": 0, "VDD_DDR": 575}),
            ("thor", 4, {"VDD_GPU": 37528, "VDD_CPU_SOC_MSS": 18961, "VIN_SYS_5V0": 18331, "VIN": 87426}),
            ("thor-negative-gpu", 0, {"VDD_GPU": -392, "VDD_CPU_SOC_MSS": 3924, "VIN_SYS_5V0": 5064, "VIN": 15004}),
        ],
    )
    def test_the_rails_of_every_family(self, family: str, number: int, expected: dict[str, float]) -> None:
        assert tegrastats.rails(lines(family)[number]) == expected

    @pytest.mark.parametrize("path", FAMILIES, ids=lambda p: p.stem)
    def test_memory_and_heat_are_no_rails(self, path: Path) -> None:
        for line in path.read_text().splitlines():
            assert not {"RAM", "SWAP", "IRAM", "APE", "EMC_FREQ", "GR3D_FREQ"} & tegrastats.rails(line).keys()

    @pytest.mark.parametrize(
        ("family", "number", "percent", "mhz"),
        [
            ("orin-nano", 6, 55, None),
            ("agx-orin", 5, 12, 1300),
            ("tx2", 0, 0, 140),
            ("xavier-nx", 4, 0, 510),
            ("thor", 5, None, 314),
            ("thor", 3, None, None),
            ("nano", 5, 99, None),
        ],
    )
    def test_the_gpus_load_and_clock(self, family: str, number: int, percent: float | None, mhz: float | None) -> None:
        line = lines(family)[number]
        assert (tegrastats.gpu_percent(line, ""), tegrastats.gpu_mhz(line, "")) == (percent, mhz)

    def test_rails_of_one_label_are_kept_apart(self) -> None:
        assert tegrastats.rails("VDD_IN 5mW/5mW VDD_IN 7mW/6mW") == {"VDD_IN": 5, "VDD_IN#2": 7}

    @given(st.text())
    def test_any_line_is_survived(self, line: str) -> None:
        assert all(isinstance(mw, float) for mw in tegrastats.rails(line).values())

    @pytest.mark.parametrize(
        ("device", "family", "number", "expected"),
        [
            (NANO, "orin-nano", 0, ["VDD_IN"]),
            (AGX, "agx-orin", 0, ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"]),
            (XAVIER, "agx-xavier", 0, ["GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"]),
            (THOR, "thor", 3, ["VIN"]),
            (THOR, "thor", 0, []),  # a carrier without the input's sensor
        ],
    )
    def test_it_stands_in_where_sysfs_has_no_rails(
        self, device: str, family: str, number: int, expected: list[str]
    ) -> None:
        tree = without_rails(device) | {"tegrastats": lines(family)[number]}
        tree = {p: t for p, t in tree.items() if t != "ina238\n"}
        found = discover(tree, period_ms=20)
        assert total(found) == [f"tegrastats:{rail}" for rail in expected]
        (probe,) = (p for p in found.probes if p.name == "tegrastats")
        assert probe.stream == ("tegrastats", "--interval", "100")
        rails = [s for s in found.sources if s.probe == "tegrastats" and s.quantity == "power_w"]
        assert {s.native_period_s for s in rails} == {0.1}
        for s in rails:
            assert parse(s, lines(family)[number]) == tegrastats.rails(lines(family)[number])[s.rail]

    def test_it_is_not_started_where_sysfs_tells_it_all(self) -> None:
        found = discover(load_tree(NANO) | {"tegrastats": lines("orin-nano")[0]})
        assert all(p.stream is None for p in found.probes)
        assert total(found) == ["ina3221:1-0040:1:VDD_IN"]

    def test_rails_that_may_not_be_read_are_named_and_stood_in_for(self) -> None:
        denied = {p: {"error": "EACCES"} for p in load_tree(NANO) if p.endswith(("_input",)) and "ina3221" in p}
        found = discover(load_tree(NANO) | denied | {"tegrastats": lines("orin-nano")[0]})
        assert "not permitted" in absent(found, "ina3221:1-0040:1:VDD_IN")
        assert total(found) == ["tegrastats:VDD_IN"]


class TestRails:
    @pytest.mark.parametrize(
        ("device", "tree", "expected"),
        [
            (XAVIER, "tree.json", ["ina3221:7-0040:1:VDD_IN"]),
            (XAVIER, "tree-jetpack4.json", ["ina3221:7-0040:0:VDD_IN"]),
            (THOR, "tree.json", ["hwmon:hwmon4:ina238:VIN"]),
        ],
    )
    def test_the_total_of_each_board(self, device: str, tree: str, expected: list[str]) -> None:
        assert total(discover(json.loads((DATA / device / tree).read_text()))) == expected

    def test_an_agx_xavier_has_two_inputs_measured_by_six_rails(self) -> None:
        tree = without_rails(XAVIER)
        for chip, hwmon, labels in (
            ("1-0040", "hwmon3", ("GPU", "CPU", "SOC")),
            ("1-0041", "hwmon4", ("CV", "VDDRQ", "SYS5V")),
        ):
            for channel, label in enumerate(labels, 1):
                folder = f"/sys/bus/i2c/drivers/ina3221/{chip}/hwmon/{hwmon}"
                tree |= {f"{folder}/in{channel}_label": label, f"{folder}/in{channel}_input": "19000"}
                tree |= {f"{folder}/curr{channel}_input": "50"}
        assert [name.rsplit(":", 1)[1] for name in total(discover(tree))] == [
            "GPU",
            "CPU",
            "SOC",
            "CV",
            "VDDRQ",
            "SYS5V",
        ]
        again = {p.replace("1-0041", "1-0045"): t for p, t in tree.items() if "1-0041" in p}
        found = discover(tree | again)
        assert total(found) == []
        shared = "several rails are called CV, VDDRQ and SYS5V"
        assert found.why_no_energy == f"{shared}, and which of them the board's total has, nobody can tell"
        assert "sensors: total:" in absent(found, "energy")


class TestOtherSensors:
    def test_a_zone_that_always_says_the_same_is_left_out(self) -> None:
        found = discover(load_tree(XAVIER))
        assert "thermal:PMIC-Die" not in [s.name for s in found.sources]
        assert "always says the same" in absent(found, "thermal:PMIC-Die")

    def test_a_gpu_on_pcie_is_known_by_its_own_name(self) -> None:
        found = discover(load_tree(THOR))
        clocks = [s.name for s in found.sources if s.quantity == "frequency_hz" and s.site == "gpu"]
        assert clocks == ["gpu:gpu-gpc-0:frequency", "gpu:gpu-nvd-0:frequency"]

    def test_memory_that_the_gpu_holds(self) -> None:
        clients = "/sys/kernel/debug/nvmap/iovmm/clients"
        text = (TOOLS / "nvmap-clients-agx-orin-load.txt").read_text()
        (shared,) = (s for s in discover(load_tree(AGX) | {clients: text}).sources if s.name == "gpu:memory")
        assert parse(shared, text.splitlines()[-1]) == 23549320
        assert shared.scale == 1024
        meminfo = load_tree(AGX)["/proc/meminfo"] + "NvMapMemUsed:    141896 kB\n"
        (told,) = (s for s in discover(load_tree(AGX) | {"/proc/meminfo": meminfo}).sources if s.name == "gpu:memory")
        assert parse(told, "NvMapMemUsed:    141896 kB") == 141896
        assert "root alone" in absent(discover(load_tree(AGX)), "gpu:memory")


class TestRaspberryPi:
    @staticmethod
    def answer(name: str) -> str:
        return (DATA / PI5 / f"vcgencmd-{name}.txt").read_text()

    def test_the_power_chips_outputs_and_their_sum(self) -> None:
        text = self.answer("pmic_read_adc-idle")
        found = discover(load_tree(PI5) | {raspberry.POWER: text, raspberry.THROTTLED: "throttled=0x0"})
        rails = [s for s in found.sources if s.probe == raspberry.POWER]
        assert len(rails) == 12
        assert "EXT5V" not in {s.rail for s in rails}  # a voltage alone
        assert total(found) == [s.name for s in rails]
        core = next(s for s in rails if s.rail == "VDD_CORE")
        assert parse(core, text) == pytest.approx(0.94657990 * 0.72097620)
        assert sum(parse(s, text) or 0 for s in rails) == pytest.approx(1.9, abs=0.3)
        assert "firmware:throttled" in [s.name for s in found.sources]

    def test_a_user_who_may_not_ask_is_told_what_to_do(self) -> None:
        refused = self.answer("no-permission")
        found = discover(load_tree(PI5) | {raspberry.POWER: refused, raspberry.THROTTLED: refused})
        assert total(found) == []
        assert "usermod -aG video" in absent(found, raspberry.POWER)

    def test_throttling_is_not_asked_where_a_file_tells_it(self) -> None:
        found = discover(load_tree("raspberry-pi-4") | {raspberry.THROTTLED: "throttled=0x0"})
        assert all(p.exec is None for p in found.probes)

    @given(st.text())
    def test_any_answer_is_survived(self, text: str) -> None:
        raspberry.rails(text)


class TestFacts:
    def test_what_is_installed_and_how_the_fan_is_set(self) -> None:
        cuda = (TOOLS / "cuda-version.json").read_text()
        told = {"jetpack": "6.2+b77", "fan": "FAN1:FAN_PROFILE:cool\nFAN1:FAN_GOVERNOR:cont"}
        facts = linux.facts(inventory_of(load_tree(AGX) | told | {"/usr/local/cuda/version.json": cuda}))
        assert facts.extra == {"jetpack": "6.2+b77", "cuda": json.loads(cuda)["cuda"]["version"], "fan": "cool"}
        assert linux.facts(inventory_of(load_tree(AGX) | {"/usr/local/cuda/version.json": "[[["})).extra == {}

    @pytest.mark.parametrize(
        ("device", "mode", "build"),
        [(XAVIER, "MODE_20W_4CORE", "R35 (release), REVISION: 3.1"), (THOR, "120W", "R38 (release), REVISION: 2.0")],
    )
    def test_power_mode_and_release(self, device: str, mode: str, build: str) -> None:
        facts = linux.facts(inventory_of(load_tree(device)))
        assert facts.power_mode == mode
        assert build in (facts.os_build or "")

    def test_boards_of_one_image_are_told_apart_by_their_serial_numbers(self) -> None:
        one, other = (
            linux.facts(inventory_of(load_tree(NANO) | {"/proc/device-tree/serial-number": f"{n}\0"})) for n in (1, 2)
        )
        assert one.serial_hash != other.serial_hash

    def test_clocks_are_locked_where_none_may_move(self) -> None:
        tree = load_tree(NANO)
        assert linux.facts(inventory_of(tree)).clocks == "free"
        cpu = {p: tree[p.replace("min_freq", "max_freq")] for p in tree if p.endswith("scaling_min_freq")}
        assert linux.facts(inventory_of(tree | cpu)).clocks == "cpu locked"
        gpu = {p: tree[p.replace("min_freq", "max_freq")] for p in tree if p.endswith("/min_freq")}
        facts = linux.facts(inventory_of(tree | cpu | gpu))
        assert facts.clocks == "locked"
        assert facts.passport()["clocks"] == "locked"
        assert linux.facts(inventory_of({})).clocks is None
