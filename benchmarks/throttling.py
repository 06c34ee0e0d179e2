"""How often a fall of speed is found, and how often one is claimed that is none: a seeded table.

A pass of a stated length is made at a speed that follows a shape, with 3 % of noise; the shapes fall by 15 % or more,
for ten seconds and three passes or longer.

    python benchmarks/throttling.py
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import arguments
from melt.analysis.slowdown import slowdown
from melt.analysis.stats import Floats

NOISE = 0.03
PASSES = (6, 12, 30, 100, 300, 1000)
LENGTHS_S = (0.5, 2.0, 5.0, 10.0)
TRIALS = 400


@dataclass(frozen=True)
class Fall:
    """When a fall begins, for how long it stays down at the least, and when the run would end; seconds."""

    begin: float
    lasts: float
    end: float


Shape = Callable[[float, Fall], float]  # speed at a second


def _ramp(t: float, fall: Fall) -> float:
    """Straight down to 80 %, and there for as long as a fall lasts."""
    if t < fall.begin:
        return 1.0
    down_s = max(1e-9, fall.end - fall.lasts - fall.begin)
    return 1 - 0.2 * min(1.0, (t - fall.begin) / down_s)


def _decay(t: float, fall: Fall) -> float:
    if t < fall.begin:
        return 1.0
    return 0.7 + 0.3 * math.exp((fall.begin - t) / (0.1 * max(1.0, fall.end - fall.begin)))


def _in_turn(t: float, fall: Fall) -> float:
    return 0.6 if t >= fall.begin and int((t - fall.begin) / fall.lasts) % 2 == 0 else 1.0


SHAPES: dict[str, Shape] = {
    "steady": lambda t, fall: 1.0,
    "step to 85 %": lambda t, fall: 0.85 if t >= fall.begin else 1.0,
    "85 % for a while": lambda t, fall: 0.85 if fall.begin <= t < fall.begin + fall.lasts else 1.0,
    "ramp to 80 %": _ramp,
    "decay to 70 %": _decay,
    "60 and 100 % in turn": _in_turn,
}


def passes(shape: Shape, n: int, length_s: float, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Start, duration and speed of each pass. A fall begins with a pass; before and in it ten seconds and three passes
    go by at the least."""
    fresh_s, lasts_s, whole_s = max(10.0, 3 * length_s), max(10.0, 3.6 * length_s), n * length_s
    earliest, needs = math.ceil(fresh_s / length_s), max(3, math.ceil(8.5 / length_s))
    first = int(rng.integers(earliest, max(earliest, n - needs) + 1))
    fall = Fall(math.inf, lasts_s, whole_s)
    t, starts, took = 0.0, [], []
    for i in range(n):
        fall = replace(fall, begin=t) if i == first else fall
        work_s, step_s, spent_s = length_s * math.exp(rng.normal(0, NOISE)), length_s / 20, 0.0
        while work_s > 0:
            speed = shape(t + spent_s, fall)
            part_s = min(step_s, work_s / speed)
            work_s -= part_s * speed
            spent_s += part_s
        starts.append(t)
        took.append(spent_s)
        t += spent_s
    return np.array(starts), np.array(took), length_s / np.array(took)


def found(name: str, n: int, length_s: float, trials: int, seed: int = 7) -> float:
    """The share of trials in which a slowdown is told."""
    rng = np.random.default_rng([seed, n, round(length_s * 10), sorted(SHAPES).index(name)])
    return sum(slowdown(*passes(SHAPES[name], n, length_s, rng)) is not None for _ in range(trials)) / trials


def sensible(name: str, n: int, length_s: float) -> bool:
    """Whether the run is long enough to be fresh for ten seconds and three passes, and to fall for as long."""
    return name == "steady" or n * length_s >= 2 * max(10.0, 3 * length_s)


def main() -> None:
    """Prints a table: shapes by passes and their length."""
    parser = arguments(__doc__, trials=2)
    parser.add_argument("--trials", type=int, default=TRIALS)
    args = parser.parse_args()
    for name in SHAPES:
        print(f"\n{name}\n  passes of  " + "".join(f"{n:>8}" for n in PASSES))
        for length_s in LENGTHS_S:
            cells = [found(name, n, length_s, args.trials) if sensible(name, n, length_s) else None for n in PASSES]
            print(f"  {length_s:>5.1f} s    " + "".join(f"{'–' if c is None else f'{c:.1%}':>8}" for c in cells))


if __name__ == "__main__":
    main()
