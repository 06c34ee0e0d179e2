"""Reasons to doubt a run that its own data give, each with its evidence.

What the attempt already flagged is kept; a flag is never given twice.
"""

import math
from collections.abc import Mapping

from melt.analysis.disturbance import judgement, others_cores
from melt.analysis.measures.energy import NO_TIMES
from melt.analysis.measures.thermal import fall_of_speed
from melt.analysis.observation import Observation
from melt.analysis.placement import placement_flags
from melt.analysis.run_record import RunRecord
from melt.spec.events import PHASES
from melt.store.manifest import Flag
from melt.util.text import plural

MEMORY_GAP = 0.10
BUSY_WHEN_IDLE = 0.15
OTHERS_CORES = 0.15  # quiet machines show up to 0.06 of a core, one busy process 0.4 and more
SWAPPED_BYTES = 2**20
UNKNOWN_LINES = "unknown_lines"
EMULATED = "emulated"
FAMILY_DISAGREEMENT = "family_disagreement"
# What was timed is another thing than what the cell or its model's header names, or was so under other conditions than
# the device was to be in: such runs stand in the tables, and in no comparison.
NOT_COMPARED = (
    *(EMULATED, FAMILY_DISAGREEMENT, "accelerator_fallback", "partial_fallback", "extra_buffers_off"),
    *("start_temperature_out_of_band", "conditions_changed"),
)


def compared(flags: str) -> bool:
    """Whether a run with these flags, joined by commas, may stand in a comparison."""
    return set(NOT_COMPARED).isdisjoint(flags.split(","))


def flags_of(rec: RunRecord, row: Mapping[str, float], observed: Observation) -> list[Flag]:
    """The manifest's flags and those of the data, each name once, in the order they were found."""
    flags = [*rec.manifest.flags]
    if rec.ok:
        flags += [*_emulated(rec), *_family(rec), *placement_flags(rec), *_memory(rec, row)]
        flags += [*_throttling(rec, observed), *judgement(rec).flags]
        flags += [*_impossible(observed), *_surroundings(rec, observed), *_energy(row, observed)]
    if rec.n_unknown_lines:
        flags.append(
            Flag(name=UNKNOWN_LINES, evidence=f"no events in {plural(rec.n_unknown_lines, 'line')} of the stream")
        )
    return list({f.name: f for f in reversed(flags)}.values())[::-1]


def _emulated(rec: RunRecord) -> list[Flag]:
    what = rec.loaded.emulated if rec.loaded else None
    if not what:
        return []
    would = rec.manifest.cell.accelerator.upper()
    evidence = f"{what} compute on the CPU what the {would} would, and their times are not its"
    return [Flag(name=EMULATED, evidence=evidence)]


def _family(rec: RunRecord) -> list[Flag]:
    """The engine's own word on the model's family against that read from the model's header.

    A header that told no family is none that could be wrong.
    """
    model, engine = rec.manifest.model, rec.loaded.family if rec.loaded else None
    if model is None or engine is None or model.family in (engine, "unknown"):
        return []
    evidence = f"{model.arch} is {engine} by the engine's own word, and {model.family} by the model's header"
    return [Flag(name=FAMILY_DISAGREEMENT, evidence=evidence)]


def _memory(rec: RunRecord, row: Mapping[str, float]) -> list[Flag]:
    """Measured, explained and predicted memory differ by more than a tenth.

    The engine's second, repacked copy of weights is not in the architecture, and so not in the prediction.
    The process is more than the engine's buffers, so the resident set is held against the buffers only
    where the resident set before loading is known, and only where all buffers are the host's.
    """
    gaps = []
    explained, predicted = row["explained_memory_bytes"], row["predicted_memory_bytes"]
    tables = row["tables_bytes"]
    expected = explained + row["runtime_baseline_bytes"] + (0.0 if math.isnan(tables) else tables)
    own = explained - row["repacked_bytes"]
    on_host = rec.loaded is not None and rec.loaded.effective_accelerator in (None, "cpu")
    if on_host and _apart(row["peak_rss_bytes"], expected):
        words = "explained with runtime" + ("" if math.isnan(tables) else " and vocabulary")
        gaps.append(f"measured {_mib(row['peak_rss_bytes'])}, {words} {_mib(expected)}")
    if _apart(own, predicted):
        copy = " without the repacked copy" if row["repacked_bytes"] else ""
        gaps.append(f"explained{copy} {_mib(own)}, predicted {_mib(predicted)}")
    return [Flag(name="memory_gap", evidence="; ".join(gaps))] if gaps else []


def _apart(a: float, b: float) -> bool:
    return math.isfinite(a) and math.isfinite(b) and b > 0 and abs(a - b) > MEMORY_GAP * b


def _mib(value: float) -> str:
    return f"{value / 2**20:.0f} MiB"


def _throttling(rec: RunRecord, observed: Observation) -> list[Flag]:
    """A fall of speed, told as throttling only where clocks, the firmware or temperature agree."""
    fell, seen = fall_of_speed(rec.timed), observed.heat
    why = seen.throttled or seen.cause
    if fell is None:
        return [Flag(name="throttled", evidence=why)] if why else []
    if why:
        return [Flag(name="throttled", evidence=f"{fell.told}; {why}")]
    return [Flag(name="slowdown", evidence=f"{fell.told}; cause unknown, no clock or temperature tells of heat")]


def _impossible(observed: Observation) -> list[Flag]:
    """Readings that no device can have given are left out, and said."""
    told = [f"{name} said {one} ({plural(one.count, 'reading')})" for name, one in observed.refused.items()]
    return [Flag(name="impossible_readings", evidence=f"left out: {'; '.join(told)}")] if told else []


def _surroundings(rec: RunRecord, observed: Observation) -> list[Flag]:
    flags = []
    if observed.background.charging:
        flags.append(Flag(name="charging", evidence=observed.background.charging))
    if observed.background.swapped_bytes > SWAPPED_BYTES:
        flags.append(Flag(name="swapped", evidence=f"{_mib(observed.background.swapped_bytes)} swapped during the run"))
    if observed.background.idle_utilisation > BUSY_WHEN_IDLE:
        evidence = f"processor {observed.background.idle_utilisation:.0%} busy during the idle baseline"
        flags.append(Flag(name="busy_when_idle", evidence=evidence))
    loads = _background_load(rec, observed)
    return [*flags, Flag(name="background_load", evidence="; ".join(loads))] if loads else flags


def _background_load(rec: RunRecord, observed: Observation) -> list[str]:
    """What else ran in the timed iterations: by the kernel's counts, and by the sampler."""
    loads, in_passes = [], others_cores(rec)
    if in_passes > OTHERS_CORES:
        loads.append(f"other processes used {in_passes:.2f} processor cores within the timed passes")
    others = observed.background.other_load
    if others is not None and others.mean_cores > OTHERS_CORES and not in_passes <= OTHERS_CORES:
        start_s, end_s = others.peak_s
        loads.append(
            f"other processes used {others.mean_cores:.2f} processor cores during the timed iterations on average, "
            f"and {others.peak_cores:.2f} between {start_s:.0f} and {end_s:.0f} s after their start"
        )
    return loads


def _energy(row: Mapping[str, float], observed: Observation) -> list[Flag]:
    """Energy was measured, and yet cannot be given for a phase."""
    missing = [p for p in PHASES if math.isnan(row[f"energy_{p}_j"])]
    energy = observed.energy
    if energy.first_reason("decode") == NO_TIMES:
        return []  # so is every run of such a program: that is no fault of this one
    if energy.sensor and missing:
        evidence = "; ".join(f"{p}: {energy.first_reason(p)}" for p in missing)
        return [Flag(name="low_energy_coverage", evidence=evidence)]
    if not energy.closed:
        evidence = f"phases and gaps differ from the whole by {energy.closure_gap:.1%}"
        return [Flag(name="energy_not_closed", evidence=evidence)]
    return []
