"""What other processes took of the processor while a run was timed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from melt.analysis.recorded import Recorded
from melt.telemetry.series import Series

NS = 1e-9
MIN_COVERED = 0.5  # of the timed part


@dataclass(frozen=True)
class Others:
    """Processor cores that other processes used during the timed iterations; ``peak_s`` counts from their start."""

    mean_cores: float
    peak_cores: float
    peak_s: tuple[float, float]


def others_load(rec: Recorded, by_name: Mapping[str, Series]) -> Others | None:
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
    return Others(
        mean_cores=float(np.average(others, weights=(to_ns - from_ns)[inside])),
        peak_cores=float(others[most]),
        peak_s=(float(from_ns[inside][most] - start) * NS, float(to_ns[inside][most] - start) * NS),
    )


def _utilisation(rec: Recorded, by_name: Mapping[str, Series], site: str) -> Series | None:
    """The first series of processor use at a site, as a share of all cores."""
    for source in rec.manifest.telemetry.sources:
        found = by_name.get(source.name)
        if source.quantity == "utilisation" and source.site == site and found is not None and len(found.t_ns) > 1:
            return found
    return None
