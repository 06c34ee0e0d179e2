"""The one admission of a plan: what can be known of it before anything is measured, made, built or pushed.

A dry run shows it and a run begins with it, so that both speak of the same cells by the same ids.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from melt.backends import load_backend
from melt.backends.options import admitted_cells
from melt.drivers.profiles import load_profile
from melt.errors import MeltError, PlanError, ProfileError
from melt.execution.conditions import check_conditions, facts_as_asked
from melt.execution.devices import look_at
from melt.execution.fit import beyond_training, does_not_fit, predicted, unpredicted
from melt.execution.private import plan_as_told
from melt.models.info import ModelInfo
from melt.models.refs import parse_ref, peek
from melt.models.sources.base import Ref
from melt.spec.cell import Cell
from melt.spec.facts import DeviceFacts
from melt.spec.plan import Plan, check_complete
from melt.spec.profile import DeviceProfile

if TYPE_CHECKING:
    from melt.backends.base import Backend

K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True)
class Names:
    """What the names in a plan's cells stand for; nothing is opened or fetched."""

    backends: Mapping[str, "Backend"]
    profiles: Mapping[str, DeviceProfile]
    refs: Mapping[str, Ref]


@dataclass(frozen=True)
class Preflight:
    """A plan with everything about it that is known before it is measured.

    ``cells`` are as results will name them: the device by its profile's name, the model by its reference in full,
    threads and runner decided. Those in ``undecided`` have a device that is not there or cannot run them; their ids
    may still change.
    """

    plan: Plan
    cells: tuple[Cell, ...]
    profiles: Mapping[str, DeviceProfile]  # by the names in cells
    backends: Mapping[str, "Backend"]
    facts: Mapping[str, DeviceFacts]  # of the devices that are there
    refs: Mapping[str, Ref]  # of all models, by the names in cells
    models: Mapping[str, ModelInfo]  # of the models that are here, or are known without being here
    undecided: frozenset[Cell] = frozenset()
    to_build: Mapping[Cell, str] = field(default_factory=dict)  # by cell that can be run; empty: nothing
    problems: tuple[MeltError, ...] = ()  # what stands in the way of a run, each once
    told: str = ""  # the plan as results keep it
    absent: Mapping[str, MeltError] = field(default_factory=dict)  # devices that cannot be had, among the problems
    left_out: Mapping[Cell, str] = field(default_factory=dict)  # cells of such, with the reason

    def require_ready(self) -> None:
        """Raises MeltError where something stands in the way of a run."""
        if self.problems:
            raise _all_as_one(self.problems)

    def without_absent(self) -> "Preflight":
        """Without the cells of devices that cannot be had, where others can: they are no reason to measure nothing."""
        if not self.absent or not self.facts:
            return self
        left_out = {c: self.absent[c.device].message for c in self.cells if c.device in self.absent}
        others = tuple(p for p in self.problems if p not in self.absent.values())
        cells = tuple(c for c in self.cells if c not in left_out)
        undecided = self.undecided - left_out.keys()
        return replace(self, cells=cells, undecided=undecided, problems=others, left_out=left_out, absent={})

    @property
    def skipped(self) -> dict[Cell, str]:
        """The cells that do not fit in memory by prediction, each with the reason."""
        known = [c for c in self.cells if c.model in self.models and c.device in self.facts and self.plan.memory_check]
        reasons = {c: self._does_not_fit(c) for c in known}
        return {cell: reason for cell, reason in reasons.items() if reason}

    def _does_not_fit(self, cell: Cell) -> str:
        needs = predicted(cell, self.models[cell.model])
        return does_not_fit(needs, self.facts[cell.device].available_bytes, self.plan.memory_fraction)

    @property
    def warnings(self) -> list[str]:
        """Of models that are asked for more context than they were trained for, and whose memory nobody can predict."""
        longest = {c.model: c for c in sorted(self.cells, key=lambda c: c.prompt_tokens + c.gen_tokens)}
        known = {ref: cell for ref, cell in longest.items() if ref in self.models}
        beyond = [(ref, beyond_training(cell, self.models[ref])) for ref, cell in known.items()]
        unchecked = [(ref, unpredicted(self.models[ref])) for ref in known if self.plan.memory_check]
        return [f"{ref}: {evidence}" for ref, evidence in (*beyond, *unchecked) if evidence]

    def runner_sha256(self, cell: Cell) -> str | None:
        """Of the program that measures the cell; None where it is not brought, or not here yet."""
        if not self._is_whole(cell):
            return None
        bundle = self.backends[cell.backend].bundle(cell, self.models[cell.model], self.facts_for(cell), job_id="")
        return bundle.runner_sha256

    def files(self, device: str) -> dict[str, int]:
        """What the device needs of this host, by name in bytes, as far as it is known: models and programs.

        What the device has already is not sent again.
        """
        sizes: dict[str, int] = {}
        skipped = self.skipped
        for cell in (c for c in self.cells if c.device == device and c not in skipped):
            if cell.model in self.models:
                sizes[cell.model] = self.models[cell.model].file_bytes
            if self._is_whole(cell):
                model = self.models[cell.model]
                bundle = self.backends[cell.backend].bundle(cell, model, self.facts_for(cell), job_id="")
                sizes |= {f.name: f.size_bytes for f in bundle.programs.values()}
        return sizes

    def facts_for(self, cell: Cell) -> DeviceFacts:
        """The cell's device as it will be for it."""
        return facts_as_asked(cell, self.profiles[cell.device], self.facts[cell.device])

    def _is_whole(self, cell: Cell) -> bool:
        """Whether all of it that goes to the device is known."""
        return self.to_build.get(cell) == "" and cell.model in self.models


def preflight(
    plan: Plan, facts_of: Callable[[DeviceProfile], DeviceFacts] = look_at, only: Collection[str] = ()
) -> Preflight:
    """Admits a plan.

    Args:
        plan: what to measure.
        facts_of: what a device says of itself; a run opens and holds the device here.
        only: names of devices; the cells of others are left aside. None are named: all of them.

    Raises:
        MeltError: something is wrong with the plan itself or with a name in it; no device is touched then. What is
            wrong with a device is among the result's ``problems``.
    """
    check_complete(plan)
    asked = admitted_cells(plan)
    names = read_names(asked)
    asked = tuple(c for c in asked if not only or names.profiles[c.device].name in only)
    profiles = by_name(names.profiles[c.device] for c in asked)
    # One model and one device have one name each, so that two ways to write it are one cell, and no path is in it.
    named = dict.fromkeys(_in_full(c, names.profiles[c.device], names.refs[c.model]) for c in asked)
    refs = _one_a_name(names.refs)
    infos = {text: peek(ref) for text, ref in refs.items()}
    problems = _Problems()
    facts = problems.collect(lambda name: facts_of(profiles[name]), profiles)
    absent = problems.by_asked()
    there = [c for c in named if c.device in facts]

    def asked_for(c: Cell) -> DeviceFacts:
        return facts_as_asked(c, profiles[c.device], facts[c.device])

    decided = problems.collect(lambda c: _decided(c, names.backends[c.backend], asked_for(c)), there)
    ready = dict.fromkeys(decided.values())
    builds = problems.collect(lambda c: names.backends[c.backend].to_build(c, asked_for(c)), ready)
    cells = tuple(dict.fromkeys(decided.get(c, c) for c in named))
    return Preflight(
        plan=plan,
        cells=cells,
        profiles=profiles,
        backends=names.backends,
        facts=facts,
        refs=refs,
        models={ref: info for ref, info in infos.items() if info is not None},
        undecided=frozenset(cells) - frozenset(ready),
        to_build={c: what or "" for c, what in builds.items()},
        problems=problems.each_once(),
        told=plan_as_told(plan, names.refs, names.profiles),
        absent=absent,
    )


def read_names(cells: Sequence[Cell]) -> Names:
    """What cells name; nothing is opened or fetched.

    Raises:
        MeltError: of the first problem's kind, with every problem in its message.
    """
    problems = _Problems()
    backends = problems.collect(load_backend, (c.backend for c in cells))
    profiles = problems.collect(load_profile, (c.device for c in cells))
    refs = problems.collect(_read_ref, (c.model for c in cells))
    known = [c for c in cells if c.backend in backends]
    problems.collect(lambda c: backends[c.backend].check_axes(c), known)
    problems.collect(lambda c: backends[c.backend].check_cell(c), known)
    problems.raise_any()
    return Names(backends, profiles, refs)


def by_name(profiles: Iterable[DeviceProfile]) -> dict[str, DeviceProfile]:
    """Profiles by their names.

    Raises:
        ProfileError: two files have one name, and results could not tell the devices apart.
    """
    known: dict[str, DeviceProfile] = {}
    for profile in profiles:
        other = known.setdefault(profile.name, profile)
        if other.path != profile.path:
            raise ProfileError(
                f"{other.path} and {profile.path} are both named {profile.name!r}", "Rename one of them."
            )
    return known


def _one_a_name(refs: Mapping[str, Ref]) -> dict[str, Ref]:
    """References by the names that results have for them.

    Raises:
        PlanError: two files have one name, and results could not tell the models apart.
    """
    known: dict[str, Ref] = {}
    for written, ref in refs.items():
        if known.setdefault(ref.text, ref) != ref:
            other = next(w for w, r in refs.items() if r == known[ref.text])
            raise PlanError(f"{other} and {written} are both named {ref.text!r}", "Rename one of them.")
    return known


def _read_ref(text: str) -> Ref:
    ref = parse_ref(text)
    ref.check()  # a file that is gone or damaged is known now
    return ref


def _in_full(cell: Cell, profile: DeviceProfile, ref: Ref) -> Cell:
    """By the names that results keep, and with the profile's threads where neither they nor cores are asked for."""
    threads = cell.threads or (profile.threads if cell.cores == "all" else None)
    return cell.model_copy(update={"model": ref.text, "device": profile.name, "threads": threads})


def _decided(cell: Cell, backend: "Backend", facts: DeviceFacts) -> Cell:
    check_conditions(cell, facts)
    return backend.decide(cell, facts)


class _Problems:
    """Errors gathered on the way, so that all are told at once."""

    def __init__(self) -> None:
        self._errors: dict[tuple[int, object], MeltError] = {}

    def collect(self, reader: Callable[[K], T], asked: Iterable[K]) -> dict[K, T]:
        """What a reader makes of each thing, once each; its errors are kept."""
        results = {}
        for one in dict.fromkeys(asked):
            try:
                results[one] = reader(one)
            except MeltError as e:
                self._errors[len(self._errors), one] = e
        return results

    def by_asked(self) -> dict[str, MeltError]:
        """The errors so far by what was asked, which were names."""
        return {str(one): e for (_, one), e in self._errors.items()}

    def each_once(self) -> tuple[MeltError, ...]:
        """The errors by their messages, in order."""
        return tuple({e.message: e for e in self._errors.values()}.values())

    def raise_any(self) -> None:
        """Raises all errors as one, of the first one's kind."""
        if self._errors:
            raise _all_as_one(self.each_once())


def _all_as_one(errors: Sequence[MeltError]) -> MeltError:
    hints = dict.fromkeys(e.hint for e in errors if e.hint)
    return type(errors[0])("\n".join(e.message for e in errors), "\n".join(hints))
