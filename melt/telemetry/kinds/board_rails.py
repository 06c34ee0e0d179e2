"""Which of a board's power rails together are all that it takes.

Sources: NVIDIA Jetson Linux developer guide, "Power Consumption" (the AGX Orin's VDDQ_VDD2_1V8AO is fed by
VIN_SYS_5V0, so counting both would count it twice); Jetson AGX Xavier design guide DG-09840-001, 5.6.2: its module
has two inputs, one of which is measured behind five of the rails, and the other is SYS5V.
"""

from collections import Counter
from collections.abc import Sequence

from melt.telemetry.kinds.base import NO_TOTAL_HINT, Findings
from melt.telemetry.source import NO_ENERGY, Site, Source
from melt.util.text import joined

INPUT_RAILS = ("VDD_IN", "POM_5V_IN", "VIN")  # one of these is all that the module takes
_FED_BY = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
_SUMS = (("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"))


def rail_site(label: str) -> Site:
    """Where a rail of this label measures."""
    return "input" if label in INPUT_RAILS else "soc_rail"


def board_total(rails: Sequence[Source]) -> list[str]:
    """The names of the rails that together are the whole board, each watt once; empty where none are known to be.

    A label that two rails share tells nothing but of an input: the second would be the same further down.
    """
    for label in INPUT_RAILS:
        for s in rails:
            if s.rail == label:
                return [s.name]
    times = Counter(s.rail for s in rails)
    by_rail = {s.rail: s.name for s in rails}
    for labels in _SUMS:
        if all(times[label] == 1 for label in labels):
            return [by_rail[label] for label in labels]
    return []


def miss_total(findings: Findings, rails: Sequence[Source]) -> None:
    """Records why ``board_total`` finds none among some rails; nothing where there are no rails."""
    times = Counter(s.rail for s in rails)
    for labels in _SUMS:
        shared = [label for label in labels if times[label] > 1]
        if shared and all(times[label] for label in labels):
            reason = (
                f"several rails are called {joined(shared)}, and which of them the board's total has, nobody can tell"
            )
            return findings.miss(NO_ENERGY, reason, NO_TOTAL_HINT)
    if rails:
        findings.miss(NO_ENERGY, "no rail is known to be all that the board takes", NO_TOTAL_HINT)
    return None


def with_holders(sources: Sequence[Source]) -> list[Source]:
    """The same sources, each board rail with the names of those that it lies inside of: the board's input, or the
    rail that feeds it."""
    by_rail = {s.rail: s.name for s in sources if s.quantity == "power_w"}
    inputs = [by_rail[label] for label in INPUT_RAILS if label in by_rail][:1]
    out = []
    for s in sources:
        fed_by = by_rail.get(_FED_BY.get(s.rail, ""))
        holders = [name for name in (*inputs, *filter(None, [fed_by])) if name != s.name]
        is_rail = s.quantity == "power_w" and s.rail not in INPUT_RAILS
        out.append(s.model_copy(update={"inside": tuple(holders)}) if is_rail and holders else s)
    return out
