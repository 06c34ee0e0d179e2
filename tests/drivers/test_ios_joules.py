"""Joules of runs on the simulated iPhone, against what its battery gave."""

from dataclasses import replace
from pathlib import Path

import pytest

from melt.execution.plan import run
from melt.store.store import Store
from tests.doubles.iphone.phone import IPhone
from tests.doubles.paced.fixture import paced
from tests.drivers.iphone import iphone, iphone_profile, melts_app
from tests.support.joules import meet_the_truth, steady
from tests.support.plans import a_plan

__all__ = ["iphone", "paced"]


def test_joules_come_only_with_the_cable_out(iphone: IPhone, tmp_path: Path, tiny_model: Path, paced: Path) -> None:
    """The cable is the tests' own and not the charger's; the gauge has a figure a second."""
    iphone.install(replace(melts_app(), program=paced))
    iphone.battery.plugged_in = False
    run(a_plan(iphone_profile(tmp_path, iphone), tiny_model, **steady(24.0)), tmp_path / "results")
    [row] = meet_the_truth(tmp_path / "results", iphone.battery.true_energy_j, rel=0.05)
    assert row["energy_sensor"] == "fuel gauge"
    assert row["family"] == "transformer"
    [made] = Store(tmp_path / "results").runs()[0]
    [power] = [s for s in made.manifest.telemetry.sources if s.quantity == "power_w"]
    assert power.native_period_s == pytest.approx(1.0, abs=0.5)


@pytest.mark.timing
def test_joules_of_inference_meet_the_truth(
    iphone: IPhone, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a gauge that is quicker than any; of decoding alone, whose length is sure on any machine."""
    monkeypatch.setattr("melt.telemetry.kinds.ios_battery.BATTERY_MS", 100)
    iphone.battery.plugged_in, iphone.battery.update_s = False, 0.1
    plan = a_plan(iphone_profile(tmp_path, iphone), tiny_model, context=(64,), gen=(6000,), iterations=1, idle_s=2.0)
    run(plan, tmp_path / "results")
    [row] = meet_the_truth(tmp_path / "results", iphone.battery.true_energy_j, phases=("decode",))
    assert row["energy_sensor"] == "fuel gauge"
