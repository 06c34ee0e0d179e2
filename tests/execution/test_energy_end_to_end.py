"""From a sensor's reading to the report's joules, against a truth that is known.

This host need not have a power sensor: a recorded laptop's tree is laid out as files, its RAPL counters
are moved by a known power, and a whole session with the real runner reads them.
"""

import math
from pathlib import Path

import pytest

import melt
from melt.execution.plan import run
from tests.doubles.paced.fixture import paced
from tests.doubles.paced.laptop import LAPTOP, Laptop
from tests.support.joules import meet_the_truth, steady
from tests.support.plans import a_plan, timed
from tests.support.profiles import write_profile
from tests.telemetry.replay import Replay, battery_current, load_tree, rapl

__all__ = ["paced"]
# A tiny model at a long context, so that each phase lasts long enough to be measured.
LONG = {"context": (2000,), "gen": (500,), "warmups": 1, "idle_s": 2.0}


def read_sensors_of(root: Path, profiles: Path) -> None:
    write_profile(profiles / "local.yaml", "local", sensors={"root": str(root), "period_ms": 20})


@pytest.mark.timing
def test_joules_of_a_replayed_laptop_meet_the_truth(tmp_path: Path, tiny_model: Path) -> None:
    tree = load_tree(LAPTOP)
    range_uj = int(tree["/sys/class/powercap/intel-rapl:0/max_energy_range_uj"])
    # It wraps a few joules in, in the middle of the run.
    sensors = [
        rapl("intel-rapl:0", range_uj - 40_000_000, range_uj, share=0.9),
        rapl("intel-rapl:0:2", 9_135_044_067, range_uj, share=0.1),
    ]
    read_sensors_of(tmp_path / "tree", tmp_path / "profiles")

    def power_w(t_s: float) -> float:
        return 12.0 + 6.0 * math.sin(t_s) + (3.0 if t_s > 4 else 0.0)

    with Replay(tmp_path / "tree", tree, power_w, sensors) as replay:
        outcome = run(a_plan("local", tiny_model, **LONG), tmp_path / "results")
        made = outcome.made[0]
        assert made.manifest.status == "ok"
        row = melt.load(tmp_path / "results").runs.iloc[0]
        prefill_j = [replay.true_energy_j(i.prefill.t_start_ns, i.token_t_ns[0]) for i in timed(made)]
        decode_j = [replay.true_energy_j(i.token_t_ns[0], i.token_t_ns[-1]) for i in timed(made)]
        assert made.manifest.idle_t_ns is not None
        start_ns, end_ns = made.manifest.idle_t_ns
        idle_w = replay.true_energy_j(start_ns, end_ns) / ((end_ns - start_ns) / 1e9)
    assert row["energy_prefill_j"] == pytest.approx(sum(prefill_j) / 2, rel=0.03)
    assert row["energy_decode_j"] == pytest.approx(sum(decode_j) / 2, rel=0.03)
    assert row["decode_j_per_token"] == pytest.approx(sum(decode_j) / 2 / 499, rel=0.03)
    assert row["idle_power_w"] == pytest.approx(idle_w, rel=0.03)
    assert "RAPL" in row["energy_sensor"]


def test_joules_of_a_laptop_follow_its_load(tmp_path: Path, tiny_model: Path, paced: Path) -> None:
    """Two sessions of two passes each; its counter wraps in the first."""
    read_sensors_of(tmp_path / "tree", tmp_path / "profiles")
    with Laptop(tmp_path / "tree") as laptop:
        run(a_plan("local", tiny_model, **steady(1.0, iterations=2, sessions=2)), tmp_path / "results")
        rows = meet_the_truth(tmp_path / "results", laptop.true_energy_j)
    assert len(rows) == 2
    for row in rows:
        assert row["energy_prefill_j"] == pytest.approx(4 + 5, rel=0.05)  # of 4 W at rest and 5 W a core
        assert row["energy_decode_j"] == pytest.approx(4 + 0.6 * 5, rel=0.05)
        assert row["idle_power_w"] == pytest.approx(4, rel=0.05)


def test_a_charging_battery_gives_no_joules_but_the_reason(tmp_path: Path, tiny_model: Path) -> None:
    tree = {p: t for p, t in load_tree(LAPTOP).items() if "powercap" not in p}
    tree["/sys/class/power_supply/BAT0/status"] = "Charging\n"
    read_sensors_of(tmp_path / "tree", tmp_path / "profiles")
    voltage_uv = float(tree["/sys/class/power_supply/BAT0/voltage_now"])
    with Replay(tmp_path / "tree", tree, lambda _t: 15.0, [battery_current("BAT0", voltage_uv)]):
        run(a_plan("local", tiny_model, gen=(64,), context=(256,)), tmp_path / "results")
    results = melt.load(tmp_path / "results")
    row = results.runs.iloc[0]
    assert math.isnan(row["energy_decode_j"])
    assert math.isnan(row["decode_j_per_token"])
    assert "charging" in row["flags"]


def test_an_absent_sensor_gives_no_joules(tmp_path: Path, tiny_model: Path) -> None:
    empty = tmp_path / "tree"
    empty.mkdir()
    read_sensors_of(empty, tmp_path / "profiles")
    outcome = run(a_plan("local", tiny_model, gen=(8,), context=(64,)), tmp_path / "results")
    row = melt.load(tmp_path / "results").runs.iloc[0]
    assert row[["energy_prefill_j", "energy_decode_j", "idle_power_w", "mean_power_w", "max_temp_c"]].isna().all()
    assert {a.name for a in outcome.made[0].manifest.telemetry.absent} >= {"rapl", "battery"}
