"""How often melt's bounds, verdicts and crossovers hold, by simulation; every number follows from the seed.

    python benchmarks/verdicts.py --out benchmarks/reports/verdicts.md   # some minutes
    python benchmarks/verdicts.py --trials 500

Prints tables in Markdown, and fails where a goal of docs/measurement.md is missed by more than chance.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import simulated
from melt.analysis.crossover import Crossover, Study, common_range, settle
from melt.analysis.gap import Gap
from melt.analysis.metrics import METRICS
from melt.analysis.paired import holm, paired
from melt.analysis.stats import ROUNDS_FOR_VERDICT, bounds_are, median_with_bounds
from melt.execution.adaptive import STEP

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Floats]
SCATTER: dict[str, tuple[Draw, float]] = {  # how sessions scatter, and their true median
    "lognormal 1 %": (lambda rng, shape: np.exp(rng.normal(0, 0.01, shape)), 1.0),
    "lognormal 8 %": (lambda rng, shape: np.exp(rng.normal(0, 0.08, shape)), 1.0),
    "two modes 20 % apart": (lambda rng, shape: rng.choice([1.0, 1.2], shape) + rng.normal(0, 0.02, shape), 1.1),
    "heavy tail (t, 2)": (lambda rng, shape: rng.standard_t(2, shape), 0.0),
}
NOISE: dict[str, Draw] = {  # of a session's logarithm, one unit
    "normal": lambda rng, shape: rng.normal(0, 1, shape),
    "heavy tail (t, 3)": lambda rng, shape: rng.standard_t(3, shape),
    "one in ten disturbed": lambda rng, shape: rng.normal(0, 1, shape) * np.where(rng.random(shape) < 0.1, 8, 1),
    "two modes": lambda rng, shape: rng.choice([-1.0, 1.0], shape) + rng.normal(0, 0.2, shape),
}
GRIDS = {
    "128, 512, 1024, 4096": ((128, 512, 1024, 4096),) * 2,
    "512, 2048, 8192": ((512, 2048, 8192),) * 2,
    "128, 4096": ((128, 4096),) * 2,
    "one with 128 to 4096, one with 128, 300, 900, 3000, 5000": ((128, 512, 1024, 4096), (128, 300, 900, 3000, 5000)),
}
TRUTH = 1250.0
REPORT = {"lengths": 3, "metrics": 4}  # of a report of two equal models


def _report(asked: argparse.Namespace, missed: list[str]) -> Iterator[str]:
    trials, seed = asked.trials, asked.seed
    yield "# How often melt's claims hold"
    yield ""
    yield f"`benchmarks/verdicts.py --trials {trials} --seed {seed}`; each table says how many tries a number is of."
    yield from _coverage(trials, seed, missed)
    yield from _false_differences(trials, seed, missed)
    yield from _power(trials, seed, missed)
    yield from _crossovers(max(1, trials // 4), seed, missed)


def _coverage(trials: int, seed: int, missed: list[str]) -> Iterator[str]:
    yield from ("", "## Bounds of a median: how often they hold the true one", "", f"Of {10 * trials:,} medians.", "")
    sizes = range(2, 13)
    yield from _head("sessions", *(str(n) for n in sizes))
    yield _row("called", *(bounds_are(n).replace(" interval", "").split(" of")[0] for n in sizes))
    for name, (draw, truth) in SCATTER.items():
        held = []
        for n in sizes:
            _, low, high = median_with_bounds(draw(np.random.default_rng([seed, n]), (n, 10 * trials)))
            held.append(float(np.mean((low <= truth) & (high >= truth))))
            if n >= 6:
                _goal(
                    missed, held[-1] >= 0.94 - 2 * _chance(0.94, 10 * trials), f"{name}, {n} sessions: {held[-1]:.1%}"
                )
        yield _row(name, *(f"{h:.1%}" for h in held))


def _false_differences(trials: int, seed: int, missed: list[str]) -> Iterator[str]:
    yield from ("", "## Two equal models, 3 % of noise: how often a difference is told", "")
    sizes = (2, 3, 5, 6, 8, 10, 12)
    n_lengths, n_metrics = REPORT["lengths"], REPORT["metrics"]
    n_reports = max(1, trials // 8)
    yield (
        f"Of {n_reports:,} reports, each of {n_metrics} cards over {n_lengths} lengths, which says of each metric "
        "where its curves cross."
    )
    yield ""
    yield from _head("rounds", *(str(n) for n in sizes))
    for name, draw in NOISE.items():
        cards, reports = [], []
        for n in sizes:
            rng = np.random.default_rng([seed, n, 2])
            told = [_told(_equal(rng, draw, (n_metrics, n, n_lengths)), n_metrics) for _ in range(n_reports)]
            cards.append(float(np.mean([t[0] / n_metrics for t in told])))
            reports.append(float(np.mean([t[0] + t[1] > 0 for t in told])))
            slack = 2 * _chance(0.1, len(told))
            _goal(missed, cards[-1] <= 0.05 + slack, f"{name}, {n} rounds: a difference in {cards[-1]:.1%} of cards")
            _goal(
                missed, reports[-1] <= 0.1 + slack, f"{name}, {n} rounds: a difference in {reports[-1]:.1%} of reports"
            )
        yield _row(f"{name}: cards", *(f"{c:.1%}" for c in cards))
        yield _row(f"{name}: whole reports", *(f"{r:.1%}" for r in reports))


def _equal(rng: np.random.Generator, draw: Draw, shape: tuple[int, ...]) -> Floats:
    """Log ratios of the sessions of two equal models."""
    return 0.03 * (draw(rng, shape) - draw(rng, shape))


def _told(log_ratios: Floats, claims: int) -> tuple[int, int]:
    """How many cards, and how many crossovers, tell a difference; metrics by rounds by lengths."""
    found = [paired(of_metric.mean(axis=1), claims) for of_metric in log_ratios]
    adjusted = holm([f.p for f in found])
    cards = sum(f.verdict("lower", p) in ("better", "worse") for f, p in zip(found, adjusted, strict=True))
    grid = np.array([128.0, 512.0, 2048.0])
    studies = []
    for of_metric in log_ratios:
        gap = Gap(METRICS["tpot_s"], (grid, grid), (np.exp(of_metric), np.ones_like(of_metric)))
        studies.append(_study(gap, grid))
    return cards, sum(any(one.settled) for one in settle(studies))


def _study(gap: Gap, contexts: Floats) -> Study:
    n = len(gap.values[0])
    return Study(gap.metric.name, "a", "b", contexts, n, gap if n >= ROUNDS_FOR_VERDICT else None)


def _power(trials: int, seed: int, missed: list[str]) -> Iterator[str]:
    n_tries = max(1, trials // 4)
    yield from ("", "## A true difference of 3 %: how often it is told", "", f"Of {n_tries:,} single claims.", "")
    sizes = (6, 8, 10, 12, 20)
    yield from _head("noise within a round", *(f"{n} rounds" for n in sizes), "6 rounds say they would have shown")
    for noise in (0.01, 0.02, 0.03, 0.06):
        found, visible = [], 0.0
        for n in sizes:
            d = math.log(1.03) + np.random.default_rng([seed, n, 3]).normal(0, noise, (n_tries, n))
            of_size = [paired(row) for row in d]
            found.append(float(np.mean([f.verdict("lower") == "worse" for f in of_size])))
            visible = visible or float(np.median([f.visible for f in of_size]))
        if noise == 0.01:
            _goal(missed, found[0] >= 0.9, f"3 % at 1 % of noise found in {found[0]:.1%}")
        yield _row(f"{noise:.0%}", *(f"{f:.1%}" for f in found), f"{visible - 1:.1%}")


def _crossovers(trials: int, seed: int, missed: list[str]) -> Iterator[str]:
    yield from ("", f"## A crossover at {TRUTH:g} tokens (a S against b S + c S²)", "")
    yield f"Of {trials:,} pairs; then with a length added where each pair was found to cross (`adaptive: true`)."
    yield ""
    columns = ("told", "median error", "interval holds it", "upper / lower end")
    yield from _head("lengths", "noise", "rounds", *columns, *(f"{column}, added" for column in columns))
    for name, grids in GRIDS.items():
        for noise in (0.01, 0.03, 0.06):
            for n in (6, 8, 12):
                rng = np.random.default_rng([seed, n, round(noise * 100)])
                said = f"{name}, noise {noise:.0%}, {n} rounds"
                told, added = zip(*(_cross(rng, grids, noise, n) for _ in range(trials)), strict=True)
                both = *_held(told, said, missed), *_held(added, f"{said}, a length added", missed)
                yield _row(name, f"{noise:.0%}", str(n), *both)


def _held(told: Sequence[Crossover], said: str, missed: list[str]) -> Iterator[str]:
    """How often a crossover is told, how far off, how often its interval holds the true one, and how wide that is."""
    found = [(one.context, one.lo, one.hi) for one in told if one.kind == "crosses"]
    place, low, high = np.array(found).T if found else np.full((3, 1), np.nan)
    held, bias = float(np.mean((low <= TRUTH) & (high >= TRUTH))), float(np.median(place)) / TRUTH - 1
    _goal(missed, held >= 0.93 - 2 * _chance(0.93, len(told)), f"{said}: interval holds {held:.1%}")
    by_chance = 2.5 * float(np.std(place)) / TRUTH / math.sqrt(len(place))
    _goal(missed, abs(bias) <= 0.02 + by_chance, f"{said}: median error {bias:.1%}")
    yield from (f"{len(found) / len(told):.1%}", f"{bias:+.1%}", f"{held:.1%}", f"{float(np.median(high / low)):.2f}")


def _cross(
    rng: np.random.Generator, grids: Sequence[Sequence[int]], noise: float, n: int
) -> tuple[Crossover, Crossover]:
    """A pair's crossover, and the same with a length added at it, measured in rounds of its own."""
    laws: tuple[Callable[[Floats], Floats], ...] = (lambda s: 3.9e-3 * s, lambda s: 3e-3 * s + 0.9e-3 / TRUTH * s**2)
    a, b = (np.array(g, dtype=float) for g in grids)
    values = _rounds(rng, laws, (a, b), noise, n)
    told = settle([_study(Gap(METRICS["ttft_s"], (a, b), values), common_range(a, b))])[0]
    if told.kind != "crosses":
        return told, told
    at = np.array([max(1, round(told.context / STEP)) * STEP], dtype=float)
    more = _rounds(rng, laws, (at, at), noise, n)
    order = [np.argsort(np.append(grid, at), kind="stable") for grid in (a, b)]
    grids_then = np.append(a, at)[order[0]], np.append(b, at)[order[1]]
    then = [np.hstack([v, m])[:, o] for v, m, o in zip(values, more, order, strict=True)]
    gap = Gap(METRICS["ttft_s"], grids_then, (then[0], then[1]))
    return told, settle([_study(gap, common_range(*grids_then))])[0]


def _rounds(
    rng: np.random.Generator,
    laws: Sequence[Callable[[Floats], Floats]],
    grids: tuple[Floats, Floats],
    noise: float,
    n: int,
) -> tuple[Floats, Floats]:
    """Both models' times, rounds by lengths: each round has a level of its own."""
    level = np.exp(rng.normal(0, 0.03, (n, 1)))
    a, b = (level * law(g) * np.exp(rng.normal(0, noise, (n, len(g)))) for law, g in zip(laws, grids, strict=True))
    return a, b


def _goal(missed: list[str], met: bool, words: str) -> None:
    if not met:
        missed.append(words)


def _chance(share: float, trials: int) -> float:
    """The standard deviation of a share that was counted."""
    return math.sqrt(share * (1 - share) / trials)


def _head(*columns: str) -> Iterator[str]:
    yield _row(*columns)
    yield _row(*["---"] * len(columns))


def _row(*columns: str) -> str:
    return f"| {' | '.join(columns)} |"


if __name__ == "__main__":
    sys.exit(simulated(__doc__, 4000, 200, _report))
