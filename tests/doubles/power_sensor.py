"""A power sensor of known faults beside a load whose energy is known exactly: what melt says of a phase, and the truth.

Everything is arithmetic; no time passes.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from melt.analysis.integration import PhaseEnergy, phase_energy
from melt.telemetry.series import Series
from melt.telemetry.source import Source

Floats = NDArray[np.float64]
START_S = 1000.0
STATED_S = 0.1


@dataclass(frozen=True)
class Load:
    """Power that steps, with a ripple on it: seconds and watts of each stretch, from 0 on."""

    seconds: tuple[float, ...]
    watts: tuple[float, ...]
    ripple: float = 0.0  # of the power
    ripple_s: float = 0.1

    @property
    def edges_s(self) -> Floats:
        return np.concatenate(([0.0], np.cumsum(self.seconds)))

    def energy_j(self, t_s: Floats) -> Floats:
        """Joules from the beginning to each time."""
        edges, watts = self.edges_s, np.array(self.watts)
        whole = np.concatenate(([0.0], np.cumsum(np.array(self.seconds) * watts)))
        omega = 2 * np.pi / self.ripple_s
        ripples = np.concatenate(([0.0], np.cumsum(watts * self._ripple_j(edges[:-1], edges[1:], omega))))
        at = np.clip(np.searchsorted(edges, t_s, side="right") - 1, 0, len(watts) - 1)
        since_s: Floats = (t_s - edges[at]) + self._ripple_j(edges[at], t_s, omega)
        joules: Floats = whole[at] + ripples[at] + watts[at] * since_s
        return joules

    def power_w(self, t_s: Floats) -> Floats:
        at = np.clip(np.searchsorted(self.edges_s, t_s, side="right") - 1, 0, len(self.watts) - 1)
        watts: Floats = np.array(self.watts)[at] * (1 + self.ripple * np.sin(2 * np.pi / self.ripple_s * t_s))
        return watts

    def _ripple_j(self, from_s: Floats, to_s: Floats, omega: float) -> Floats:
        joules: Floats = self.ripple / omega * (np.cos(omega * from_s) - np.cos(omega * to_s))
        return joules


@dataclass(frozen=True)
class Sensor:
    """What is wrong with it; it states an update every ``STATED_S`` and no window."""

    kind: Literal["power", "counter"] = "power"
    update_s: float = STATED_S
    window_s: float = 0.0  # a value is the mean over this time before it
    step: float = 0.0  # W, or J of a counter
    noise: float = 0.0  # of the value
    polled_s: float = STATED_S
    dither: bool = True  # read at a random time of each period, as melt does, else at one time of each
    holes: tuple[tuple[float, float], ...] = ()  # from, to: nothing was read

    @property
    def source(self) -> Source:
        return Source(
            name="sensor",
            quantity="power_w" if self.kind == "power" else "energy_j",
            sensor="a gauge",
            site="input",
            sign="load_positive",
            native_period_s=STATED_S,
            resolution=self.step or None,
        )

    def read(self, load: Load, rng: np.random.Generator) -> Series:
        """Its readings of the whole load."""
        end_s = float(load.edges_s[-1])
        periods = np.arange(int(end_s / self.polled_s))
        t_s = (periods + rng.uniform(0, 1, len(periods) if self.dither else 1)) * self.polled_s
        for low, high in self.holes:
            t_s = t_s[(t_s < low) | (t_s > high)]
        first = rng.uniform(-self.update_s, 0)
        k = np.floor((t_s - first) / self.update_s).astype(int)
        at_s = first + k * self.update_s
        if self.kind == "counter":
            value = load.energy_j(np.maximum(at_s, 0))
        elif self.window_s:
            value = (load.energy_j(at_s) - load.energy_j(at_s - self.window_s)) / self.window_s
        else:
            value = load.power_w(at_s)
        if self.noise and self.kind == "power":
            value = value * (1 + self.noise * rng.normal(0, 1, int(k.max()) + 1)[k])
        if self.step:
            value = np.round(value / self.step) * self.step
        return Series(np.round((START_S + t_s) * 1e9).astype(np.int64), value)


def at_ns(t_s: float) -> int:
    """A load's time on the clock of the readings."""
    return round((START_S + t_s) * 1e9)


def trial(
    rng: np.random.Generator,
    sensor: Sensor,
    phase_s: float,
    ripple: float = 0.0,
    hole: float = 0.0,
    ripple_s: float = 0.0873,
) -> tuple[PhaseEnergy, float]:
    """What melt says of one phase of a run of two passes between idle times, and the joules it really took.

    Args:
        rng: what all that is not given comes from.
        sensor: what measures.
        phase_s: how long the phase is; it is a pass's first or second, and the other is half to twice as long.
        ripple: of the power, relative; ``ripple_s`` is its period.
        hole: a share of the phase in which nothing is read, at one of its edges or inside.
    """
    other_s = float(np.clip(phase_s * rng.uniform(0.5, 2), 1, 120))
    is_first = bool(rng.random() < 0.5)
    of_pass = (phase_s, other_s) if is_first else (other_s, phase_s)
    idle_w, loading_w, first_w, second_w = rng.uniform((1, 2, 5, 4), (4, 10, 20, 15))
    load = Load(
        (rng.uniform(2, 6), rng.uniform(1, 5), *of_pass, *of_pass, rng.uniform(1, 3)),
        (idle_w, loading_w, first_w, second_w, first_w, second_w, idle_w),
        ripple,
        ripple_s,
    )
    index = (2 if is_first else 3) + 2 * int(rng.random() < 0.5)
    t0_s, t1_s = load.edges_s[index : index + 2]
    if hole:
        hole_s = hole * phase_s
        at_s = rng.choice([t0_s - hole_s / 2, rng.uniform(t0_s, t1_s - hole_s), t1_s - hole_s / 2])
        sensor = replace(sensor, holes=((at_s, at_s + hole_s),))
    edges_ns = [at_ns(s) for s in load.edges_s[1:-1]]
    found = phase_energy(
        sensor.source, sensor.read(load, rng), at_ns(t0_s), at_ns(t1_s), polled_s=sensor.polled_s, edges_ns=edges_ns
    )
    return found, float(np.diff(load.energy_j(np.array([t0_s, t1_s])))[0])
