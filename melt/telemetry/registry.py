"""The kinds of sensors that are installed, melt's own and third parties' alike, and every parser by its name.

A kind that cannot be used is told as an absent sensor with the reason: it stops nobody from measuring.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from melt.errors import MeltError
from melt.telemetry.kinds.base import SensorKind
from melt.telemetry.parsers import SHARED, Parser, apply
from melt.telemetry.source import Absent, Source
from melt.util.plugins import CANNOT_BE_LOADED, Plugin

GROUP = "melt.sensors"
_OWN = "melt.telemetry.kinds."


@dataclass(frozen=True)
class Registry:
    """Kinds by name in the order in which they are asked, parsers by name, and the kinds that cannot be used."""

    kinds: Mapping[str, SensorKind]
    parsers: Mapping[str, Parser]
    broken: tuple[Absent, ...] = ()


@cache
def registry() -> Registry:
    """What is installed; it cannot change while a program runs.

    Raises:
        MeltError: melt's own kinds are not there, as in a checkout that is newer than its installation.
    """
    # melt's own first, so that nobody's name takes the place of one of them
    points = sorted(entry_points(group=GROUP), key=lambda e: (not e.value.startswith(_OWN), e.name))
    if not any(e.value.startswith(_OWN) for e in points):
        raise MeltError(
            "this installation of melt knows no sensors: it is older than its code",
            "In a checkout: python -m pip install --no-deps -e .",
        )
    kinds: dict[str, SensorKind] = {}
    parsers: dict[str, Parser] = dict(SHARED)
    broken: list[Absent] = []
    for point in points:
        try:
            kind = _load(point, kinds, parsers)
        except MeltError as e:
            broken.append(unusable(point.name, e))
            continue
        kinds[point.name] = kind
        parsers |= kind.parsers
    in_order = sorted(kinds.items(), key=lambda item: (item[1].precedence, item[0]))
    return Registry(dict(in_order), parsers, tuple(broken))


def _load(point: EntryPoint, kinds: Mapping[str, SensorKind], parsers: Mapping[str, Parser]) -> SensorKind:
    """The kind of an entry point, whose functions raise MeltErrors alone; raises one where it cannot be used."""
    package = Plugin("sensor kind", point)
    with package.calling(CANNOT_BE_LOADED):
        if point.name in kinds:
            raise ValueError("another kind has that name")
        found = point.load()
        if not isinstance(found, SensorKind):
            raise TypeError(f"{point.value} is no melt.telemetry.kinds.base.SensorKind")
        kind: SensorKind = package.guard_fields(found)
        taken = [n for n, p in kind.parsers.items() if n in parsers and parsers[n] is not p]
        if taken:
            raise ValueError(f"another kind has a parser {taken[0]!r}")
    return kind


def unusable(kind: str, error: MeltError) -> Absent:
    """A kind that cannot be used, as an absent sensor."""
    return Absent(name=f"sensor kind {kind}", reason=error.message, hint=error.hint)


def has_parser(source: Source) -> bool:
    """Whether the source's parser is installed here: a third party's need not be, where its results are read."""
    return source.parser in registry().parsers


def parse(source: Source, raw: str) -> float | None:
    """The number that a source's parser finds in the text, before ``scale`` and sign; never raises.

    None also where the parser is of a package that is not installed here.
    """
    parser = registry().parsers.get(source.parser)
    return apply(parser, raw, source.key) if parser else None
