"""What the telemetry of a run says, by measure: what is slow to work out, as it parses the sampler's file.

Only the sources that the measures need are parsed; every series is in the ``samples`` frame.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from melt.analysis.measures.background import Background, background
from melt.analysis.measures.energy import PhaseEnergies, phase_energies
from melt.analysis.measures.memory import SampledMemory, only_before_loading, sampled_memory, superseded
from melt.analysis.measures.thermal import Heat, fall_of_speed, heat
from melt.analysis.run_record import RunRecord
from melt.analysis.telemetry import Telemetry, run_window, telemetry_text, text_until
from melt.telemetry.bounds import Refused
from melt.telemetry.series import read
from melt.telemetry.source import Discovery

NOT_MEASURED = ("frequency_hz",)  # but to tell why a run became slower; what other sources are made of is parsed too


@dataclass(frozen=True)
class Observation:
    """The telemetry of a run in a few numbers; what was not sampled is NaN, and text is empty."""

    memory: SampledMemory = field(default_factory=SampledMemory)
    heat: Heat = field(default_factory=Heat)
    background: Background = field(default_factory=Background)
    energy: PhaseEnergies = field(default_factory=PhaseEnergies)
    refused: Mapping[str, Refused] = field(default_factory=dict)  # by source, readings that cannot be


def observe(rec: RunRecord) -> Observation:
    """The figures of one run; a run without telemetry, or that failed, has none."""
    known = rec.manifest.telemetry
    if not rec.ok or not known.sources:
        return Observation()
    text = telemetry_text(rec)
    passed_over = () if fall_of_speed(rec.timed) else NOT_MEASURED
    before = tuple(s for s in known.sources if only_before_loading(s))
    throughout = tuple(
        s for s in known.sources if s not in before and s.quantity not in passed_over and not superseded(s, rec)
    )
    early = text_until(text, run_window(rec)[0])
    parsed = [read(Discovery(probes=known.probes, sources=s), t) for s, t in ((before, early), (throughout, text))]
    by_name = {name: one for part in parsed for name, one in part.series.items()}
    telemetry = Telemetry(rec, by_name)
    return Observation(
        memory=sampled_memory(telemetry),
        heat=heat(telemetry),
        background=background(telemetry),
        energy=phase_energies(rec, by_name),
        refused={name: one for part in parsed for name, one in part.refused.items()},
    )
