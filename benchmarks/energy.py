"""How often the joules of a phase hold, by simulated sensors of known faults; every number follows from the seed.

    python benchmarks/energy.py --out benchmarks/reports/energy.md   # some minutes
    python benchmarks/energy.py --trials 5

Prints tables in Markdown, and fails where the truth lies within two uncertainties in less than 93 % of the figures.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import simulated
from tests.doubles.power_sensor import Sensor, trial

UPDATES_S = (0.001, 0.1, 0.25, 1.0, 5.0, 10.0, 30.0)
WINDOWS_S = (0.0, 0.1, 0.5, 1.0, 3.0, 10.0)
PHASES_S = (1.0, 3.0, 12.0, 30.0, 120.0)
FAULTS: dict[str, tuple[dict[str, float], float]] = {  # of the sensor, and the share of a phase without a reading
    "none": ({}, 0.0),
    "steps of 0.5": ({"step": 0.5}, 0.0),
    "steps and 2 % of noise": ({"step": 0.5, "noise": 0.02}, 0.0),
    "5 % of the phase not read": ({}, 0.05),
}
GOAL = 0.93


def _report(asked: argparse.Namespace, missed: list[str]) -> Iterator[str]:
    yield "# How often joules of a phase hold"
    yield ""
    yield (
        f"`benchmarks/energy.py --trials {asked.trials} --seed {asked.seed}`. A sensor that says it is renewed every "
        "0.1 s, and is read as often, measures two passes between idle times; steps are 0.5 W, or 0.5 J of a counter."
    )
    for kind, windows_s in (("power", WINDOWS_S), ("counter", (0.0,))):
        yield from ("", f"## A {kind} sensor", "")
        yield "| renewed every | mean over | " + " | ".join(f"{p:g} s" for p in PHASES_S) + " | held |"
        yield "| --- " * (len(PHASES_S) + 3) + "|"
        rng, of_kind = np.random.default_rng(asked.seed), []
        for update_s in UPDATES_S:
            for window_s in windows_s:
                sensor = {"kind": kind, "update_s": update_s, "window_s": window_s}
                by_phase = [_held(rng, sensor, phase_s, asked.trials) for phase_s in PHASES_S]
                of_row = [held for one in by_phase for held in one]
                of_kind += of_row
                given = [f"{len(one) / (asked.trials * len(FAULTS)):.0%}" for one in by_phase]
                share = f"{np.mean(of_row):.1%}" if of_row else "no figure"
                yield f"| {update_s:g} s | {window_s:g} s | {' | '.join(given)} | {share} |"
        yield ""
        yield "Columns of seconds: how many phases of that length have a figure. Held: the truth lies within two of the"
        yield f"figure's standard uncertainties. Of all figures {np.mean(of_kind):.1%} held."
        if np.mean(of_kind) < GOAL:
            missed.append(f"{kind}: the truth lies within two uncertainties in {np.mean(of_kind):.1%}")
    yield from _ripple(10 * asked.trials, asked.seed, missed)


def _ripple(trials: int, seed: int, missed: list[str]) -> Iterator[str]:
    yield from ("", "## Power that goes up and down by 30 %, read every 0.1 s", "")
    yield f"Phases of 12 s, {trials} each; a sensor that follows at once."
    yield from ("", "| the ripple's period | read at | figures | rms error | held |", "| --- | --- | --- | --- | --- |")
    for ripple_s in (0.1, 0.05, 0.0873):
        for words, dither in (("a random moment of each period", True), ("one moment of each period", False)):
            rng, sensor = np.random.default_rng([seed, 1]), Sensor(update_s=0.001, dither=dither)
            all_found = [trial(rng, sensor, 12.0, ripple=0.3, ripple_s=ripple_s) for _ in range(trials)]
            given = [(one.energy_j / truth_j - 1, 2 * one.method_uncertainty_j / truth_j) for one, truth_j in all_found]
            error, twice = np.array([g for g, (one, _) in zip(given, all_found, strict=True) if not one.reason]).T
            held, rms = float(np.mean(np.abs(error) <= twice)), float(np.sqrt(np.mean(error**2)))
            yield f"| {ripple_s:g} s | {words} | {len(error) / trials:.0%} | {rms:.1%} | {held:.1%} |"
            if dither and held < GOAL:
                missed.append(f"a ripple of {ripple_s:g} s: {held:.1%}")


def _held(rng: np.random.Generator, sensor: dict[str, object], phase_s: float, trials: int) -> list[bool]:
    """For each figure that was given, whether the truth lies within two of its uncertainties."""
    held = []
    for fault, hole in FAULTS.values():
        for _ in range(trials):
            found, truth_j = trial(rng, Sensor(**{**sensor, **fault}), phase_s, hole=hole)  # type: ignore[arg-type]
            if not found.reason:
                held.append(abs(found.energy_j - truth_j) <= 2 * found.method_uncertainty_j)
    return held


if __name__ == "__main__":
    sys.exit(simulated(__doc__, 40, 2, _report))
