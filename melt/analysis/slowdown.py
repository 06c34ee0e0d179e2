"""Did a process become slower while it worked? Found in its passes' speeds alone; why is another question.

The speed of a pass is given relative to what its depth should have: any unit, as long as equal work at equal clocks
has an equal one. Fresh is the fastest window of the first half minute, as a device may take some seconds to heat; slow
is a later window below nine tenths of it. Windows are medians of three passes or of ten seconds, whichever is more, so
that one odd pass is none.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from melt.analysis.stats import Floats

SLOW_BELOW = 0.90
WINDOW_S = 10.0
WINDOW_PASSES = 3
FRESH_WITHIN_S = 30.0
# How far the lowest of all windows lies below the highest of the early ones where nothing but chance is at work, in
# standard deviations of a pass for windows of three: in all but one run of a hundred (``benchmarks/throttling.py``).
# Noise above the most that is allowed for hides no fall of 15 %.
BEYOND_NOISE, PER_LOG_PASSES, OF_SEVERAL = 2.6, 0.2, 0.7
MOST_NOISE = 0.03
_MEDIAN_OF_DIFFERENCES = 0.9539  # of |a - b| of two draws with a standard deviation of 1


@dataclass(frozen=True)
class Slowdown:
    """A fall of speed: ``ratio`` is the slowest window's speed over the fresh one's.

    ``first`` is the pass with which it began; ``fresh`` and ``slow`` are the two windows, as first pass and end.
    """

    first: int
    ratio: float
    fresh: tuple[int, int]
    slow: tuple[int, int]


def slowdown(start_s: ArrayLike, took_s: ArrayLike, speed: ArrayLike) -> Slowdown | None:
    """The fall of speed over the passes of a process, or None.

    Args:
        start_s: when each pass began, ascending.
        took_s: how long each took.
        speed: of each, over what it should be; above 0.
    """
    started, speeds = np.asarray(start_s, dtype=float), np.asarray(speed, dtype=float)
    n, width = len(speeds), _width(np.asarray(took_s, dtype=float))
    if n < 2 or width == 0 or not (np.isfinite(speeds).all() and (speeds > 0).all()):
        return None
    log = np.log(speeds)
    medians = np.median(np.lib.stride_tricks.sliding_window_view(log, width), axis=1)
    early = max(1, int(np.searchsorted(started, started[0] + FRESH_WITHIN_S, side="left")) - width + 1)
    until_then = np.maximum.accumulate(medians[:early])
    fall = np.append(until_then, np.full(len(medians) - len(until_then), until_then[-1])) - medians
    most = int(np.argmax(fall))
    deviations = BEYOND_NOISE + PER_LOG_PASSES * math.log(n) + (OF_SEVERAL if len(until_then) > 1 else 0.0)
    allowed = max(-math.log(SLOW_BELOW), deviations * _noise(log) * math.sqrt(WINDOW_PASSES / width))
    if fall[most] <= allowed:
        return None
    begins = int(np.argmax(fall > allowed))  # the first window that is slow, in which some pass is the first
    fresh = int(np.argmax(medians[: min(begins + 1, early)]))
    below = log[begins : begins + width] < medians[fresh] + math.log(SLOW_BELOW)
    ratio = math.exp(-float(fall[most]))
    return Slowdown(begins + int(np.argmax(below)), ratio, (fresh, fresh + width), (most, most + width))


def _width(took_s: Floats) -> int:
    """Passes of a window: three, or those of ten seconds where there are three windows of them; 0: too few to tell.

    Of fewer than six passes one or two are a window, if they last ten seconds.
    """
    n, usual_s = len(took_s), float(np.median(took_s)) if len(took_s) else 0.0
    if usual_s <= 0:
        return 0
    if n < 2 * WINDOW_PASSES:
        width = max(1, n // 2)
        return width if width * usual_s >= WINDOW_S else 0
    width = min(math.ceil(WINDOW_S / usual_s), n // 3)
    return max(WINDOW_PASSES, width - (width + 1) % 2)  # odd, so that a median is one pass's


def _noise(log: Floats) -> float:
    """The standard deviation of a pass around what changes slowly, by its neighbours; more of few, which tell less."""
    typical = float(np.median(np.abs(np.diff(log)))) / _MEDIAN_OF_DIFFERENCES
    return min(MOST_NOISE, typical * (1 + 3 / len(log)))
