"""What else went on beside a run: other processes, swapping, and power from outside."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from melt.analysis.run_record import RunRecord
from melt.analysis.telemetry import Telemetry, Values, finite
from melt.telemetry.series import Series
from melt.util.units import S_PER_NS

MIN_COVERED = 0.5  # of the timed part


@dataclass(frozen=True)
class OtherLoad:
    """Processor cores that other processes used during the timed iterations; ``peak_s`` counts from their start."""

    mean_cores: float
    peak_cores: float
    peak_s: tuple[float, float]


@dataclass(frozen=True)
class Background:
    """What the sampler saw beside a run; ``charging`` is the evidence that the device was fed from outside."""

    idle_utilisation: float = math.nan
    swapped_bytes: float = 0.0
    charging: str = ""
    other_load: OtherLoad | None = None


def background(telemetry: Telemetry) -> Background:
    """What the sampler saw beside a run."""
    busy = telemetry.values(telemetry.sources("utilisation", "system"), telemetry.idle)
    swapped = telemetry.values(telemetry.sources("swap_bytes"), telemetry.run)
    return Background(
        idle_utilisation=next((float(v.mean()) for v in (finite([b]) for b in busy) if v.size), math.nan),
        swapped_bytes=sum((_rise(v) for v in swapped), 0.0),
        charging=telemetry.ever("charging", "says that the device was fed from outside"),
        other_load=other_load(telemetry.rec, telemetry.by_name),
    )


def _rise(values: Values) -> float:
    known = finite([values])
    return float(known[-1] - known[0]) if known.size > 1 else 0.0


def other_load(rec: RunRecord, by_name: Mapping[str, Series]) -> OtherLoad | None:
    """The load of the whole device less the runner's own; None where either was not sampled well enough."""
    cores = rec.manifest.device.logical_cores
    device, own = (_utilisation(rec, by_name, site) for site in ("system", "process"))
    if device is None or own is None or not cores or not rec.timed:
        return None
    start, end = rec.timed[0].prefill.t_start_ns, rec.timed[-1].token_t_ns[-1]
    # A sample is the mean between two readings, and stamped in the middle of them.
    half_ns = int(np.median(np.diff(device.t_ns))) // 2
    near = (device.t_ns >= own.t_ns[0] - half_ns) & (device.t_ns <= own.t_ns[-1] + half_ns)
    from_ns = np.maximum(device.t_ns - half_ns, start)
    to_ns = np.minimum(device.t_ns + half_ns, end)
    inside = near & (to_ns > from_ns)
    if (to_ns - from_ns)[inside].sum() < MIN_COVERED * (end - start):
        return None
    others = (device.value - np.interp(device.t_ns, own.t_ns, own.value))[inside] * cores
    most = int(np.argmax(others))
    return OtherLoad(
        mean_cores=float(np.average(others, weights=(to_ns - from_ns)[inside])),
        peak_cores=float(others[most]),
        peak_s=(float(from_ns[inside][most] - start) * S_PER_NS, float(to_ns[inside][most] - start) * S_PER_NS),
    )


def _utilisation(rec: RunRecord, by_name: Mapping[str, Series], site: str) -> Series | None:
    """The first series of processor use at a site, as a share of all cores."""
    for source in rec.manifest.telemetry.sources:
        one = by_name.get(source.name)
        if source.quantity == "utilisation" and source.site == site and one is not None and len(one.t_ns) > 1:
            return one
    return None
