"""Conditions of a device, set for a run and put back, and a device that is hot or held by another."""

import os
import sys
from contextlib import closing
from pathlib import Path

import pytest

import melt
from melt.drivers import connect
from melt.drivers.lease import lease
from melt.errors import DeviceError
from melt.execution.plan import run
from melt.store.store import Store
from tests.execution.recorder import Recorder, only
from tests.support.plans import a_plan
from tests.support.profiles import write_profile


def test_a_device_is_measured_by_one_at_a_time(tiny_model: Path, tmp_path: Path) -> None:
    driver = connect(melt.load_profile("local"))
    serial_hash = driver.facts().serial_hash
    driver.close()
    with (
        lease(f"local-{serial_hash or 'local'}"),
        pytest.raises(DeviceError, match=f"local: is being measured by process {os.getpid()}"),
    ):
        run(a_plan("local", tiny_model), tmp_path / "r")
    assert run(a_plan("local", tiny_model), tmp_path / "r").complete


def profile_with_root(tmp_path: Path, **conditions: str) -> None:
    content = {"sensors": {"root": str(tmp_path / "tree")}, "conditions": conditions}
    write_profile(tmp_path / "profiles" / "local.yaml", "local", **content)


def governor_tree(tmp_path: Path) -> Path:
    file = tmp_path / "tree" / "sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
    file.parent.mkdir(parents=True)
    file.write_text("schedutil\n")
    return file


def test_conditions_are_set_for_the_run_and_put_back(tiny_model: Path, tmp_path: Path) -> None:
    governor = governor_tree(tmp_path)
    conditions = {"governor": "performance", "screen": "dim"}
    write_profile(
        tmp_path / "profiles" / "local.yaml", "local", sensors={"root": str(tmp_path / "tree")}, conditions=conditions
    )
    during: list[str] = []
    run(a_plan("local", tiny_model), tmp_path / "r", Recorder(lambda _e: during.append(governor.read_text().strip())))
    assert set(during) == {"performance"}
    assert governor.read_text().strip() == "schedutil"
    assert any("screen" in w for w in Store(tmp_path / "r").runs()[0][0].manifest.warnings)


def test_conditions_left_by_a_host_that_crashed_are_put_back(tmp_path: Path) -> None:
    governor = governor_tree(tmp_path)
    profile_with_root(tmp_path)
    crash = (
        "import os, melt; from melt.drivers import connect;"
        "connect(melt.load_profile('local')).condition({'governor': 'performance'}); os._exit(9)"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", crash]) == 9
    assert governor.read_text().strip() == "performance"
    with closing(connect(melt.load_profile("local"))) as measuring_again:
        measuring_again.condition({})
    assert governor.read_text().strip() == "schedutil"


def test_looking_at_a_device_does_not_undo_what_another_measures_under(tmp_path: Path) -> None:
    governor = governor_tree(tmp_path)
    profile_with_root(tmp_path)
    measuring = connect(melt.load_profile("local"))
    measuring.condition({"governor": "performance"})
    look = "import melt; from melt.drivers import connect; connect(melt.load_profile('local')).close()"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", look]) == 0
    assert governor.read_text().strip() == "performance"
    measuring.close()
    assert governor.read_text().strip() == "schedutil"


def test_a_hot_device_is_waited_for_and_flagged(tiny_model: Path, tmp_path: Path) -> None:
    zone = tmp_path / "tree" / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("x86_pkg_temp\n")
    (zone / "temp").write_text("81500\n")
    profile_with_root(tmp_path)
    cooldown = {"start_below_c": 50, "limit_s": 0.3}
    manifest = only(run(a_plan("local", tiny_model, cooldown=cooldown), tmp_path / "r")).manifest
    assert [f.name for f in manifest.flags] == ["start_temperature_out_of_band"]
    assert manifest.start_temp_c == 81.5
    assert manifest.cooldown_s is not None
    assert manifest.cooldown_s >= 0.3
