"""A plan: the product of devices, models and settings, as cells with stable ids.

A plan comes from YAML, from the command line, or from both (options win). The two say the same things.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from melt.errors import PlanError
from melt.spec.cell import AcceleratorName, Cell, Cores, KvType, PowerMode, RunnerName, Seconds
from melt.util.yaml import describe_problems, load_yaml


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CoolDown(_Frozen):
    """Every session starts with its hottest processor zone below ``start_below_c``; waiting has a limit."""

    start_below_c: Annotated[float, Field(ge=0, le=120)] | None = None  # None: the profile's thermal band
    limit_s: Seconds = 300.0


class Timeouts(_Frozen):
    """How long each part of a run may take before it is a failed run."""

    load_s: Seconds = 600.0
    iteration_s: Seconds = 3600.0


# The YAML's and command line's list axes, and the cell field that each fills.
AXES: dict[str, str] = {
    "devices": "device",
    "models": "model",
    "backends": "backend",
    "accelerators": "accelerator",
    "runners": "runner",
    "context": "prompt_tokens",
    "gen": "gen_tokens",
    "threads": "threads",
    "cores": "cores",
    "power_mode": "power_mode",
    "flash_attn": "flash_attn",
    "type_k": "type_k",
    "type_v": "type_v",
}


# What the command line calls an axis, in the singular; a plan may say either.
SINGULAR = {name.removesuffix("s"): name for name in ("devices", "models", "backends", "accelerators", "runners")}
# Options of `melt run` that say where things go, and so are no part of a plan.
COMMAND_LINE = "command line"
NOT_IN_A_PLAN = ("results", "out", "report", "dry_run")


class Plan(_Frozen):
    """What to measure, how often, and under which rules."""

    # It names the report's folder.
    name: Annotated[str, Field(pattern=r"^[\w][\w .+-]{0,79}$")] = "run"
    devices: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    backends: tuple[str, ...] = ("llama.cpp",)
    accelerators: tuple[AcceleratorName, ...] = ("cpu",)
    runners: tuple[RunnerName, ...] = ("auto",)
    context: tuple[int, ...] = (128, 512, 2048)
    gen: tuple[int, ...] = (64,)
    threads: tuple[int | None, ...] = (None,)
    cores: tuple[Cores, ...] = ("all",)
    power_mode: tuple[PowerMode | None, ...] = (None,)
    flash_attn: tuple[Literal["auto", "on", "off"], ...] = ("auto",)
    type_k: tuple[KvType, ...] = ("f16",)
    type_v: tuple[KvType, ...] = ("f16",)
    batch: int = 2048
    ubatch: int = 512
    cpu_fallback: bool = False
    workload: Literal["fixed", "sustained"] = "fixed"
    sustained_s: Seconds = 0.0
    include: tuple[dict[str, Any], ...] = ()
    exclude: tuple[dict[str, Any], ...] = ()
    sessions: Annotated[int, Field(ge=1, le=10_000, strict=True)] = 3
    iterations: Annotated[int, Field(ge=1, le=10_000, strict=True)] = 3
    warmups: Annotated[int, Field(ge=0, le=100, strict=True)] = 1
    profile_ops: bool = False
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, strict=True)] = 0
    order: Literal["interleaved", "sequential"] = "interleaved"
    retries: Annotated[int, Field(ge=0, le=10, strict=True)] = 1
    idle_s: Seconds = 2.0
    memory_fraction: Annotated[float, Field(gt=0, le=1)] = 0.9
    memory_check: bool = True  # false: also run what by prediction does not fit
    cooldown: CoolDown = CoolDown()
    timeouts: Timeouts = Timeouts()

    @model_validator(mode="before")
    @classmethod
    def _singular_as_plural(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {SINGULAR[k] if k in SINGULAR and SINGULAR[k] not in data else k: v for k, v in data.items()}

    @field_validator(*AXES, mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) and "," in value and info.field_name in ("context", "gen", "threads"):
            return tuple(int(part) if part.strip().isdigit() else part for part in value.split(","))
        return (value,) if isinstance(value, str | int) or value is None else value

    def cells(self) -> tuple[Cell, ...]:
        """The product of the axes, less what ``exclude`` matches, with what ``include`` adds; no repeats.

        Raises:
            PlanError: a cell is not valid, or an include or exclude names a key that cells do not have.
        """
        axes = [getattr(self, axis) for axis in AXES]
        product = (dict(zip(AXES.values(), values, strict=True)) for values in itertools.product(*axes))
        for i, pattern in enumerate(self.exclude):
            _check_keys(pattern, f"exclude[{i}]")
        kept = [self._cell(c, "plan") for c in product]
        kept = [c for c in kept if not any(_matches(c, pattern) for pattern in self.exclude)]
        added = [self._included(d, f"include[{i}]") for i, d in enumerate(self.include)]
        return tuple(dict.fromkeys([*kept, *added]))

    def _included(self, given: Mapping[str, Any], where: str) -> Cell:
        _check_keys(given, where)
        first = {field: getattr(self, axis)[0] for axis, field in AXES.items() if getattr(self, axis)}
        return self._cell({**first, **given}, where)

    def _cell(self, fields: Mapping[str, Any], where: str) -> Cell:
        shared = {
            "batch": self.batch,
            "ubatch": self.ubatch,
            "cpu_fallback": self.cpu_fallback,
            "workload": self.workload,
            "sustained_s": self.sustained_s,
            "warmups": self.warmups,
            "iterations": self.iterations,
            "seed": self.seed,
        }
        try:
            return Cell(**{**shared, **fields})
        except ValidationError as e:
            raise PlanError(describe_problems(e, where, Cell), "docs/plans.md lists what a plan takes.") from e


def _check_keys(given: Mapping[str, Any], where: str) -> None:
    unknown = [k for k in given if k not in Cell.model_fields]
    if unknown:
        known = ", ".join(Cell.model_fields)
        raise PlanError(f"{where}: unknown key {unknown[0]!r}", f"A cell has: {known}.")


def _matches(cell: Cell, pattern: Mapping[str, Any]) -> bool:
    def one(key: str, wanted: Any) -> bool:
        value = getattr(cell, key)
        return value in wanted if isinstance(wanted, list | tuple) else value == wanted

    return bool(pattern) and all(one(k, v) for k, v in pattern.items())


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
    merged = {SINGULAR.get(k, k): v for layer in (data, overrides or {}) for k, v in layer.items()}
    for key in NOT_IN_A_PLAN:
        if key in data:
            line = lines.get((key,), 1)
            raise PlanError(f"{where}:{line}: {key!r} is not part of a plan", f"Give it as an option: --{key} ...")
    try:
        plan = Plan(**merged)
    except ValidationError as e:
        options = {SINGULAR.get(k, k): COMMAND_LINE for k in overrides or {}}
        what = describe_problems(e, where, Plan, lines, options)
        raise PlanError(what, "docs/plans.md lists what a plan takes.") from e
    check_complete(plan, where)
    return plan


def check_complete(plan: Plan, where: str = "plan") -> None:
    """Raises PlanError where a plan is valid key by key, but has nothing to measure or says half of something."""
    for axis, option in (("devices", "--device"), ("models", "--model")):
        named_by_includes = plan.include and all(AXES[axis] in c for c in plan.include)
        if not getattr(plan, axis) and not named_by_includes:
            raise PlanError(f"{where}: no {axis} given", f"Name one with {option}, or under `{axis}:` in the plan.")
    for axis in AXES:
        if not getattr(plan, axis) and axis not in ("devices", "models"):
            raise PlanError(f"{where}: {axis} is empty", "Give at least one value, or leave the key out.")
    if plan.workload == "sustained" and not plan.sustained_s:
        raise PlanError(f"{where}: workload sustained needs sustained_s", "For example: sustained_s: 300")
    cells = plan.cells()  # an invalid cell is found here, before any device is touched
    for device in dict.fromkeys(c.device for c in cells):
        modes = {c.power_mode for c in cells if c.device == device}
        if None in modes and len(modes) > 1:
            raise PlanError(
                f"{where}: some cells of {device} name a power mode and others do not",
                "Name it for all of them: the others would be measured in whatever mode the last one left.",
            )


def to_yaml(plan: Plan) -> str:
    """The plan as YAML, keeping what differs from the defaults: the way to repeat it."""
    return yaml.safe_dump(plan.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
