"""What melt says of a phase's energy against the truth, with sensors that are slower than they say, average, round, or
stop for a while; each number follows from its seed."""

import math
from itertools import product

import numpy as np
import pytest

from melt.analysis.integration import MAX_UNCERTAINTY, phase_energy
from tests.doubles.power_sensor import Load, Sensor, at_ns, trial

UPDATES_S = (0.001, 0.1, 0.25, 1, 5, 10, 30)
WINDOWS_S = (0.0, 0.1, 0.5, 1, 3, 10)
PHASES_S = (1, 3, 12, 30, 120)
FAULTS: tuple[dict[str, float], ...] = ({}, {"step": 0.5}, {"step": 0.5, "noise": 0.02})


@pytest.mark.parametrize("kind", ["power", "counter"])
def test_the_truth_lies_within_two_uncertainties(kind: str) -> None:
    rng, held = np.random.default_rng(20), []
    windows_s = WINDOWS_S if kind == "power" else (0.0,) * len(WINDOWS_S)
    for update_s, window_s, phase_s, fault in product(UPDATES_S, windows_s, PHASES_S, FAULTS):
        sensor = Sensor(kind=kind, update_s=update_s, window_s=window_s, **fault)  # type: ignore[arg-type]
        hole = rng.choice([0.0, 0.05])
        found, truth_j = trial(rng, sensor, phase_s, ripple=0.2, hole=hole)
        if found.reason:
            assert math.isnan(found.energy_j)
            continue
        assert found.method_uncertainty_j <= MAX_UNCERTAINTY * found.energy_j
        held.append(abs(found.energy_j - truth_j) <= 2 * found.method_uncertainty_j)
    assert len(held) > 100
    assert np.mean(held) >= 0.93


@pytest.mark.parametrize("update_s", [5.0, 10.0])
def test_a_gauge_that_is_slower_than_it_says_gives_no_figure_of_a_short_phase(update_s: float) -> None:
    rng = np.random.default_rng(5)
    told = [trial(rng, Sensor(update_s=update_s, window_s=update_s, step=0.01, noise=0.01), 12) for _ in range(50)]
    assert sum(not found.reason for found, _ in told) <= 1
    assert np.median([found.period_s for found, _ in told]) == pytest.approx(update_s, rel=0.2)


def steady(sensor: Sensor, seconds: float = 60) -> tuple[float, str]:
    """Joules and reason of a minute at 10 W after 5 s at 2 W, whose readings are all equal."""
    load = Load((5, seconds, 5), (2.0, 10.0, 2.0))
    one = sensor.read(load, np.random.default_rng(3))
    edges_ns = [at_ns(5), at_ns(5 + seconds)]
    found = phase_energy(sensor.source, one, at_ns(5), at_ns(5 + seconds), polled_s=0.1, edges_ns=edges_ns)
    return found.energy_j, found.reason


def test_equal_readings_under_steady_load_are_no_sign_of_a_slow_sensor() -> None:
    energy_j, reason = steady(Sensor())
    assert reason == ""
    assert energy_j == pytest.approx(600, rel=0.01)


def test_a_gauge_that_never_changes_while_the_load_steps_is_stuck() -> None:
    energy_j, reason = steady(Sensor(step=30.0))
    assert math.isnan(energy_j)
    assert reason == "sensor said 0 W all the while"
    load = Load((5, 60), (7.0, 7.0))
    one = Sensor().read(load, np.random.default_rng(3))
    stuck = phase_energy(Sensor().source, one, at_ns(6), at_ns(60), polled_s=0.1, edges_ns=[at_ns(5)])
    assert stuck.reason == "sensor never changed, though the load did"
    quiet = phase_energy(Sensor().source, one, at_ns(6), at_ns(60), polled_s=0.1)
    assert quiet.energy_j == pytest.approx(54 * 7)
