"""Which processors a cell runs on: a cluster by name, or a mask."""

from collections.abc import Sequence

from melt.errors import RunnerError
from melt.spec.cell import Cell
from melt.spec.facts import DeviceFacts
from melt.util.text import plural

MASK_BITS = 64  # of a job's cpu_mask


def oversubscribed(cell: Cell, facts: DeviceFacts) -> str:
    """Of more threads than the processors that the cell may use, both numbers; else empty."""
    mask = cpu_mask(cell.cores, facts)
    processors = mask.bit_count() if mask else facts.logical_cores
    if not cell.threads or not processors or cell.threads <= processors:
        return ""
    return f"{cell.threads} threads on {plural(processors, 'processor')}"


def _listed(cpus: Sequence[int]) -> str:
    """Numbers of processors, runs of them as the first and the last: 0-3,6."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and cpu == parts[-1][-1] + 1:
            parts[-1].append(cpu)
        else:
            parts.append([cpu])
    return ",".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)


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
        on = facts.online_cpus or tuple(range(facts.logical_cores or MASK_BITS))
        off = [cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1 and cpu not in on]
        if off:
            raise RunnerError(
                f"cores {cores}: processors {_listed(off)} are not there or off; on are {_listed(on)}",
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
