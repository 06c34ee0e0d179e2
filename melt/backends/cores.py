"""Which processors a cell runs on: a cluster by name, or a mask."""

from melt.errors import RunnerError
from melt.spec.facts import DeviceFacts

MASK_BITS = 64  # of a job's cpu_mask


def cpu_mask(cores: str, facts: DeviceFacts) -> int | None:
    """The processors as bits; None for all of them.

    ``little`` is the slowest cluster by its top clock, ``big`` the fastest, ``mid`` what lies between.

    Raises:
        RunnerError: the device has no such cluster, does not tell its clusters, or has fewer processors.
    """
    if cores == "all":
        return None
    if cores.startswith("0x"):
        mask = int(cores, 16)
        if facts.logical_cores is not None and mask.bit_length() > facts.logical_cores:
            raise RunnerError(
                f"cores {cores}: the device has {facts.logical_cores} processors",
                "Bit 0 is the first processor: 0xf0 is processors 4 to 7.",
            )
        return mask
    little, *between = facts.clusters or ((),)
    named = {"little": [little], "mid": between[:-1], "big": between[-1:]} if between else {}
    cpus = [cpu for cluster in named.get(cores, []) for cpu in cluster]
    if not cpus:
        clusters = "; ".join(",".join(map(str, c)) for c in facts.clusters) or "none"
        raise RunnerError(
            f"cores {cores}: the device reports no such cluster (its clusters, slowest first: {clusters})",
            "Give a mask: --cores 0xf0 is processors 4 to 7.",
        )
    if max(cpus) >= MASK_BITS:
        raise RunnerError(
            f"cores {cores}: its processors are {','.join(map(str, cpus))}, and a mask names those below {MASK_BITS}",
            "Leave `cores` out, and name `threads`.",
        )
    return sum(1 << cpu for cpu in cpus)
