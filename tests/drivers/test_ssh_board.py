"""A Jetson in a box: its rails, its power modes, and joules with a known truth."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import melt
from melt.drivers.ssh.driver import SshDriver
from melt.events import Iteration
from melt.session import run
from tests.drivers.test_adb_run import a_plan, timed
from tests.drivers.test_ssh_driver import enrol_all, home, profile_of
from tests.peers.board.box import BoardBox
from tests.telemetry.replay import ina3221

__all__ = ["home"]
RAIL = ina3221("1-0040", "hwmon1", 1, 5160)  # VDD_IN, the whole module


@pytest.fixture
def nano(tmp_path: Path, home: Path) -> Iterator[BoardBox]:
    """An Orin Nano in mode 1, 25W, that draws 4 W at rest and by mode 2 or 5 W more a busy core."""
    with BoardBox(tmp_path / "nano", "jetson-orin-nano", [RAIL], 4.0, {0: 2.0, 1: 5.0, 2: 8.0}) as board:
        board.authorised.write_text((home / ".ssh" / "id_ed25519.pub").read_text())
        enrol_all(profile_of(board))
        yield board


@pytest.fixture
def driver(nano: BoardBox) -> Iterator[SshDriver]:
    opened = SshDriver(profile_of(nano))
    yield opened
    opened.close()


def test_its_facts_and_rails_are_the_recorded_ones(driver: SshDriver) -> None:
    assert driver.facts().power_mode == "25W"
    total = [s for s in driver.discover().sources if s.counts_in_total]
    assert [s.rail for s in total] == ["VDD_IN"]


def test_a_power_mode_is_set_verified_and_put_back(nano: BoardBox, driver: SshDriver) -> None:
    assert driver.condition({"power_mode": "15W"}) == ()
    assert nano.mode == 0
    [refused] = driver.condition({"power_mode": "60W"})
    assert refused.hint == "Known: 15W, 25W, MAXN_SUPER."
    driver.close()
    assert nano.mode == 1


def test_a_mode_that_needs_a_reboot_is_refused(nano: BoardBox, driver: SshDriver) -> None:
    (nano.folder / "root/etc/needs-reboot").write_text("2\n")
    [refused] = driver.condition({"power_mode": "MAXN_SUPER"})
    assert "takes a reboot" in refused.reason
    assert nano.mode == 1


@pytest.mark.slow
def test_joules_by_power_mode_meet_the_truth(
    nano: BoardBox, tmp_path: Path, tiny_model: Path, kept_builds: None
) -> None:
    profile = tmp_path / "nano.yaml"
    address = {"host": "127.0.0.1", "port": nano.port}
    work = str(nano.folder / "work-folder")
    sensors = {"period_ms": 20}
    profile.write_text(
        yaml.safe_dump({"name": "nano", "driver": "ssh", "address": address, "work_folder": work, "sensors": sensors})
    )
    modes = ("15W", "25W")
    plan = a_plan(str(profile), tiny_model, power_mode=modes, context=(4000,), gen=(1500,), iterations=1, idle_s=1.0)
    outcome = run(plan, tmp_path / "results")
    assert outcome.complete, [r.manifest.error for r in outcome.made]
    assert nano.mode == 1  # as it was
    rows = {row["power_mode"]: row for row in melt.load(tmp_path / "results").runs.to_dict("records")}
    for made in outcome.made:
        row = rows[made.manifest.device.power_mode]
        passes: list[Iteration] = timed(made)
        truth_j = sum(nano.true_energy_j(p.token_t_ns[0], p.token_t_ns[-1]) for p in passes)
        assert row["energy_decode_j"] == pytest.approx(truth_j, rel=0.02)
    assert rows["25W"]["mean_power_w"] > rows["15W"]["mean_power_w"] + 1


def test_a_mode_that_it_does_not_have_fails_the_run(
    nano: BoardBox, tmp_path: Path, tiny_model: Path, kept_builds: None
) -> None:
    profile = tmp_path / "nano.yaml"
    address = {"host": "127.0.0.1", "port": nano.port}
    profile.write_text(
        yaml.safe_dump({"name": "nano", "driver": "ssh", "address": address, "work_folder": str(tmp_path / "x")})
    )
    [made] = run(a_plan(str(profile), tiny_model, power_mode=("60W",)), tmp_path / "results").made
    assert made.manifest.error is not None
    assert "60W" in made.manifest.error.message
