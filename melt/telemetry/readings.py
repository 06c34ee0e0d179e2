"""What a sensor's readings tell of the sensor: how often it has a new value, and how fast it follows its load."""

import numpy as np
from numpy.typing import NDArray

from melt.util.units import S_PER_NS

Times = NDArray[np.int64]
Values = NDArray[np.float64]
_OFTEN = 0.1  # this share of the times between new values is shorter than the one that is taken
_MOVED, _SETTLED = 0.4, 1.25


def new_at_ns(t_ns: Times, reading: Values) -> Times:
    """The stamps at which a reading differs from the one before."""
    return np.asarray(t_ns[1:][np.diff(reading) != 0])


def usual_interval_s(t_ns: Times) -> float:
    """Seconds between readings, by the median; 0 where there are not two."""
    return float(np.median(np.diff(t_ns))) * S_PER_NS if len(t_ns) > 1 else 0.0


def between_new_s(new_ns: Times) -> float:
    """Seconds between new values, by the tenth that follows soonest: under steady load a value often repeats."""
    return float(np.quantile(np.diff(new_ns), _OFTEN)) * S_PER_NS if len(new_ns) > 1 else 0.0


def settling_s(t_ns: Times, value: Values) -> float:
    """Seconds in which the readings follow a step of the load; 0 where they do at once.

    The largest move within b readings grows with b until a step is followed in full. Taken is the least b from which
    on it grows by less than a quarter when b doubles; moves that are small beside all that the readings went through
    are ripple, and show nothing. The mean over a window w moves in proportion until w is over, so that b is 0.8 w.
    """
    whole = float(np.ptp(value)) if len(value) else 0.0
    b = 1
    while whole > 0 and 2 * b < len(value):
        moved, further = (float(np.abs(value[k:] - value[:-k]).max()) for k in (b, 2 * b))
        if moved >= _MOVED * whole and further < _SETTLED * moved:
            break
        b = max(b + 1, round(1.25 * b))
    return 0.0 if b == 1 else b * usual_interval_s(t_ns) / 0.8
