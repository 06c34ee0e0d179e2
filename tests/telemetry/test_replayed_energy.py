"""From a moving sensor file to joules, by the real sampler: the figure is held against the known truth."""

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from melt.analysis.integration import PhaseEnergy, closure, total_energy
from melt.spec.profile import Sensors
from melt.telemetry import linux
from melt.telemetry.series import Series, series
from melt.telemetry.source import Discovery
from tests.telemetry.replay import Replay, Sensor, battery_current, ina3221, inventory_of, load_tree, rapl

SAMPLER = Path(__file__).parents[2] / "melt" / "runner" / "python" / "sampler.py"
RANGE_UJ = 262143328850
BAT = "/sys/class/power_supply/BAT0/"


def wavy(t_s: float) -> float:
    """A load that rises, falls and swings quicker than a phase lasts."""
    return 12 + 6 * math.sin(2 * math.pi * t_s / 1.3) + (9 if t_s > 1.5 else 0)


class RunRecord:
    """What a replayed and sampled tree gave, with the truth beside it."""

    def __init__(self, discovery: Discovery, found: dict[str, Series], replay: Replay, begun_ns: int) -> None:
        self.discovery, self.series, self.replay, self.begun_ns = discovery, found, replay, begun_ns

    def energy(self, t0_s: float, t1_s: float) -> PhaseEnergy:
        return total_energy(self.discovery, self.series, self.at(t0_s), self.at(t1_s))

    def truth(self, t0_s: float, t1_s: float) -> float:
        return self.replay.true_energy_j(self.at(t0_s), self.at(t1_s))

    def at(self, seconds: float) -> int:
        """Seconds from when the sampler began."""
        return self.begun_ns + round(seconds * 1e9)


def record(
    folder: Path,
    tree: dict[str, Any],
    sensors: list[Sensor],
    seconds: float,
    power: Callable[[float], float] = wavy,
    period_ms: int = 50,
) -> RunRecord:
    discovery = linux.discover(inventory_of(tree), Sensors(period_ms=period_ms))
    out = folder / "telemetry.jsonl"
    spec = {
        "out": str(out),
        "period_ms": period_ms,
        "root": str(folder / "tree"),
        "probes": [p.model_dump() for p in discovery.probes],
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    with Replay(folder / "tree", tree, power, sensors) as replay:
        argv = [sys.executable, str(SAMPLER), str(folder / "spec.json")]
        with subprocess.Popen(argv, stdin=subprocess.PIPE) as sampler:
            while not out.exists():
                assert sampler.poll() is None
                time.sleep(0.005)
            begun_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            time.sleep(seconds)
            assert sampler.stdin
            sampler.stdin.close()
            assert sampler.wait(20) == 0
    return RunRecord(discovery, series(discovery, out.read_text(encoding="utf-8")), replay, begun_ns)


@pytest.mark.timing
def test_rapl_over_a_wrap_around(tmp_path: Path) -> None:
    tree = load_tree("laptop-xps15-9560")
    sensors = [
        rapl("intel-rapl:0", RANGE_UJ - 30_000_000, RANGE_UJ, share=0.9),  # wraps after some 33 J of the 90 %
        rapl("intel-rapl:0:2", 9135044067, RANGE_UJ, share=0.1),
    ]
    run = record(tmp_path, tree, sensors, seconds=5)
    assert run.series["rapl:package-0"].value[-1] > RANGE_UJ * 1e-6
    for window in ((0.8, 4.5), (1.0, 2.0), (2.0, 4.6)):
        found = run.energy(*window)
        assert found.reason == ""
        assert found.energy_j == pytest.approx(run.truth(*window), rel=0.02)
    parts = [run.energy(0.8, 2.2), run.energy(2.2, 4.4)]
    assert closure(parts, run.energy(0.8, 4.4), 3.6).ok


@pytest.mark.timing
def test_jetson_board_without_an_input_rail(tmp_path: Path) -> None:
    sensors = [
        ina3221("1-0040", "hwmon3", 1, 19928, share=0.5),
        ina3221("1-0040", "hwmon3", 2, 19928, share=0.2),
        ina3221("1-0040", "hwmon3", 3, 5008, share=0.3),
        ina3221("1-0041", "hwmon2", 2, 5000, share=0.08),  # inside VIN_SYS_5V0, and not to be counted again
    ]
    run = record(tmp_path, load_tree("jetson-agx-orin"), sensors, seconds=4)
    found = run.energy(0.8, 3.6)
    assert found.reason == ""
    assert found.energy_j == pytest.approx(run.truth(0.8, 3.6), rel=0.02)


def denied(tree: dict[str, Any]) -> dict[str, Any]:
    return {p: {"error": "EACCES"} if p.endswith("energy_uj") else t for p, t in tree.items()}


@pytest.mark.timing
@pytest.mark.slow
def test_battery_that_discharges(tmp_path: Path) -> None:
    tree = denied(load_tree("laptop-xps15-9560"))
    run = record(tmp_path, tree, [battery_current("BAT0", 12366000)], seconds=24, period_ms=100)
    found = run.energy(1.5, 22.5)
    assert found.reason == ""
    assert found.energy_j == pytest.approx(run.truth(1.5, 22.5), rel=0.02)
    assert "needs 20 s" in run.energy(2, 6).reason


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown"])
def test_battery_on_mains_gives_no_energy(tmp_path: Path, status: str) -> None:
    tree = denied(load_tree("laptop-xps15-9560")) | {BAT + "status": status + "\n"}
    run = record(tmp_path, tree, [battery_current("BAT0", 12366000)], seconds=1.5, period_ms=20)
    whole = (run.at(0.5), run.at(1.2))
    sources = tuple(s.model_copy(update={"native_period_s": 0.02}) for s in run.discovery.sources)
    found = total_energy(run.discovery.model_copy(update={"sources": sources}), run.series, *whole)
    assert math.isnan(found.energy_j)
    assert ("not known" if status == "Unknown" else "charging") in found.reason


def test_phase_too_short_for_the_sampling_gives_no_energy(tmp_path: Path) -> None:
    sensors = [rapl("intel-rapl:0", 0, RANGE_UJ)]
    run = record(tmp_path, load_tree("laptop-xps15-9560"), sensors, seconds=1.5, period_ms=100)
    found = run.energy(0.55, 0.75)
    assert math.isnan(found.energy_j)
    assert "fewer than 3" in found.reason
