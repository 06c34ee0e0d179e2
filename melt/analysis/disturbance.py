"""Was a run disturbed? Each cause with its evidence, and what could not be judged.

A run is disturbed where something other than its own work took time in a third or more of its timed passes: a run's
numbers are medians over them. What cannot be judged is said, and excludes nothing.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from melt.analysis.measures.contention import SHORTEST_S, pass_s, stall_ratio, waited_share
from melt.analysis.measures.latency import percentiles
from melt.analysis.run_record import RunRecord
from melt.analysis.stats import median
from melt.spec.events import PHASES, Iteration, KernelCounts
from melt.store.manifest import Flag
from melt.util.units import S_PER_NS

# Flags that say that a run's times are not its own, and the steps against each: such a run is kept and shown, and makes
# no headline.
DISTURBING = {
    "waited": ("close other programs", "give the runner fewer threads"),
    "stalled": ("close other programs",),
    "suspended": ("keep the device awake",),
    "paged": ("free memory, or measure a smaller model or context",),
    "throttled": ("let the device cool down, and lengthen the cool-down",),
    "background_load": ("close other programs",),
}

OFTEN = 1 / 3  # of the timed passes
# Of a phase, summed over threads. A quiet machine whose sampler shares two cores with two threads showed 1 to 3.1 %
# (the demo), and 5 % of one core is to be found.
WAITED = 0.04
SHORTEST_OF_TICKS_S = 0.5  # of a pass in which the kernel's ticks tell a load of others
STOLEN_S = 0.02  # two ticks of the kernel's clock, in which stolen time is told
SWITCHED_PER_S = 100.0  # involuntary switches, judged where nothing better is told
STALLED = 1.2
FEWEST_INTERVALS = 8  # of which a median tells what a usual one is
SUSPENDED_S = 0.05  # the two clocks are read one after the other, and a thread may lose the processor between
FAULT_S = 1e-4  # what a flash memory takes to read a page


@dataclass(frozen=True)
class Judgement:
    """The flags of a run that its kernel's counts and its stamps give, and the causes that could not be judged."""

    flags: tuple[Flag, ...]
    not_judged: tuple[str, ...]


def judgement(rec: RunRecord) -> Judgement:
    """What of a run's passes says that it was disturbed."""
    if not rec.timed:
        return Judgement((), tuple(c for c in DISTURBING if c != "throttled") if rec.ok else ())
    found = (_waited(rec), _stalled(rec), _suspended(rec), _paged(rec))
    waited, stalled, suspended, paged = (evidence for evidence, _ in found)
    flags = (
        Flag(name="waited", evidence=waited),
        Flag(name="stalled", evidence=stalled),
        Flag(name="suspended", evidence=suspended),
        Flag(name="paged", evidence=paged),
    )
    return Judgement(tuple(f for f in flags if f.evidence), tuple(name for _, unknown in found for name in unknown))


def others_cores(rec: RunRecord) -> float:
    """Processor cores that other processes used within the timed passes: the median; NaN where it is not told.

    The kernel counts the whole machine's time in ticks of a hundredth of a second, so short passes tell nothing.
    """
    return median(_others_cores(one) for one in rec.timed)


def _others_cores(one: Iteration) -> float:
    counts, took_s = one.kernel.whole if one.kernel else KernelCounts(), pass_s(one)
    if counts.busy_ns is None or counts.cpu_ns is None or took_s < SHORTEST_OF_TICKS_S:
        return math.nan
    return max(0.0, (counts.busy_ns - counts.cpu_ns) * S_PER_NS / took_s)


def causes(flags: str, rec: RunRecord) -> str:
    """Of a run's flags, joined by commas, those that disturb it; throttling is what a sustained workload looks for."""
    expected = ("throttled",) if rec.manifest.cell.workload == "sustained" else ()
    return ",".join(f for f in flags.split(",") if f in DISTURBING and f not in expected)


_Evidence = tuple[str, list[str]]  # empty where there is none; what could not be judged


def _waited(rec: RunRecord) -> _Evidence:
    """Judged by phase; not where the engine has more threads than processors, which then wait for each other."""
    names = {phase: f"waited in {phase}" for phase in PHASES}
    if _crowded(rec):
        return "", [*names.values()]
    said, unknown = [], []
    for phase, name in names.items():
        shares = [waited_share(one, phase) for one in rec.timed]
        if all(math.isnan(share) for share in shares):
            unknown.append(name)
        elif often := _often(shares, lambda share: share > WAITED):
            said.append(f"{phase}: threads waited {often:.0%} of the time for a processor")
    switches = [_per_second(one, lambda counts: counts.involuntary_switches) for one in rec.timed if _unseen(rec, one)]
    if not said and (often := _often(switches, lambda rate: rate > SWITCHED_PER_S)):
        said.append(f"the processor was taken from the runner {often:.0f} times a second")
    stolen = [_stolen_share(one) for one in rec.timed]
    if often := _often(stolen, lambda share: share > WAITED):
        said.append(f"the host of this virtual machine kept {often:.0%} of a processor")
    return "; ".join(said), unknown


def _unseen(rec: RunRecord, one: Iteration) -> bool:
    """Whether some of the engine's threads lived for less than the pass, so that nothing tells how long they waited.

    llama.cpp without OpenMP starts its threads anew for every graph.
    """
    seen = one.kernel.whole.threads if one.kernel else None
    return seen is None or seen < ((rec.loaded.threads if rec.loaded else None) or 1)


def _stalled(rec: RunRecord) -> _Evidence:
    ratios = [_stall(one) for one in rec.timed]
    if all(math.isnan(r) for r in ratios):
        return "", ["stalled"]
    often = _often(ratios, lambda ratio: ratio > STALLED)
    return (f"the mean interval between tokens is {often:.2g} times the middle one" if often else ""), []


def _stall(one: Iteration) -> float:
    intervals = [(b - a) * S_PER_NS for a, b in zip(one.token_t_ns, one.token_t_ns[1:], strict=False)]
    if len(intervals) < FEWEST_INTERVALS:
        return math.nan
    return stall_ratio(sum(intervals) / len(intervals), percentiles(np.array(intervals), (0.5,))[0])


def _suspended(rec: RunRecord) -> _Evidence:
    counts = list(_whole(rec, lambda c: c.suspended_ns))
    if not counts:
        return "", ["suspended"]
    longest_s = max(counts) * S_PER_NS
    return (f"the device slept {longest_s:.1f} s within a pass" if longest_s > SUSPENDED_S else ""), []


def _paged(rec: RunRecord) -> _Evidence:
    rates = [_per_second(one, lambda counts: counts.major_faults) for one in rec.timed]
    if all(math.isnan(r) for r in rates):
        return "", ["paged"]
    often = _often(rates, lambda rate: rate * FAULT_S > WAITED)
    return (f"{often:.0f} pages a second had to be read from storage again" if often else ""), []


def _crowded(rec: RunRecord) -> bool:
    """Whether the engine has more threads than processors that it may use."""
    threads, mask = rec.loaded.threads if rec.loaded else None, rec.manifest.job.get("cpu_mask")
    allowed = mask.bit_count() if isinstance(mask, int) and mask > 0 else rec.manifest.device.logical_cores
    return bool(threads and allowed and threads > allowed)


def _often(values: list[float], bad: Callable[[float], bool]) -> float | None:
    """The median of the bad ones among a pass's values, where they are often enough; else None."""
    found = [v for v in values if not math.isnan(v) and bad(v)]
    return median(found) if found and len(found) >= OFTEN * len(values) else None


def _whole(rec: RunRecord, count: Callable[[KernelCounts], int | None]) -> Iterator[int]:
    """A count of each pass that has it."""
    for one in rec.timed:
        value = count(one.kernel.whole) if one.kernel else None
        if value is not None:
            yield value


def _per_second(one: Iteration, count: Callable[[KernelCounts], int | None]) -> float:
    """A count a second of the pass; NaN where it is not told, or the pass too short."""
    value = count(one.kernel.whole) if one.kernel else None
    took_s = pass_s(one)
    return math.nan if value is None or took_s < SHORTEST_S else value / took_s


def _stolen_share(one: Iteration) -> float:
    """Of one processor's time; stolen from any of them."""
    stolen_ns = one.kernel.whole.stolen_ns if one.kernel else None
    took_s = pass_s(one)
    if stolen_ns is None or took_s < SHORTEST_S:
        return math.nan
    stolen_s = stolen_ns * S_PER_NS
    return stolen_s / took_s if stolen_s >= STOLEN_S else 0.0
