"""What a device can tell about itself: every kind of sensor is asked, and one kind makes the total. Pure."""

import fnmatch
from collections.abc import Mapping, Sequence

from melt.errors import MeltError
from melt.spec.profile import Sensors
from melt.telemetry.kinds.base import NO_TOTAL_HINT, Findings, SensorKind
from melt.telemetry.registry import registry, unusable
from melt.telemetry.source import NO_ENERGY, OF_ENERGY, Absent, Discovery, Inventory, Source
from melt.util.plugins import HINT

MAX_NAMED = 32


def kinds_for(platform: str) -> dict[str, SensorKind]:
    """The kinds that such a device may have, in the order in which they are asked."""
    return {name: kind for name, kind in registry().kinds.items() if platform in kind.platforms}


def sensor_globs(platform: str) -> tuple[str, ...]:
    """The files that discovery wants read on such a device."""
    return tuple(dict.fromkeys(g for kind in kinds_for(platform).values() for g in kind.globs))


def sensor_commands(platform: str) -> dict[str, str]:
    """An inventory's entries that are no files, and the command that gives each; empty text where there is none."""
    return {name: command for kind in kinds_for(platform).values() for name, command in kind.commands.items()}


def discover(platform: str, inventory: Inventory, sensors: Sensors) -> Discovery:
    """Every probe worth reading, what each means, which sources make the total, and what is missing and why.

    The profile's ``disable`` takes sources out by name or pattern, and its ``total`` names the sources of the
    total instead of the kinds' precedence.
    """
    findings = Findings(absent=list(registry().broken))
    of_kind: dict[str, set[str]] = {}
    for name, kind in kinds_for(platform).items():
        of_one = _ask(name, kind, inventory, sensors, findings)
        of_kind[name] = {s.name for s in of_one.sources}
        findings.extend(of_one)
    if not any(s.quantity == "temperature_c" for s in findings.sources):
        hint = "Virtual machines have none: sessions then start without waiting to cool."
        findings.miss("temperature", "no thermal zone", hint, "temperature_c")
    kept = [s for s in findings.sources if not _matches(s, sensors.disable)]
    disabled = [s for s in findings.sources if s not in kept]
    findings.absent += [Absent(name=s.name, reason="disabled in the profile", quantity=s.quantity) for s in disabled]
    total = _wanted_total(findings, kept, sensors.total) if sensors.total else _total(findings, kept, of_kind)
    no_total = () if total else (_no_total(findings, kept, bool(sensors.total)),)
    used = {s.probe for s in kept}
    return Discovery(
        probes=tuple(p for p in findings.probes if p.name in used),
        sources=tuple(s.model_copy(update={"counts_in_total": s.name in total}) for s in kept),
        absent=(*(a for a in findings.absent if a.name != NO_ENERGY), *no_total),
    )


def _ask(name: str, kind: SensorKind, inventory: Inventory, sensors: Sensors, earlier: Findings) -> Findings:
    """What one kind finds. One that raises, or whose names others have already, is an absent sensor."""
    try:
        findings = kind.find(inventory, sensors, tuple(earlier.sources))
        taken = {s.name for s in earlier.sources}, {p.name for p in earlier.probes}
        _check_names([s.name for s in findings.sources], taken[0], "source")
        _check_names([p.name for p in findings.probes], taken[1], "probe")
        unknown = [s.parser for s in findings.sources if s.parser not in registry().parsers]
        if unknown:
            raise MeltError(f"there is no parser {unknown[0]!r}", HINT)
    except MeltError as e:
        return Findings(absent=[unusable(name, e)])
    return findings


def _check_names(names: Sequence[str], taken: set[str], what: str) -> None:
    for name in names:
        if name in taken:
            raise MeltError(f"there is a {what} {name!r} already", HINT)
        taken.add(name)


def _total(findings: Findings, kept: list[Source], of_kind: Mapping[str, set[str]]) -> set[str]:
    """The sources of the first kind that can make the total: one kind only, so that no joule counts twice."""
    for name, given in of_kind.items():
        own = [s for s in kept if s.name in given]
        try:
            total = set(registry().kinds[name].total(own)) & {s.name for s in own}
        except MeltError as e:
            findings.absent.append(unusable(name, e))
            continue
        if total:
            return total
    return set()


def _no_total(findings: Findings, kept: list[Source], is_named: bool) -> Absent:
    """Why there is no total, and what would bring one."""
    if is_named:
        reason = "the profile's sensors.total names no power or energy source that is here"
        return Absent(name=NO_ENERGY, reason=reason, hint="Mend it there, or leave it out.")
    told = next((a for a in findings.absent if a.name == NO_ENERGY), None)
    if told:
        return told
    # A sensor that is there is named after its kind and itself; where there is none, by the kind alone.
    unusable = [a for a in findings.absent if a.quantity in OF_ENERGY and ":" in a.name]
    if unusable:
        first = unusable[0]
        alike = sum(a.reason == first.reason for a in unusable)
        names = f"{first.name} and {alike - 1} more" if alike > 1 else first.name
        return Absent(name=NO_ENERGY, reason=f"{names}: {first.reason}", hint=first.hint)
    if any(s.is_of_energy for s in kept):
        reason = "nothing that measures power here is known to measure all that the device takes"
        return Absent(name=NO_ENERGY, reason=reason, hint=NO_TOTAL_HINT)
    hint = "An external meter, or a device with a sensor, is needed."
    return Absent(name=NO_ENERGY, reason="nothing here measures power", hint=hint)


def _wanted_total(findings: Findings, kept: list[Source], wanted: tuple[str, ...]) -> set[str]:
    """The power and energy sources that the profile names."""
    able = [s for s in kept if s.is_of_energy]
    there = f"There are: {', '.join(s.name for s in able[:MAX_NAMED])}." if able else "There are none."
    for pattern in wanted:
        if not any(_matches(s, (pattern,)) for s in able):
            reason = "the profile's sensors.total names it, and no such power or energy source is here"
            findings.miss(pattern, reason, there, "power_w")
    chosen = {s.name for s in able if _matches(s, wanted)}
    held = {s.name: holder for s in able if s.name in chosen for holder in s.inside if holder in chosen}
    for name, holder in held.items():
        reason = f"the profile's sensors.total names it and {holder}, which holds it: it is not added once more"
        findings.miss(f"{name} in the total", reason, "Name only one of the two.", "power_w")
    return chosen - set(held)


def _matches(source: Source, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(source.name, p) for p in patterns)
