"""Jetsons in boxes: their rails, power modes and clocks, joules with a known truth, and the ways to them."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

import melt
from melt.drivers.ssh.driver import SshDriver
from melt.errors import DeviceError, PlanError
from melt.execution.plan import run
from melt.report import write_report
from melt.spec.events import ModelLoaded
from melt.store.store import Store
from melt.telemetry.source import Discovery
from tests.doubles.board.box import BoardBox
from tests.doubles.board.network import Network, Place
from tests.doubles.sshd import Sshd
from tests.drivers.conftest import enrol_all, ssh_profile_of
from tests.support.cli import melt_cli
from tests.support.plans import When, a_plan, timed
from tests.telemetry.replay import Sensor, ina3221, load_tree

pytestmark = pytest.mark.root

VDD_IN = ina3221("1-0040", "hwmon1", 1, 5160)  # of an Orin Nano, the whole module
AGX_ORIN = [
    ina3221("1-0040", "hwmon3", n, mv, share) for n, mv, share in ((1, 19928, 0.5), (2, 19928, 0.2), (3, 5008, 0.3))
]
XAVIER_NX = ina3221("7-0040", "hwmon4", 1, 5120)
THOR = Sensor("/sys/class/hwmon/hwmon4/power1_input", lambda w, _j: w * 1e6)
OLD_XAVIER = Sensor("/sys/bus/i2c/drivers/ina3221x/7-0040/iio:device0/in_power0_input", lambda w, _j: w * 1e3)
IDLE_W = 4.0
Box = Callable[..., BoardBox]


@pytest.fixture
def box(tmp_path: Path, home: Path) -> Iterator[Box]:
    """Makes boards that draw 4 W at rest, and by their power mode more for each busy core."""
    with ExitStack() as ending:

        def make(
            device: str = "jetson-orin-nano",
            sensors: list[Sensor] | None = None,
            changes: Mapping[str, Any] | None = None,
            place: Place | None = None,
            core_w: Mapping[int, float] | None = None,
        ) -> BoardBox:
            by_mode = core_w or {0: 2.0, 1: 5.0, 2: 8.0}
            folder = tmp_path / f"{device}{len(list(tmp_path.iterdir()))}"
            board = ending.enter_context(
                BoardBox(folder, device, [VDD_IN] if sensors is None else sensors, IDLE_W, by_mode, changes, place)
            )
            board.authorised.write_text((home / ".ssh" / "id_ed25519.pub").read_text())
            return board

        yield make


@pytest.fixture
def nano(box: Box) -> BoardBox:
    """An Orin Nano in mode 1, 25W, whose chip has a new figure every 20 ms: ten of them are in the shortest phase."""
    board = box(changes={f"{VDD_IN.path.rsplit('/', 1)[0]}/update_interval": "20\n"})
    enrol_all(ssh_profile_of(board))
    return board


@pytest.fixture
def driver(nano: BoardBox) -> Iterator[SshDriver]:
    opened = SshDriver(ssh_profile_of(nano))
    yield opened
    opened.close()


def held(board: BoardBox) -> dict[str, str]:
    opened = SshDriver(ssh_profile_of(board))
    try:
        return dict(opened.held())
    finally:
        opened.close()


def a_profile(board: Sshd, path: Path, **more: object) -> str:
    """Its file; the board's sensors are read every 20 ms."""
    profile = ssh_profile_of(board, name=path.stem, sensors={"period_ms": 20}, **more)
    path.write_text(yaml.safe_dump(profile.model_dump(mode="json", exclude_defaults=True)))
    return str(path)


def discovered(board: BoardBox) -> Discovery:
    enrol_all(ssh_profile_of(board))
    opened = SshDriver(ssh_profile_of(board))
    try:
        return opened.discover()
    finally:
        opened.close()


def meet_the_truth(results: Path, board: BoardBox) -> list[dict[Any, Any]]:
    """Holds every run's joules of decoding against what the board drew meanwhile; gives the runs' rows.

    Within 2 %, or as near as the run itself says it can be where the tests' machine kept the sampler from reading.
    """
    runs, _ = Store(results).runs()
    truth_j = {
        made.manifest.run_id: sum(board.true_energy_j(p.token_t_ns[0], p.token_t_ns[-1]) for p in timed(made))
        for made in runs
        if made.manifest.status == "ok"
    }
    rows: list[dict[Any, Any]] = melt.load(results).runs.to_dict("records")
    assert len(truth_j) == len(rows), [m.manifest.error for m in runs]
    for row in rows:
        near = pytest.approx(truth_j[row["run_id"]], rel=0.02, abs=3 * row["energy_decode_method_uncertainty_j"])
        assert row["energy_decode_j"] == near
        assert row["decode_j_per_token"] * (row["gen_tokens"] - 1) == near
    return rows


LONG: dict[str, Any] = {"context": (4000,), "gen": (3500,), "iterations": 1, "idle_s": 1.0}  # phases of seconds


class TestConditions:
    def test_its_facts_and_rails_are_the_recorded_ones(self, driver: SshDriver) -> None:
        assert (driver.facts().power_mode, driver.facts().clocks) == ("25W", "free")
        total = [s for s in driver.discover().sources if s.counts_in_total]
        assert [s.rail for s in total] == ["VDD_IN"]

    def test_a_power_mode_is_set_verified_and_put_back(self, nano: BoardBox, driver: SshDriver) -> None:
        assert driver.condition({"power_mode": "15W"}) == ()
        assert nano.mode == 0
        [refused] = driver.condition({"power_mode": "60W"})
        assert refused.hint == "Known: 15W, 25W, MAXN_SUPER."
        driver.close()
        assert nano.mode == 1

    def test_a_mode_that_needs_a_reboot_is_refused(self, nano: BoardBox, driver: SshDriver) -> None:
        (nano.folder / "root/etc/needs-reboot").write_text("2\n")
        [refused] = driver.condition({"power_mode": "MAXN_SUPER"})
        assert "takes a reboot" in refused.reason
        assert nano.mode == 1

    def test_clocks_are_locked_in_each_mode_and_freed_afterwards(self, nano: BoardBox, driver: SshDriver) -> None:
        policy = nano.folder / "root/sys/devices/system/cpu/cpufreq/policy0"

        def limits() -> list[str]:
            return [(policy / f"scaling_{f}_freq").read_text().strip() for f in ("min", "max")]

        assert driver.condition({"clocks": "locked"}) == ()
        assert limits() == ["1510400", "1510400"]
        assert driver.condition({"clocks": "locked", "power_mode": "MAXN_SUPER"}) == ()
        assert limits() == ["1710400", "1710400"]
        assert driver.condition({"clocks": "locked", "power_mode": "15W"}) == ()
        assert limits() == ["1510400", "1510400"]
        driver.close()
        assert nano.mode == 1
        assert limits() == ["729600", "1610400"]  # mode 1 as nvpmodel sets it
        gpu = nano.folder / "root/sys/class/devfreq/17000000.gpu/min_freq"
        assert gpu.read_text().strip() == "306000000"
        assert not list((nano.folder / "work").glob("conditions.json*"))

    def test_clocks_that_somebody_has_locked_stay_so(self, nano: BoardBox, driver: SshDriver) -> None:
        for least in nano.folder.glob("root/sys/**/*min_freq"):
            least.write_text(least.with_name(least.name.replace("min", "max")).read_text())
        assert driver.facts().clocks == "locked"
        assert driver.condition({"clocks": "locked"}) == ()
        driver.close()
        least = nano.folder / "root/sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq"
        assert least.read_text().strip() == "1510400"

    def test_a_mode_that_it_does_not_have_is_refused_before_anything_is_sent(
        self, nano: BoardBox, tmp_path: Path, tiny_model: Path, kept_builds: None
    ) -> None:
        profile = a_profile(nano, tmp_path / "nano.yaml")
        with pytest.raises(PlanError, match="nano: has no power mode '60W'") as e:
            run(a_plan(profile, tiny_model, power_mode=("60W",)), tmp_path / "results")
        assert e.value.hint == "It has 15W, 25W, MAXN_SUPER."
        assert not list((nano.folder / "work/files").iterdir())  # nothing was sent

    def test_clocks_that_somebody_has_locked_are_locked_again_after_another_mode(
        self, nano: BoardBox, driver: SshDriver
    ) -> None:
        for least in nano.folder.glob("root/sys/**/*min_freq"):
            least.write_text(least.with_name(least.name.replace("min", "max")).read_text())
        assert driver.condition({"power_mode": "15W"}) == ()
        assert driver.held() == {"governor": "schedutil", "clocks": "gpu locked", "power_mode": "15W"}
        driver.close()
        assert held(nano) == {"governor": "schedutil", "clocks": "locked", "power_mode": "25W"}

    def test_what_cannot_be_put_back_is_told_and_tried_again(self, nano: BoardBox, driver: SshDriver) -> None:
        assert driver.condition({"power_mode": "15W"}) == ()
        tool = nano.folder / "bin" / "nvpmodel"
        honest = tool.read_text()
        tool.write_text(honest.replace("-m)", "-m) exit 0 ;;\n-x)"))  # says yes and does nothing
        with pytest.raises(DeviceError, match=r"could not be put back as it was: power_mode 1: .* still says '0'"):
            driver.close()
        again = SshDriver(ssh_profile_of(nano))
        [left] = again.condition({})
        assert left.name == "power_mode"
        tool.write_text(honest)
        again.close()
        assert nano.mode == 1

    def test_a_run_is_kept_under_what_held_and_not_under_what_was_found(
        self, nano: BoardBox, tmp_path: Path, tiny_model: Path, kept_builds: None
    ) -> None:
        conditions = {"power_mode": "15W", "clocks": "locked", "governor": "performance"}
        profile = a_profile(nano, tmp_path / "nano.yaml", conditions=conditions)
        plan = a_plan(profile, tiny_model, runners=("native",))
        [made] = run(plan, tmp_path / "results").made
        for name, value in conditions.items():
            assert getattr(made.manifest.device, name) == value
            assert made.manifest.passport[name] == value
        assert run(plan, tmp_path / "results").already_there == 1
        assert held(nano) == {"governor": "schedutil", "clocks": "free", "power_mode": "25W"}

    def test_a_mode_that_somebody_changes_in_mid_run_fails_it(
        self, nano: BoardBox, tmp_path: Path, tiny_model: Path, kept_builds: None
    ) -> None:
        status = nano.folder / "root/var/lib/nvpmodel/status"
        plan = a_plan(
            a_profile(nano, tmp_path / "nano.yaml"), tiny_model, runners=("native",), power_mode=("15W",), retries=0
        )

        def change() -> None:
            status.write_text("pmode:0002\n")

        watcher = When(ModelLoaded, change)
        [made] = run(plan, tmp_path / "results", watcher).made
        assert made.manifest.error is not None
        assert "power_mode was 15W and is MAXN_SUPER" in made.manifest.error.message


class TestMeasuredOnItself:
    """melt runs on the board, whose device is ``local``."""

    def test_it_is_held_in_each_power_mode_with_its_clocks_locked_and_put_back(
        self, nano: BoardBox, tmp_path: Path, tiny_model: Path
    ) -> None:
        conditions = {"clocks": "locked", "governor": "performance"}
        profile = {"name": "jetson", "driver": "local", "conditions": conditions, "sensors": {"period_ms": 20}}
        (tmp_path / "jetson.yaml").write_text(yaml.safe_dump(profile))
        measure = ["run", "--device", str(tmp_path / "jetson.yaml"), "--model", str(tiny_model), "--runner", "python"]
        few = ["--context", "64", "--gen", "32", "--sessions", "1", "--iterations", "1", "--threads", "1"]
        modes = ["--power-mode", "15W", "--power-mode", "25W", "--results", str(tmp_path / "results"), "--no-report"]
        melt_there = nano.inside(sys.executable, "-m", "melt")
        done = subprocess.run([*melt_there, *measure, *few, *modes], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        runs, _ = Store(tmp_path / "results").runs()
        assert sorted(str(made.manifest.device.power_mode) for made in runs) == ["15W", "25W"]
        for made in runs:
            assert made.manifest.cell.power_mode == made.manifest.device.power_mode
            assert (made.manifest.device.clocks, made.manifest.device.governor) == ("locked", "performance")
            assert [s.rail for s in made.manifest.telemetry.sources if s.counts_in_total] == ["VDD_IN"]
        assert held(nano) == {"governor": "schedutil", "clocks": "free", "power_mode": "25W"}


class TestSensors:
    def test_a_part_that_is_off_is_named_and_its_zone_is_read_when_it_comes_on(self, nano: BoardBox) -> None:
        found = discovered(nano)
        reasons = {a.name: a.reason for a in found.absent}
        assert "EAGAIN" in reasons["thermal:cv0-thermal"]
        assert "thermal:cv0-thermal" in [s.name for s in found.sources]

    def test_rails_that_may_not_be_read_are_named_and_tegrastats_stands_in(self, box: Box) -> None:
        found = discovered(box(changes=DENIED))
        reasons = {a.name: a.reason for a in found.absent}
        assert reasons["ina3221:1-0040:1:VDD_IN"] == "reading it is not permitted (EACCES)"
        assert [s.name for s in found.sources if s.counts_in_total] == ["tegrastats:VDD_IN"]

    def test_the_doctor_says_what_is_missing_and_how_to_get_it(self, box: Box, tmp_path: Path) -> None:
        board = box(changes=DENIED)
        enrol_all(ssh_profile_of(board))
        done = melt_cli("doctor", "--device", a_profile(board, tmp_path / "nano.yaml"))
        assert "ina3221:1-0040:1:VDD_IN: absent: reading it is not permitted" in done.stdout
        assert "energy: tegrastats:VDD_IN" in done.stdout


DENIED = {p: {"error": "EACCES"} for p in load_tree("jetson-orin-nano") if "ina3221/" in p and p.endswith("_input")}
BOARDS: dict[str, dict[str, Any]] = {
    "agx-orin": {"device": "jetson-agx-orin", "sensors": AGX_ORIN},
    "xavier-nx": {"device": "jetson-xavier-nx", "sensors": [XAVIER_NX], "core_w": {7: 5.0}},
    "xavier-nx-jetpack4": {"device": "jetson-xavier-nx/tree-jetpack4", "sensors": [OLD_XAVIER], "core_w": {2: 5.0}},
    "thor": {"device": "jetson-thor", "sensors": [THOR]},
    "tegrastats": {"changes": DENIED},
    "raspberry-pi-5": {"device": "raspberry-pi-5", "sensors": []},
}


@pytest.mark.timing
@pytest.mark.slow
@pytest.mark.parametrize("name", BOARDS)
def test_joules_meet_the_truth_on_every_board(
    name: str, box: Box, tmp_path: Path, tiny_model: Path, kept_builds: None
) -> None:
    """Of a Raspberry Pi 5 its firmware is asked, and of a Jetson whose rails may not be read tegrastats."""
    board = box(**BOARDS[name])
    enrol_all(ssh_profile_of(board))
    profile = a_profile(board, tmp_path / "board.yaml")
    run(a_plan(profile, tiny_model, runners=("native",), **LONG), tmp_path / "results")
    assert len(meet_the_truth(tmp_path / "results", board)) == 1


@pytest.mark.timing
@pytest.mark.slow
def test_each_rail_has_its_share_of_the_joules(box: Box, tmp_path: Path, tiny_model: Path, kept_builds: None) -> None:
    board = box(**BOARDS["agx-orin"])
    enrol_all(ssh_profile_of(board))
    run(a_plan(a_profile(board, tmp_path / "agx.yaml"), tiny_model, runners=("native",), **LONG), tmp_path / "results")
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


@pytest.mark.timing
@pytest.mark.slow
def test_joules_by_power_mode_meet_the_truth(
    nano: BoardBox, tmp_path: Path, tiny_models: dict[str, Path], kept_builds: None
) -> None:
    """A Transformer and a Mamba in two modes by the command line, as a desk would ask for it."""
    profile = a_profile(nano, tmp_path / "nano.yaml")
    models = [w for kind in ("transformer", "ssm") for w in ("--model", str(tiny_models[kind]))]
    done = melt_cli(
        *("run", "--device", profile, *models, "--power-mode", "15W", "--power-mode", "25W", "--runner", "native"),
        *("--context", "2000", "--gen", "4000", "--iterations", "1", "--sessions", "1", "--threads", "1"),
        *("--results", str(tmp_path / "results"), "--out", str(tmp_path / "report")),
    )
    assert done.returncode == 0, done.stderr
    assert nano.mode == 1  # as it was
    by_mode: dict[str, list[float]] = {}
    for row in meet_the_truth(tmp_path / "results", nano):
        by_mode.setdefault(row["power_mode"], []).append(row["mean_power_w"])
    assert {mode: len(found) for mode, found in by_mode.items()} == {"15W": 2, "25W": 2}
    assert min(by_mode["25W"]) > max(by_mode["15W"])
    page = (tmp_path / "report" / "index.html").read_text()
    assert "15W, 25W" in page  # of the device
    assert page.count("power mode 15W") >= 1
    assert page.count("power mode 25W") >= 1


@pytest.mark.timing
@pytest.mark.slow
def test_two_boards_at_once_one_behind_the_other_and_a_bad_link(
    box: Box, home: Path, tmp_path: Path, tiny_model: Path, kept_builds: None
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
            plan = a_plan(profile, tiny_model, runners=("native",), **LONG)
            run(plan, tmp_path / f"results-{Path(profile).stem}")

        threads = [threading.Thread(target=measure, args=(p,)) for p in profiles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
        assert len(meet_the_truth(tmp_path / "results-near", near)) == 1
        assert len(meet_the_truth(tmp_path / "results-far", far)) == 1
        assert far_place.lost_packets() > 0
        assert os.listdir(far.folder / "work")  # noqa: PTH208 - it went there and not to the near one
