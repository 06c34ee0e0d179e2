"""Whole plans through storms of faults: whatever comes when, nothing is lost, counted twice or left behind.

Which faults come, and when, follows from ``--seed`` and the storm's number.
"""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from melt.errors import MeltError
from melt.execution.executor import Outcome
from melt.execution.plan import run
from melt.spec.plan import Plan
from melt.store.store import Store
from tests.drivers.faults import FAULTS, Device
from tests.drivers.faulty_devices import DEVICES
from tests.support.plans import a_plan
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.long(part="faults"), pytest.mark.timeout(1200)]

STORMS = range(6)  # of each device
LENGTH = 5  # faults in one storm
BLOWN = sorted(set(FAULTS) - {"disk full"})
CALLS = 6  # of the plan: the first half in the storm, the others after it
WORK = {"context": (500, 1000), "gen": (200,), "sessions": 2, "runners": ("native",), "retries": 1}


@pytest.fixture
def device(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    made = DEVICES[request.param](request, tmp_path)
    for name, seconds in made.patience.items():
        monkeypatch.setattr(name, seconds)
    monkeypatch.setattr("melt.drivers.remote.process._HEARTBEAT_S", 0.5)
    for driver in ("remote", "ios"):
        monkeypatch.setattr(f"melt.drivers.{driver}.driver.RETURN_S", 15.0)
    return made


@contextmanager
def storm(choices: random.Random, device: Device) -> Iterator[list[str]]:
    """Faults one after the other for the length of the block, each of which ends; gives the names of those made."""
    over = threading.Event()
    made: list[str] = []

    def blow() -> None:
        for name in choices.choices(BLOWN, k=LENGTH):
            before_s, length_s = choices.uniform(0.1, 4.0), choices.uniform(0.1, 6.0)
            if over.wait(before_s):
                return
            made.append(name)
            FAULTS[name].begin(device)
            over.wait(length_s)
            FAULTS[name].end(device)

    thread = threading.Thread(target=blow)
    thread.start()
    try:
        yield made
    finally:
        over.set()
        thread.join(60)
        assert not thread.is_alive()


def measure_through(device: Device, plan: Plan, results: Path, choices: random.Random) -> None:
    """Calls melt again and again, as a person would; in the end all is measured, once."""
    with storm(choices, device) as made:
        for _ in range(CALLS // 2):
            call(plan, results)
    outcome = next((o for o in (call(plan, results) for _ in range(CALLS // 2)) if o and o.complete), None)
    assert outcome, made
    runs, damaged = Store(results).runs()
    assert not damaged, made
    assert not list(results.glob(".partial-*")), made
    measured = sorted((r.manifest.cell_id, r.manifest.session) for r in runs if r.manifest.status == "ok")
    assert measured == sorted((cell.id, s) for cell in outcome.cells for s in range(plan.sessions)), made
    assert all(r.manifest.error for r in runs if r.manifest.status != "ok"), made


def call(plan: Plan, results: Path) -> Outcome | None:
    """None where the device is away at the beginning or for too long: a clear refusal, and no crash."""
    try:
        return run(plan, results)
    except MeltError:
        return None


@pytest.mark.parametrize("number", STORMS)
@pytest.mark.parametrize("device", DEVICES, indirect=True)
def test_a_device_in_a_storm(
    device: Device, number: int, seed: int, request: pytest.FixtureRequest, tmp_path: Path, tiny_model: Path
) -> None:
    choices = random.Random(f"{request.node.name} {seed}")
    measure_through(device, a_plan(device.profile, tiny_model, **WORK), tmp_path / "results", choices)
    wait_until(lambda: not device.at_work())
