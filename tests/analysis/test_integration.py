"""Energy of windows: the formulas' properties, and every reason for giving no figure."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.analysis.integration import IDLE, Demand, PhaseEnergy, closure, gaps, net_energy, total_energy
from melt.analysis.integration import phase_energy as of_phase
from melt.telemetry.series import Series
from melt.telemetry.source import Discovery, Probe, Source

S = 10**9
START_NS = 10**15  # days after boot, so that loss of digits would show


def power(**changes: Any) -> Source:
    given: dict[str, Any] = {"name": "w", "probe": "w", "parser": "number", "quantity": "power_w", "sensor": "x"}
    return Source.model_validate({**given, "site": "input", "sign": "load_positive", **changes})


def counter(**changes: Any) -> Source:
    return power(**{"name": "j", "probe": "j", "quantity": "energy_j", **changes})


def grid(seconds: float, step_s: float = 0.1, jitter: float = 0.0) -> np.ndarray[Any, np.dtype[np.int64]]:
    t_s = np.arange(0, seconds + step_s / 2, step_s)
    shift = np.random.default_rng(1).uniform(-jitter, jitter, len(t_s)) * step_s
    return (START_NS + (t_s + shift) * S).astype(np.int64)


def at(seconds: float) -> int:
    return START_NS + round(seconds * S)


ANY = Demand(0, math.inf, math.inf)  # what is computed, however well it is known


def phase_energy(source: Source, one: Series | None, t0_ns: int, t1_ns: int, **more: Any) -> PhaseEnergy:
    """Of a sensor that is read every 0.1 s, as these series are."""
    return of_phase(source, one, t0_ns, t1_ns, **{"polled_s": 0.1, **more})


powers = st.lists(st.floats(0.1, 500), min_size=101, max_size=101)
edges = st.lists(st.floats(0, 10), min_size=2, max_size=2).map(sorted).filter(lambda e: e[1] - e[0] > 1.5)


@given(st.floats(0.01, 1000), edges)
def test_constant_power_is_exact(watts: float, edge: list[float]) -> None:
    t_ns = grid(10, jitter=0.3)
    t0, t1 = at(max(edge[0], 0.1)), at(min(edge[1], 9.9))
    expected = watts * (t1 - t0) / S
    of_power = phase_energy(power(), Series(t_ns, np.full(len(t_ns), watts)), t0, t1, demand=ANY)
    of_counter = phase_energy(counter(), Series(t_ns, watts * (t_ns - START_NS) / S), t0, t1, demand=ANY)
    assert of_power.energy_j == pytest.approx(expected, rel=1e-9)
    assert of_counter.energy_j == pytest.approx(expected, rel=1e-6)
    assert of_power.mean_power_w == pytest.approx(watts, rel=1e-9)


@given(powers, st.floats(1.2, 8.8), st.booleans())
def test_windows_add_up(watts: list[float], middle: float, is_counter: bool) -> None:
    t_ns = grid(10)
    value = np.cumsum(watts) * 0.1 if is_counter else np.array(watts)
    source, one = (counter() if is_counter else power()), Series(t_ns, value)
    whole, *parts = (
        phase_energy(source, one, at(a), at(b), demand=ANY) for a, b in ((0, 10), (0, middle), (middle, 10))
    )
    assert sum(p.energy_j for p in parts) == pytest.approx(whole.energy_j, rel=1e-6)
    assert closure(parts, whole, 10).ok


@given(powers, st.floats(1e-3, 1e3), st.integers(-(10**14), 10**14))
def test_units_scale_and_time_shifts(watts: list[float], factor: float, shift_ns: int) -> None:
    t_ns, value = grid(10), np.array(watts)
    base = phase_energy(power(), Series(t_ns, value), at(1.05), at(8.05), demand=ANY)
    scaled = phase_energy(power(), Series(t_ns, value * factor), at(1.05), at(8.05), demand=ANY)
    shifted = phase_energy(
        power(), Series(t_ns + shift_ns, value), at(1.05) + shift_ns, at(8.05) + shift_ns, demand=ANY
    )
    assert scaled.energy_j == pytest.approx(base.energy_j * factor, rel=1e-9)
    assert shifted.energy_j == pytest.approx(base.energy_j, rel=1e-9)


@given(powers, powers)
def test_more_power_is_more_energy(a: list[float], b: list[float]) -> None:
    low, high = np.minimum(a, b), np.maximum(a, b)
    t_ns = grid(10)
    of_low, of_high = (
        phase_energy(power(), Series(t_ns, w), at(2.03), at(7.77), demand=ANY).energy_j for w in (low, high)
    )
    assert of_low <= of_high + 1e-9


@given(st.floats(1, 50), st.floats(0, 20), st.floats(0.5, 5))
def test_power_and_counter_of_one_truth_agree(mean: float, swing: float, period_s: float) -> None:
    swing = min(swing, mean)
    t_ns = grid(20, 0.05)
    t_s = (t_ns - START_NS) / S
    omega = 2 * math.pi / period_s
    watts = mean + swing * np.sin(omega * t_s)
    joules = mean * t_s + swing / omega * (1 - np.cos(omega * t_s))
    of_power = phase_energy(power(), Series(t_ns, watts), at(3.333), at(16.21), demand=ANY)
    of_counter = phase_energy(counter(), Series(t_ns, joules), at(3.333), at(16.21), demand=ANY)
    assert of_power.energy_j == pytest.approx(of_counter.energy_j, rel=0.01)


def constant(watts: float = 5.0, seconds: float = 10, step_s: float = 0.1) -> Series:
    t_ns = grid(seconds, step_s)
    return Series(t_ns, np.full(len(t_ns), watts))


def test_short_phase_has_no_energy() -> None:
    found = phase_energy(power(), constant(), at(1), at(2.8))
    assert math.isnan(found.energy_j)
    assert math.isnan(found.mean_power_w)
    assert found.reason == "1.8 s, and w needs 2 s: 20 times the 0.1 s in which it follows the load"
    assert phase_energy(power(), constant(), at(1), at(3)).energy_j == pytest.approx(10)


def test_a_window_of_few_readings_has_no_energy() -> None:
    assert "9 samples of w, fewer than 10" in phase_energy(power(), constant(), at(1), at(1.8), demand=ANY).reason
    rising = Series(constant().t_ns, 5.0 * (constant().t_ns - START_NS) / S)
    assert "2 samples of j, fewer than 3" in phase_energy(counter(), rising, at(1.05), at(1.25)).reason


def test_readings_of_a_slow_sensor_are_not_samples() -> None:
    slow, one = power(native_period_s=1.0), constant(seconds=30)
    assert "needs 20 s" in phase_energy(slow, one, at(1), at(18)).reason
    assert phase_energy(slow, one, at(0.5), at(20.8)).reason == ""
    assert phase_energy(slow, one, at(0.5), at(12.8), demand=IDLE).reason == ""
    assert "needs 12 s" in phase_energy(slow, one, at(0.5), at(12.2), demand=IDLE).reason


def test_a_counter_has_a_figure_where_its_edges_are_small_beside_it() -> None:
    t_s = (grid(10) - START_NS) / S
    one = Series(grid(10), 2 * t_s + 20 * np.maximum(0, t_s - 4.55))
    assert "and 5% is the most" in phase_energy(counter(native_period_s=0.001), one, at(4.55), at(4.95)).reason
    found = phase_energy(counter(native_period_s=0.001), one, at(4.55), at(7.3))
    assert found.energy_j == pytest.approx(2.75 * 22, abs=2 * found.method_uncertainty_j)
    assert 0 < found.method_uncertainty_j < 0.05 * found.energy_j


def test_gap_leaves_too_little_covered() -> None:
    one = constant()
    keep = (one.t_ns < at(3)) | (one.t_ns > at(5))
    found = phase_energy(power(), Series(one.t_ns[keep], one.value[keep]), at(0), at(10))
    assert found.coverage == pytest.approx(0.8, abs=0.001)
    assert "covers" in found.reason


def test_little_that_is_missing_at_the_end_is_taken_at_the_mean() -> None:
    assert phase_energy(power(), constant(5.0), at(0), at(10.5)).energy_j == pytest.approx(52.5)
    one = constant()
    rising = Series(one.t_ns, 5.0 * (one.t_ns - START_NS) / S)
    assert phase_energy(counter(), rising, at(0), at(10.5)).energy_j == pytest.approx(52.5)


def test_counter_that_started_again_inside_has_no_energy() -> None:
    one = Series(constant().t_ns, 5.0 * (constant().t_ns - START_NS) / S, breaks_ns=(at(5),))
    assert "started again" in phase_energy(counter(), one, at(4), at(8)).reason
    assert phase_energy(counter(), one, at(6), at(8)).reason == ""


@pytest.mark.parametrize(
    ("states", "reason"),
    [([0, 0, 0], ""), ([0, 1, 0], "charging"), ([1, 1, 1], "charging"), ([1, 0, 0], "charging"), ([], "not known")],
)
def test_battery_counts_only_while_it_discharges(states: list[int], reason: str) -> None:
    stamps = np.array([at(0.5), at(4), at(9.5)][: len(states)], dtype=np.int64)
    charging = Series(stamps, np.array(states, dtype=np.float64))
    found = phase_energy(power(site="battery"), constant(), at(1), at(9), charging=charging)
    assert (reason in found.reason) if reason else found.reason == ""
    assert math.isnan(found.energy_j) == bool(reason)


def test_other_ways_to_have_none() -> None:
    assert "length" in phase_energy(power(), constant(), at(5), at(5)).reason
    assert "no samples" in phase_energy(power(), None, at(1), at(5)).reason
    assert "not energy" in phase_energy(power(quantity="voltage_v"), constant(), at(1), at(5)).reason
    assert phase_energy(power(), constant(), at(100), at(110)).coverage == 0.0


def two_rails(**changes: Any) -> Discovery:
    sources = (power(counts_in_total=True), counter(counts_in_total=True, **changes), power(name="other", probe="o"))
    return Discovery(sources=sources, probes=(Probe(name="w", read="/w"), Probe(name="j", read="/j")))


def test_total_is_the_sum_of_what_counts() -> None:
    one = constant(5.0)
    series = {"w": one, "j": Series(one.t_ns, 2.0 * (one.t_ns - START_NS) / S), "other": one}
    found = total_energy(two_rails(), series, at(1), at(9))
    assert found.energy_j == pytest.approx(7.0 * 8)
    assert found.mean_power_w == pytest.approx(7.0)
    assert found.reason == ""
    assert "no samples" in total_energy(two_rails(), {"w": one}, at(1), at(9)).reason
    assert total_energy(Discovery(), series, at(1), at(9)).reason == "no power sensor"


def test_quick_counter_polled_slowly_is_still_covered() -> None:
    one = constant(1.0)
    rising = Series(one.t_ns, 2.0 * (one.t_ns - START_NS) / S)
    found = total_energy(two_rails(native_period_s=0.001), {"w": one, "j": rising}, at(1), at(9))
    assert found.coverage == pytest.approx(1.0)


def test_net_is_what_idle_would_not_have_spent() -> None:
    idle = phase_energy(power(resolution=0.1), constant(2.0), at(1), at(5))
    gross = phase_energy(power(resolution=0.1), constant(5.0), at(1), at(9))
    net = net_energy(gross, idle, 8)
    assert net.energy_j == pytest.approx(24)
    both_j = math.hypot(gross.method_uncertainty_j, 8 / 4 * idle.method_uncertainty_j)
    assert net.method_uncertainty_j == pytest.approx(both_j)
    none = phase_energy(power(), None, at(1), at(5))
    assert net_energy(gross, none, 8).reason.startswith("idle: ")
    assert math.isnan(net_energy(gross, none, 8).energy_j)


def test_closure_finds_what_does_not_add_up() -> None:
    whole = phase_energy(power(), constant(5.0), at(0), at(10))
    half = phase_energy(power(), constant(5.0), at(0), at(5))
    assert closure([half, half], whole, 10).ok
    assert not closure([half], whole, 10).ok
    assert not closure([half, half], replace(whole, mean_power_w=6.0), 10).ok


def test_gaps_fill_the_whole() -> None:
    assert gaps([(4, 6), (1, 3)], 0, 10) == [(0, 1), (3, 4), (6, 10)]
    assert gaps([], 0, 1) == [(0, 1)]
    assert gaps([(0, 5), (2, 10)], 0, 10) == []


def test_uncertainty_needs_the_maker_s_word() -> None:
    one = constant(5.0)
    unstated = phase_energy(power(resolution=0.1), one, at(1), at(9))
    assert math.isnan(unstated.uncertainty_j)
    # all of the readings are rounded alike, by up to half of their step
    assert unstated.method_uncertainty_j == pytest.approx(0.1 / math.sqrt(12) * 8)
    stated = phase_energy(power(accuracy=0.02), one, at(1), at(9))
    assert stated.uncertainty_j == pytest.approx(0.8)
    rising = Series(one.t_ns, 5.0 * (one.t_ns - START_NS) / S)
    steps = phase_energy(counter(resolution=1.0, native_period_s=0.1), rising, at(1), at(9))
    age_j = 5 * 0.1 / math.sqrt(12)
    assert steps.method_uncertainty_j == pytest.approx(math.hypot(math.sqrt(2 / 12), age_j, age_j))


def test_uncertainty_covers_the_error_of_a_step_at_the_edge() -> None:
    rng = np.random.default_rng(0)
    errors, bounds = [], []
    for _ in range(200):
        step_s = 5 + rng.uniform(0, 0.1)
        t_ns = grid(10)
        t_s = (t_ns - START_NS) / S
        joules = 2 * t_s + 20 * np.maximum(0, t_s - step_s)
        found = phase_energy(counter(native_period_s=0.001), Series(t_ns, joules), at(step_s), at(8.05))
        errors.append(found.energy_j - 22 * (8.05 - step_s))
        bounds.append(found.method_uncertainty_j)
    assert np.sqrt(np.mean(np.square(errors))) <= np.mean(bounds)


def test_uncertainty_covers_a_change_that_a_pause_in_the_samples_hid() -> None:
    errors, bounds = [], []
    t_ns = np.delete(grid(10), range(41, 47))  # nothing from 4.0 to 4.7 s, which leaves 93 % of the phase covered
    t_s = (t_ns - START_NS) / S
    for change_s in np.linspace(4, 4.7, 100):
        one = Series(t_ns, np.where(t_s < change_s, 2.0, 22.0))
        found = phase_energy(power(), one, at(1), at(9), demand=ANY)
        errors.append(found.energy_j - 2 * (change_s - 1) - 22 * (9 - change_s))
        bounds.append(found.method_uncertainty_j)
    assert np.sqrt(np.mean(np.square(errors))) <= np.mean(bounds)
    steady = phase_energy(power(), Series(t_ns, np.full(len(t_ns), 2.0)), at(1), at(9))
    assert steady.method_uncertainty_j == pytest.approx(0, abs=1e-12)
