"""Joules of runs on boards in boxes, against what the boards drew."""

import os
import threading
from pathlib import Path

import pytest
import yaml

import melt
from melt.execution.plan import run
from melt.report import write_report
from tests.doubles.board.box import BoardBox
from tests.doubles.board.network import Network
from tests.doubles.paced.fixture import paced
from tests.drivers.boards import BOARDS, Box, a_profile, box, nano
from tests.drivers.conftest import enrol_all, ssh_profile_of
from tests.support.cli import melt_cli
from tests.support.joules import meet_the_truth, steady
from tests.support.plans import a_plan

__all__ = ["box", "nano", "paced"]
pytestmark = pytest.mark.root


@pytest.mark.timing
def test_joules_of_inference_meet_the_truth(
    nano: BoardBox, tmp_path: Path, tiny_model: Path, kept_builds: None
) -> None:
    plan = a_plan(
        a_profile(nano, tmp_path / "nano.yaml"),
        tiny_model,
        runners=("native",),
        context=(9000,),  # two seconds of either phase, and more: twenty periods of the sensor
        gen=(1200,),
        iterations=1,
        idle_s=1.0,
    )
    run(plan, tmp_path / "results")
    assert len(meet_the_truth(tmp_path / "results", nano.true_energy_j)) == 1


# One a way to read them: an older kernel's files, a program of NVIDIA's, a firmware; hwmon is in the test below.
IN_THE_GATE = ("xavier-nx-jetpack4", "tegrastats", "raspberry-pi-5")
OF_ALL = [n if n in IN_THE_GATE else pytest.param(n, marks=pytest.mark.long(part="joules")) for n in BOARDS]


@pytest.mark.parametrize("name", OF_ALL)
def test_joules_meet_the_truth_on_every_board(
    name: str, box: Box, tmp_path: Path, tiny_model: Path, paced: Path
) -> None:
    """Of a Raspberry Pi 5 its firmware is asked, and of a Jetson whose rails may not be read tegrastats."""
    board = box(**BOARDS[name])
    enrol_all(ssh_profile_of(board))
    run(a_plan(a_profile(board, tmp_path / "board.yaml"), tiny_model, **steady(6.0)), tmp_path / "results")
    assert len(meet_the_truth(tmp_path / "results", board.true_energy_j)) == 1


def test_each_rail_has_its_share_of_the_joules(box: Box, tmp_path: Path, tiny_model: Path, paced: Path) -> None:
    board = box(**BOARDS["agx-orin"])
    enrol_all(ssh_profile_of(board))
    run(a_plan(a_profile(board, tmp_path / "agx.yaml"), tiny_model, **steady(6.0)), tmp_path / "results")
    results = melt.load(tmp_path / "results")
    [row], rails = results.runs.to_dict("records"), results.rails.set_index("rail")
    shares = rails["energy_decode_j"] / row["energy_decode_j"]
    expected = {"VDD_GPU_SOC": 0.5, "VDD_CPU_CV": 0.2, "VIN_SYS_5V0": 0.3}
    assert shares[list(expected)].to_dict() == pytest.approx(expected, abs=0.02)
    assert rails["counts_in_total"].to_dict() == {**dict.fromkeys(expected, True), "VDDQ_VDD2_1V8AO": False}
    assert rails.loc["VDDQ_VDD2_1V8AO", "power_decode_w"] == pytest.approx(0.7, abs=0.01)  # as recorded: 5 V, 140 mA
    page = write_report(results, tmp_path / "report").read_text()
    assert "Energy by rail" in page
    assert "VDDQ_VDD2_1V8AO" in page


@pytest.mark.long(part="joules")
def test_joules_by_power_mode_meet_the_truth(
    nano: BoardBox, tmp_path: Path, tiny_models: dict[str, Path], paced: Path
) -> None:
    """A Transformer and a Mamba in two modes by the command line, as a desk would ask for it."""
    profile = a_profile(nano, tmp_path / "nano.yaml")
    models = [w for kind in ("transformer", "ssm") for w in ("--model", str(tiny_models[kind]))]
    paces = "{base_ms: 2500, decode_ms: 25, prefill_cores: 1, decode_cores: 0.6}"
    done = melt_cli(
        *("run", "--device", profile, *models, "--power-mode", "15W", "--power-mode", "25W", "--backend", "paced"),
        *("--context", "64", "--gen", "100", "--iterations", "1", "--sessions", "1", "--set", f"options={paces}"),
        *("--results", str(tmp_path / "results"), "--out", str(tmp_path / "report")),
    )
    assert done.returncode == 0, done.stderr
    assert nano.mode == 1  # as it was
    by_mode: dict[str, list[float]] = {}
    for row in meet_the_truth(tmp_path / "results", nano.true_energy_j):
        by_mode.setdefault(row["power_mode"], []).append(row["mean_power_w"])
    assert {mode: len(found) for mode, found in by_mode.items()} == {"15W": 2, "25W": 2}
    assert min(by_mode["25W"]) > max(by_mode["15W"])
    page = (tmp_path / "report" / "index.html").read_text()
    assert "15W, 25W" in page  # of the device
    assert page.count("power mode 15W") >= 1
    assert page.count("power mode 25W") >= 1


def test_two_boards_at_once_one_behind_the_other_and_a_bad_link(
    box: Box, home: Path, tmp_path: Path, tiny_model: Path, paced: Path
) -> None:
    with Network() as network:
        near_place = network.place()
        far_place = network.place(behind=near_place)
        near, far = box(place=near_place), box(place=far_place)
        # What goes to and from the far board has 4 MB/s, and a queue that a burst overflows.
        far_place.limit(4e6, 12_000)
        with (home / ".ssh" / "config").open("a") as config:
            config.write(f"Host far\n  HostName {far.address}\n  ProxyJump {near.address}\n")
        profiles = [a_profile(near, tmp_path / "near.yaml")]
        enrol_all(ssh_profile_of(near))
        behind = ssh_profile_of(far, name="far", address={"host": "far"}, sensors={"period_ms": 20})
        enrol_all(behind)
        (tmp_path / "far.yaml").write_text(yaml.safe_dump(behind.model_dump(mode="json", exclude_defaults=True)))
        profiles.append(str(tmp_path / "far.yaml"))

        def measure(profile: str) -> None:
            run(a_plan(profile, tiny_model, **steady(4.0)), tmp_path / f"results-{Path(profile).stem}")

        threads = [threading.Thread(target=measure, args=(p,)) for p in profiles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
        assert len(meet_the_truth(tmp_path / "results-near", near.true_energy_j)) == 1
        assert len(meet_the_truth(tmp_path / "results-far", far.true_energy_j)) == 1
        assert far_place.lost_packets() > 0
        assert os.listdir(far.folder / "work")  # noqa: PTH208 - it went there and not to the near one
