"""Joules of runs on phones in boxes, against what the phones drew."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import melt
from melt.execution.plan import run
from tests.doubles.paced.fixture import paced
from tests.doubles.perfetto_trace import rail_trace
from tests.doubles.phone.box import PhoneBox
from tests.drivers.conftest import address_of
from tests.support.joules import meet_the_truth, steady
from tests.support.plans import a_plan, last, timed
from tests.support.profiles import write_profile

__all__ = ["paced"]
pytestmark = pytest.mark.root


def phone_profile(folder: Path, phone: PhoneBox, **more: object) -> str:
    host, port = address_of(phone)
    address = {"host": host, "port": port, "connector": "direct"}
    return write_profile(folder / "phone.yaml", "adb", address=address, **more)


@pytest.fixture
def phone_unplugged(tmp_path: Path) -> Iterator[PhoneBox]:
    with PhoneBox("pixel-8", tmp_path / "phone", variant="unplugged") as box:
        yield box


def test_joules_of_a_phone_meet_the_truth(
    phone_unplugged: PhoneBox, tmp_path: Path, tiny_model: Path, paced: Path
) -> None:
    """A gauge gives a figure a second, and a phase needs twenty of them."""
    profile = phone_profile(tmp_path, phone_unplugged, sensors={"period_ms": 50})
    run(a_plan(profile, tiny_model, **steady(22.0)), tmp_path / "results")
    [row] = meet_the_truth(tmp_path / "results", phone_unplugged.true_energy_j, rel=0.05)
    assert row["energy_sensor"] == "fuel gauge"
    assert row["family"] == "transformer"


@pytest.mark.timing
def test_rails_of_perfetto_give_the_joules_of_a_charging_phone(
    phone: PhoneBox, tmp_path: Path, tiny_model: Path, kept_builds: None
) -> None:
    """Two rails draw 3 W and 0.5 W throughout, and a third that is no part of computing draws 10 W."""
    phone.plug_in(10.0)
    now_ms = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) + phone.clock_ahead_ns) // 1_000_000
    rails = {0: ("S2M_VDD_CPUCL2", "CPU(BIG)"), 1: ("S5S_VDDQ_MEM", "DDR"), 2: ("VSYS_PWR_DISPLAY", "Display")}
    stamps = range(now_ms - 5_000, now_ms + 900_000, 250)
    powers_w = {0: 3.0, 1: 0.5, 2: 10.0}
    samples = [(t, {i: round(w * 1000 * (t - now_ms + 10_000)) for i, w in powers_w.items()}) for t in stamps]
    phone.set_perfetto_trace(rail_trace(rails, samples))
    # Ten samples a phase: seconds, on the quickest machine too.
    plan = a_plan(phone_profile(tmp_path, phone), tiny_model, context=(64,), gen=(2500,), iterations=1)
    made = last(run(plan, tmp_path / "results"))
    row = melt.load(tmp_path / "results").runs.iloc[0]
    once = timed(made)[0]
    decode_s = (once.token_t_ns[-1] - once.token_t_ns[0]) / 1e9
    assert row["energy_decode_j"] == pytest.approx(3.5 * decode_s, rel=0.02)
    assert "power monitor" in row["energy_sensor"]
    assert not list((phone.root / "data/misc/perfetto-traces").glob("melt*"))
