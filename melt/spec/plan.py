"""A plan: the product of devices, models and settings, as cells with stable ids.

A plan comes from YAML, from the command line, or from both (options win). The two say the same things.
"""

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_type_hints

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from melt.errors import PlanError
from melt.spec.axes import Axis
from melt.spec.cell import AXES, Cell, Seconds
from melt.spec.exclude import Pattern, check_patterns, matches, without_values
from melt.spec.options import MAX_CELLS
from melt.util.yaml import describe_problems, did_you_mean, load_yaml


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CoolDown(_Frozen):
    """Every session starts with its hottest processor zone below ``start_below_c``; waiting has a limit."""

    start_below_c: Annotated[float, Field(ge=0, le=120, strict=True)] | None = None  # None: the profile's thermal band
    limit_s: Seconds = 300.0


class Timeouts(_Frozen):
    """How long each part of a run may take before it is a failed run."""

    load_s: Seconds = 600.0
    iteration_s: Seconds = 3600.0


class ExtraTime(_Frozen):
    """Time beyond the plan's own, for measuring disturbed sessions again and for cells near crossovers."""

    share: Annotated[float, Field(ge=0, le=10, strict=True)] = 0.5  # of the time that the plan's own sessions took
    limit_s: Seconds | None = None


def _lists() -> dict[str, Any]:
    types, listed = get_type_hints(Cell, include_extras=True), cast(Any, tuple)
    return {axis.key: (listed[types[name], ...], axis.default_list) for name, axis in AXES.items()}


# A list for each axis, by its key. They are made from the rows of `Cell`, and so cannot be written out here again:
# a type checker takes every key of a plan for Any, and pydantic checks them when a plan is made.
if TYPE_CHECKING:
    _Lists = _Frozen
else:
    _Lists = create_model("_Lists", __base__=_Frozen, **_lists())

# By a backend's name, the names of the options that it knows.
OptionsOf = Callable[[str], Collection[str]]
_BY_KEY: Mapping[str, Axis] = {axis.key: axis for axis in AXES.values()}
# What the command line calls an axis, in the singular; a plan may say either.
SINGULAR = {axis.word: axis.key for axis in AXES.values() if axis.word != axis.key}
# Options of `melt run` that say where things go, and so are no part of a plan.
COMMAND_LINE = "command line"
NOT_IN_A_PLAN = ("results", "out", "report", "dry_run")


class Plan(_Lists):
    """What to measure, how often, and under which rules; beside these keys it has a list for each axis of a cell."""

    # It names the report's folder.
    name: Annotated[str, Field(pattern=r"^[\w][\w .+-]{0,79}$")] = "run"
    include: tuple[dict[str, Any], ...] = ()
    exclude: tuple[Pattern, ...] = ()
    sessions: Annotated[int, Field(ge=1, le=10_000, strict=True)] = 6  # fewer settle no difference
    profile_ops: Annotated[bool, Field(strict=True)] = False
    order: Literal["interleaved", "sequential"] = "interleaved"
    retries: Annotated[int, Field(ge=0, le=10, strict=True)] = 1
    extra_time: ExtraTime = ExtraTime()
    adaptive: Annotated[bool, Field(strict=True)] = False  # also measures where curves cross
    idle_s: Seconds = 2.0
    memory_fraction: Annotated[float, Field(gt=0, le=1, strict=True)] = 0.9
    memory_check: Annotated[bool, Field(strict=True)] = True  # false: also run what by prediction does not fit
    cooldown: CoolDown = CoolDown()
    timeouts: Timeouts = Timeouts()

    if TYPE_CHECKING:

        def __init__(self, **keys: Any) -> None: ...
        def __getattr__(self, key: str) -> tuple[Any, ...]: ...

    @model_validator(mode="before")
    @classmethod
    def _singular_as_plural(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {SINGULAR[k] if k in SINGULAR and SINGULAR[k] not in data else k: v for k, v in data.items()}

    @field_validator(*_BY_KEY, mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object, info: ValidationInfo) -> object:
        axis = _BY_KEY[info.field_name or ""]
        if axis.expand:
            return axis.expand(value)
        if isinstance(value, str) and "," in value and axis.whole_numbers:
            return tuple(int(part) if part.strip().isdigit() else part for part in value.split(","))
        return (value,) if isinstance(value, str | int | float) or value is None else value

    def cells(self, options_of: OptionsOf | None = None) -> tuple[Cell, ...]:
        """The product of the axes, less what ``exclude`` matches, with what ``include`` adds; no repeats.

        Args:
            options_of: gives the names of the options that a backend knows, so that each cell has only those of its
                own; without it every cell has all.

        Raises:
            PlanError: a cell is not valid, there are too many, or an include or exclude names a key that cells do not
                have.
        """
        for i, pattern in enumerate(self.exclude):
            _check_keys(pattern, f"exclude[{i}]")
        kept = [c for c in self.product(options_of) if not any(matches(c, pattern) for pattern in self.exclude)]
        added = [self._included(given, f"include[{i}]", options_of) for i, given in enumerate(self.include)]
        return tuple(dict.fromkeys([*kept, *added]))

    def product(self, options_of: OptionsOf | None = None) -> tuple[Cell, ...]:
        """The product of the axes alone; raises PlanError as ``cells`` does."""
        lists = [getattr(self, axis.key) for axis in AXES.values()]
        if (n := math.prod(map(len, lists))) > MAX_CELLS:
            raise PlanError(f"the plan multiplies to {n:,} cells", f"Name at most {MAX_CELLS:,} in one plan.")
        product = itertools.product(*lists)
        return tuple(_cell(dict(zip(AXES, values, strict=True)), "plan", options_of) for values in product)

    def _included(self, given: Mapping[str, Any], where: str, options_of: OptionsOf | None) -> Cell:
        _check_keys(given, where)
        first = {name: values[0] for name, axis in AXES.items() if (values := getattr(self, axis.key))}
        return _cell({**first, **given}, where, options_of)


def _cell(fields: Mapping[str, Any], where: str, options_of: OptionsOf | None) -> Cell:
    """The cell, without what means nothing in it, as another backend's options."""
    try:
        cell = Cell(**fields)
    except ValidationError as e:
        raise PlanError(describe_problems(e, where, Cell), "docs/plans.md lists what a plan takes.") from e
    settled = {name: axis.default for name, axis in AXES.items() if not cell.means(axis)}
    if options_of:
        known = options_of(cell.backend)
        settled["options"] = tuple(pair for pair in cell.options if pair[0] in known)
    return cell.model_copy(update=settled)


def _check_keys(given: Mapping[str, Any], where: str) -> None:
    unknown = [k for k in given if k not in AXES]
    if unknown:
        axis = _BY_KEY.get(SINGULAR.get(unknown[0], unknown[0]))
        meant = f" (a cell has {axis.name!r})" if axis else did_you_mean(unknown[0], AXES)
        raise PlanError(f"{where}: unknown key {unknown[0]!r}{meant}", f"A cell has: {', '.join(AXES)}.")


def load_plan(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Plan:
    """Reads a plan from YAML and lays the command line's options over it.

    Args:
        path: the YAML file; None for a plan given by options alone.
        overrides: keys of ``Plan``; they win over the file's.

    Raises:
        PlanError: the file cannot be read, or something in it is wrong; every problem is named.
    """
    data, lines = load_yaml(path, PlanError) if path else ({}, {})
    where = str(path) if path else COMMAND_LINE
    for layer, place in ((data, where), (overrides or {}, COMMAND_LINE)):
        for one in (k for k in layer if SINGULAR.get(k) in layer):
            raise PlanError(
                f"{place}: {one!r} and {SINGULAR[one]!r} are one key", "Keep one of them: the other would be lost."
            )
    merged = {SINGULAR.get(k, k): v for layer in (data, overrides or {}) for k, v in layer.items()}
    for key in NOT_IN_A_PLAN:
        if key in data:
            line = lines.get((key,), 1)
            raise PlanError(f"{where}:{line}: {key!r} is not part of a plan", f"Give it as an option: --{key} ...")
    for key in (k for k in merged if k in AXES and k not in Plan.model_fields):
        place = COMMAND_LINE if key in (overrides or {}) else f"{where}:{lines.get((key,), 1)}"
        raise PlanError(f"{place}: unknown key {key!r}", f"It is a cell's; a plan says {AXES[key].key!r}.")
    try:
        plan = Plan(**merged)
    except ValidationError as e:
        options = {SINGULAR.get(k, k): COMMAND_LINE for k in overrides or {}}
        what = describe_problems(e, where, Plan, lines, options)
        raise PlanError(what, "docs/plans.md lists what a plan takes.") from e
    if "exclude" in data and overrides:
        plan = plan.model_copy(update={"exclude": _still_excluded(plan, data)})
    check_complete(plan, where)
    return plan


def _still_excluded(plan: Plan, data: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """A file's exclude, without the values that are the file's and that the command line took away."""
    try:
        of_file = Plan(**{SINGULAR.get(k, k): v for k, v in data.items()})
    except ValidationError:  # of a value that the command line replaces
        return plan.exclude

    def is_gone(key: str, value: Any) -> bool:
        axis = AXES.get(key)
        return axis is not None and value in getattr(of_file, axis.key) and value not in getattr(plan, axis.key)

    kept = (without_values(pattern, is_gone) for pattern in plan.exclude)
    return tuple(pattern for pattern in kept if pattern is not None)


def check_complete(plan: Plan, where: str = "plan") -> None:
    """Raises PlanError where a plan is valid key by key, but has nothing to measure or says half of something."""
    for name, axis in AXES.items():
        named_by_includes = plan.include and all(name in cell for cell in plan.include)
        if getattr(plan, axis.key) or (named_by_includes and not axis.default_list):
            continue
        if axis.default_list:
            raise PlanError(f"{where}: {axis.key} is empty", "Give at least one value, or leave the key out.")
        hint = f"Name one with {axis.option}, or under `{axis.key}:` in the plan."
        raise PlanError(f"{where}: no {axis.key} given", hint)
    cells = plan.cells()  # an invalid cell is found here, before any device is touched
    if plan.exclude:
        check_patterns(plan.exclude, plan.product(), where)
    if not cells:
        raise PlanError(f"{where}: exclude leaves no cell to measure", "Exclude less, or include some.")
    if any(c.workload == "sustained" and not c.sustained_s for c in cells):
        raise PlanError(f"{where}: workload sustained needs sustained_s", "For example: sustained_s: 300")
    for device in dict.fromkeys(c.device for c in cells):
        _check_conditions(device, [c for c in cells if c.device == device], where)


def _check_conditions(device: str, cells: Sequence[Cell], where: str) -> None:
    """Raises PlanError where some cells of a device ask for a condition and others do not."""
    for name in sorted({name for cell in cells for name in cell.conditions}):
        if any(name not in cell.conditions for cell in cells):
            raise PlanError(
                f"{where}: some cells of {device} name a {name.replace('_', ' ')} and others do not",
                "Name it for all of them: the others would be measured in whatever the last one left.",
            )


def to_yaml(plan: Plan) -> str:
    """The plan as YAML, keeping what differs from the defaults: the way to repeat it."""
    return yaml.safe_dump(plan.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
