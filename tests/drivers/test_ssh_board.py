"""Jetsons in boxes: their rails, power modes and clocks."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from melt.drivers.ssh.driver import SshDriver
from melt.errors import DeviceError, PlanError
from melt.execution.plan import run
from melt.spec.events import ModelLoaded
from melt.spec.facts import MOVED_BY_CONDITIONS
from melt.store.store import Store
from melt.telemetry.source import Discovery
from tests.doubles.board.box import BoardBox
from tests.doubles.paced.fixture import paced
from tests.drivers.boards import DENIED, XAVIER_NX, Box, a_profile, box, nano
from tests.drivers.conftest import enrol_all, ssh_profile_of
from tests.support.cli import melt_cli, without_second_tries
from tests.support.plans import When, a_plan, last

__all__ = ["box", "nano", "paced"]
pytestmark = pytest.mark.root


@pytest.fixture
def driver(nano: BoardBox) -> Iterator[SshDriver]:
    opened = SshDriver(ssh_profile_of(nano))
    yield opened
    opened.close()


def conditions_of(driver: SshDriver) -> dict[str, str]:
    """Those that hold; what else of the state moves with them is left out."""
    return {name: value for name, value in driver.held().items() if name in MOVED_BY_CONDITIONS}


def held(board: BoardBox) -> dict[str, str]:
    opened = SshDriver(ssh_profile_of(board))
    try:
        return conditions_of(opened)
    finally:
        opened.close()


def discovered(board: BoardBox) -> Discovery:
    enrol_all(ssh_profile_of(board))
    opened = SshDriver(ssh_profile_of(board))
    try:
        return opened.discover()
    finally:
        opened.close()


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

    def test_a_mode_of_the_profile_that_is_refused_turns_no_processor_on(
        self, box: Box, tmp_path: Path, tiny_model: Path, paced: Path
    ) -> None:
        """It is measured all the same, and with what is on: its threads, and what the run says of the board."""
        board = box("jetson-xavier-nx", [XAVIER_NX], core_w=dict.fromkeys(range(9), 2.0))
        enrol_all(ssh_profile_of(board))
        (board.folder / "root/etc/needs-reboot").write_text("".join(f"{n}\n" for n in range(9)))
        asked = "MODE_15W_6CORE"
        profile = a_profile(board, tmp_path / "nx.yaml", conditions={"power_mode": asked})
        plan = a_plan(profile, tiny_model, backends=("paced",), threads=(None,))
        made = last(run(plan, tmp_path / "results")).manifest
        assert made.status == "ok"
        assert any("condition power_mode could not be set" in warning for warning in made.warnings)
        assert made.device.mode_cpus[asked] == (0, 1, 2, 3, 4, 5)
        assert made.device.power_mode != asked
        assert made.device.logical_cores == os.cpu_count()
        assert made.job["threads"] == made.device.physical_cores

    def test_a_user_whose_sudo_asks_for_a_password_is_told_the_line_that_lets_it_through(
        self, nano: BoardBox, driver: SshDriver
    ) -> None:
        tools = nano.folder / "bin"
        for name, script in {
            "id": '[ "$1" = -un ] && echo jo || echo 1000',
            "sudo": "echo 'sudo: a password is required' >&2; exit 1",
        }.items():
            (tools / name).write_text(f"#!/bin/sh\n{script}\n")
            (tools / name).chmod(0o755)
        line = f"jo ALL=(root) NOPASSWD: {tools}/nvpmodel, {tools}/jetson_clocks"
        for condition in ({"power_mode": "15W"}, {"clocks": "locked"}):
            [refused] = driver.condition(condition)
            assert refused.reason == "sudo: a password is required"
            assert refused.hint == f"There, by sudo visudo -f /etc/sudoers.d/melt, this line: {line}"
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
        assert conditions_of(driver) == {"governor": "schedutil", "clocks": "gpu locked", "power_mode": "15W"}
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

    def test_what_is_still_changed_where_the_link_is_gone_is_told(self, nano: BoardBox, driver: SshDriver) -> None:
        assert driver.condition({"power_mode": "15W"}) == ()
        nano.stop()
        with pytest.raises(DeviceError, match=r"could not be put back as it was: clocks free: .*; power_mode 1: ") as e:
            driver.close()
        assert e.value.hint == "Set it there by hand, or let the next run do it."
        nano.start()
        again = SshDriver(ssh_profile_of(nano))
        assert again.condition({}) == ()
        again.close()
        assert nano.mode == 1

    def test_what_a_run_that_died_has_left_is_told_by_the_doctor(
        self, nano: BoardBox, driver: SshDriver, tmp_path: Path
    ) -> None:
        assert driver.condition({"power_mode": "15W"}) == ()
        profile = a_profile(nano, tmp_path / "nano.yaml")
        told = "conditions: changed by a run and not put back: clocks was free, power_mode was 1"
        assert told in melt_cli("doctor", "--device", profile).stdout
        driver.close()
        assert "not put back" not in melt_cli("doctor", "--device", profile).stdout

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
        words = without_second_tries([*measure, *few, *modes])
        done = subprocess.run([*melt_there, *words], capture_output=True, text=True, check=False)
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
