"""A run stops itself, with the reason, where its device comes beyond the profile's limits."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from melt.doctor.device import check_device
from melt.execution.plan import run
from melt.spec.events import Iteration
from melt.spec.failures import what_to_do
from melt.spec.plan import Plan
from melt.store.manifest import Manifest
from tests.doubles.iphone.phone import IPhone
from tests.doubles.paced.fixture import paced
from tests.doubles.phone.box import PhoneBox
from tests.drivers.conftest import address_of
from tests.drivers.iphone import iphone, iphone_profile, melts_app
from tests.support.joules import steady
from tests.support.plans import When, a_plan, last
from tests.support.profiles import write_profile

__all__ = ["iphone", "paced"]
PASS_S = 20.0
Profile = Callable[[dict[str, object]], str]


def battery_tree(root: Path, percent: int) -> Path:
    """A battery as Linux shows it; gives the file of how full it is."""
    folder = root / "sys/class/power_supply/BAT0"
    folder.mkdir(parents=True)
    for name, text in {"type": "Battery", "status": "Discharging", "temp": "250", "present": "1"}.items():
        (folder / name).write_text(text)
    (folder / "capacity").write_text(str(percent))
    return folder / "capacity"


def stopped(manifest: Manifest) -> str:
    assert manifest.error is not None
    begins = {"limit": "stopped, as the device came", "beyond_limit": "not started, as the device is"}
    assert manifest.error.message.startswith(begins[manifest.error.kind])
    assert manifest.status == "failed"
    assert "`limits` in the device's profile" in what_to_do(manifest.error.kind)  # as the end of a run tells it
    return manifest.error.message


def test_a_battery_that_runs_low_ends_the_run_it_falls_in(tmp_path: Path, tiny_model: Path, paced: Path) -> None:
    capacity = battery_tree(tmp_path / "tree", 50)
    profile = write_profile(tmp_path / "laptop.yaml", "local", sensors={"root": str(tmp_path / "tree")})

    def discharge() -> None:
        with capacity.open("r+") as file:  # in place, as sysfs changes
            file.write("14")

    plan = a_plan(profile, tiny_model, **{**steady(1.0), "iterations": 20}, sessions=4, retries=2)
    outcome = run(plan, tmp_path / "results", When(Iteration, discharge))
    first, second = outcome.made
    message = stopped(first.manifest)
    assert message.endswith("its battery has 14 % left, less than 15 %, and is not charged")
    assert message.startswith("stopped, as")
    n_before = len([e for e in first.events() if isinstance(e, Iteration)])
    assert 1 <= n_before < 15  # seconds after it was so, and what was said before is kept
    assert (first.folder / "telemetry.jsonl").read_text().count("BAT0") > 0
    assert stopped(second.manifest).startswith("not started, as")
    assert [c.device for c in outcome.not_tried] == ["laptop"]  # the other sessions would fare no better
    assert second.manifest.cooldown_s is None  # nobody waits for an empty battery to cool


def on_a_phone(phone: PhoneBox, folder: Path) -> Profile:
    host, port = address_of(phone)
    address = {"host": host, "port": port, "connector": "direct"}
    return lambda limits: write_profile(folder / "phone.yaml", "adb", address=address, limits=limits)


@pytest.mark.root
def test_a_phone_that_is_warmer_than_it_may_be_does_not_start_and_is_stopped(
    phone: PhoneBox, tmp_path: Path, tiny_model: Path, paced: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = on_a_phone(phone, tmp_path)({"battery_c": 10.0})
    [told] = [c for c in check_device(profile) if c.name == "limits"]
    assert (told.state, told.found.partition(" (")[0]) == ("warning", "its battery")
    plan = a_plan(profile, tiny_model, **steady(PASS_S), cooldown={"limit_s": 0.0})
    assert stopped(last(run(plan, tmp_path / "results")).manifest).startswith("not started, as")
    stops_while_it_runs(plan, tmp_path / "again", monkeypatch)


def test_an_iphone_too(
    iphone: IPhone, tmp_path: Path, tiny_model: Path, paced: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iphone.install(replace(melts_app(), program=paced))
    iphone.battery.plugged_in = False
    profile = iphone_profile(tmp_path, iphone, limits={"battery_percent": 90})  # it has 80
    plan = a_plan(profile, tiny_model, **steady(PASS_S))
    assert "has 80 % left" in stopped(last(run(plan, tmp_path / "results")).manifest)
    stops_while_it_runs(plan, tmp_path / "again", monkeypatch)


def stops_while_it_runs(plan: Plan, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what is heard meanwhile, where nothing was seen before."""
    monkeypatch.setattr("melt.execution.limits.wait_below", lambda *_: 0.0)
    made = last(run(plan, results))
    assert stopped(made.manifest).startswith("stopped, as")
    assert not [e for e in made.events() if isinstance(e, Iteration)]
