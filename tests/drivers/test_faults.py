"""Faults in whole runs, the same for every driver: what is lost is measured again, and what cannot be is told."""

import threading
import time
from collections.abc import Collection
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from melt.execution.executor import Outcome
from melt.execution.plan import run
from melt.spec.events import ModelLoaded
from tests.drivers.faults import FAULTS, Device
from tests.drivers.faulty_devices import DEVICES
from tests.support.plans import AtPhase, When, a_plan, last
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

WORK = {"runners": ("native",), "warmups": 0, "iterations": 1}
LONG = {**WORK, "context": (2000,), "gen": (400,)}  # long enough that a fault at its begin meets it
AWAY_S = 4.0
LOSSES = ("out of reach", "service dies", "restarts")
BY_SECOND_WAYS = {("phone-by-server", "service dies"), ("iphone-17", "out of reach")}
SECOND_WAYS = ("phone-by-server", "iphone-17")  # to a device that is there by its first way too


def each(*faults: str, gate: Collection[tuple[str, str]] = ()) -> list[ParameterSet]:
    """Every device with every one of those faults; by second ways the gate has only those named, the long tests all."""

    def one(device: str, fault: str) -> ParameterSet:
        long = device in SECOND_WAYS and (device, fault) not in gate
        marks = [pytest.mark.long(part="faults")] if long else []
        return pytest.param(device, fault, marks=marks, id=f"{device}-{fault}")

    return [one(device, fault) for device in DEVICES for fault in faults]


@pytest.fixture
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Device:
    return DEVICES[request.param](request, tmp_path)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """How often melt looks, which says nothing of how long an answer may take."""
    monkeypatch.setattr("melt.drivers.remote.process._HEARTBEAT_S", 0.5)
    monkeypatch.setattr("melt.drivers.remote.driver._STRAYS_S", 0.2)
    monkeypatch.setattr("melt.drivers.ios.driver._REPORT_S", 0.5)


def give_up_soon(patch: pytest.MonkeyPatch, device: Device) -> None:
    """From now on a silent device has seconds; not before, when a busy machine may need more."""
    for name, seconds in device.patience.items():
        patch.setattr(name, seconds)


def kinds(outcome: Outcome) -> list[str]:
    """How each attempt ended."""
    return [r.manifest.error.kind if r.manifest.error else "ok" for r in outcome.made]


@pytest.mark.parametrize(("device", "fault"), each(*LOSSES, gate=BY_SECOND_WAYS), indirect=["device"])
def test_a_device_lost_in_mid_run_is_waited_for_and_measured_again(
    fault: str, device: Device, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = threading.Timer(AWAY_S, FAULTS[fault].end, (device,))

    def lose() -> None:
        FAULTS[fault].begin(device)
        if fault == "out of reach" and device.is_silent_when_cut:
            give_up_soon(monkeypatch, device)
        back.start()

    watcher = When(ModelLoaded, lose)
    outcome = run(a_plan(device.profile, tiny_model, **LONG), tmp_path / "results", watcher)
    assert watcher.done.is_set()
    back.join()
    assert kinds(outcome) == ["transient", "ok"]
    assert not outcome.failed
    assert list(last(outcome).telemetry_lines())
    assert not device.at_work()


@pytest.mark.parametrize("phase", ["idle", "collect"])
@pytest.mark.parametrize(("device", "fault"), each("service dies"), indirect=["device"])
def test_a_device_lost_before_or_after_the_runner_is_measured_again(
    phase: str, fault: str, device: Device, tmp_path: Path, tiny_model: Path
) -> None:
    """What the runner said is whole, but where the telemetry cannot be brought, half of a run is none."""
    back = threading.Timer(1.0, FAULTS[fault].end, (device,))

    def lose() -> None:
        FAULTS[fault].begin(device)
        back.start()

    watcher = AtPhase(phase, lose)
    outcome = run(a_plan(device.profile, tiny_model, **WORK), tmp_path / "results", watcher)
    assert watcher.done
    back.join()
    whole = phase == "collect" and device.sends_samples
    assert kinds(outcome) == (["ok"] if whole else ["transient", "ok"])
    assert list(last(outcome).telemetry_lines())
    assert not device.at_work()


@pytest.mark.parametrize(("device", "fault"), each("hangs", gate={("phone-by-server", "hangs")}), indirect=["device"])
def test_a_device_that_hangs_ends_the_run_and_not_the_plan(
    fault: str, device: Device, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = a_plan(device.profile, tiny_model, retries=0, **LONG)
    began = time.monotonic()
    with monkeypatch.context() as patch:

        def hang() -> None:
            FAULTS[fault].begin(device)
            give_up_soon(patch, device)

        try:
            outcome = run(plan, tmp_path / "results", When(ModelLoaded, hang))
        finally:
            FAULTS[fault].end(device)
    assert time.monotonic() - began < 120
    assert kinds(outcome) == ["transient"]
    wait_until(lambda: not device.at_work())
    assert kinds(run(plan, tmp_path / "results")) == ["ok"]


@pytest.mark.parametrize(("device", "fault"), each("programs die"), indirect=["device"])
def test_a_runner_that_is_killed_is_told_as_killed(
    fault: str, device: Device, tmp_path: Path, tiny_model: Path
) -> None:
    watcher = When(ModelLoaded, lambda: FAULTS[fault].begin(device))
    outcome = run(a_plan(device.profile, tiny_model, **LONG), tmp_path / "results", watcher)
    assert kinds(outcome) == ["killed"]


@pytest.mark.parametrize(("device", "fault"), each("disk full"), indirect=["device"])
def test_a_device_whose_disk_is_full_fails_the_run_with_what_to_do(
    fault: str, device: Device, tmp_path: Path, tiny_model: Path
) -> None:
    FAULTS[fault].begin(device)
    try:
        outcome = run(a_plan(device.profile, tiny_model, **WORK), tmp_path / "results")
    finally:
        FAULTS[fault].end(device)
    error = last(outcome).manifest.error
    assert error is not None
    assert f"of room on the {device.what}" in error.message
    assert kinds(run(a_plan(device.profile, tiny_model, **WORK), tmp_path / "results")) == ["ok"]
