"""The manifest: everything about a run but its raw streams; older schemas are brought to this one step by step."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from melt.errors import StoreError
from melt.models.gguf.architectures import Family
from melt.spec.cell import Cell
from melt.spec.facts import ClockReading, DeviceFacts
from melt.telemetry.source import Discovery

SCHEMA = 2
MANIFEST = "manifest.json"

Migration = Callable[[dict[str, Any]], dict[str, Any]]


def _to_2(data: dict[str, Any]) -> dict[str, Any]:
    """Runs of schema 1 were never measured again for being disturbed, and knew neither pairs nor farms."""
    return {**data, "disturbed": [], "pair": None, "arm": None, "farm": None, "adaptive": False}


# From each older schema to the next.
MIGRATIONS: Mapping[int, Migration] = {1: _to_2}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Flag(_Frozen):
    """A reason to doubt a run, with its evidence."""

    name: str
    evidence: str


class RunFailure(_Frozen):
    """Why a run failed or was skipped; ``kind`` is a stable name (``melt.spec.failures``), ``hint`` what to do."""

    kind: str
    message: str
    hint: str = ""


class ModelRecord(_Frozen):
    """The model as it was measured."""

    ref: str
    name: str
    sha256: str
    file_bytes: int
    family: Family
    arch: str
    quant: str
    synthetic: bool
    n_params: int
    context_trained: int | None = None
    source: str = ""  # where the file came from: revision, package version, seed
    shape: dict[str, int] = {}


class Prediction(_Frozen):
    """Memory from the architecture's formulas, made before the run; bytes."""

    weights_bytes: int
    kv_bytes: int
    state_bytes: int
    compute_bytes: int
    output_bytes: int
    total_bytes: int


class FarmRecord(_Frozen):
    """Where in a farm a run was made: the host, the token that it was granted under, and the shift."""

    host: str
    token: int
    shift: str


class Manifest(_Frozen):
    """Everything about a run but its raw streams."""

    schema_version: int = SCHEMA
    run_id: str
    cell: Cell
    cell_id: str
    plan_name: str
    session: int
    attempt: int
    status: Literal["ok", "failed", "skipped"]
    error: RunFailure | None = None
    flags: tuple[Flag, ...] = ()
    disturbed: tuple[str, ...] = ()  # by what, as it was judged when the run was made: why there is another attempt
    pair: str | None = None  # runs of one pair are measured beside each other, an arm each
    arm: str | None = None
    adaptive: bool = False  # at a length that the plan does not name, near a crossover
    farm: FarmRecord | None = None
    warnings: tuple[str, ...] = ()
    started_at: str  # ISO 8601, UTC, the host's clock
    ended_at: str
    device: DeviceFacts
    passport: dict[str, str]
    model: ModelRecord | None = None
    prediction: Prediction | None = None
    job: dict[str, Any] = {}
    telemetry: Discovery = Discovery()
    sampler_period_ms: int | None = None
    idle_t_ns: tuple[int, int] | None = None  # the idle baseline's window, device clock
    clock: ClockReading | None = None
    start_temp_c: float | None = None
    cooldown_s: float | None = None
    versions: dict[str, str] = {}


class DamagedRunError(Exception):
    """A manifest that cannot be understood; it never leaves this module but as ``Damaged``."""


def read_manifest(path: Path) -> Manifest:
    """A manifest of this or an older schema.

    Raises:
        StoreError: written by a newer melt.
        DamagedRunError: not a manifest.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise DamagedRunError(f"{path.name} cannot be read: {e.strerror}") from e
    except (ValueError, RecursionError) as e:
        raise DamagedRunError(f"{path.name} is cut short or is no JSON") from e
    if not isinstance(data, dict) or not isinstance(data.get("schema_version"), int):
        raise DamagedRunError(f"{path.name}: has no schema_version")
    if data["schema_version"] > SCHEMA:
        raise StoreError(
            f"{path}: written by a newer melt (schema {data['schema_version']}; this one reads up to {SCHEMA})",
            "Update melt, or name another results folder.",
        )
    try:
        manifest = Manifest.model_validate_json(json.dumps(migrate(data, MIGRATIONS, SCHEMA)))
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        where = ".".join(str(p) for p in first["loc"])
        raise DamagedRunError(f"{path.name}: {where}: {first['msg']}") from e
    if manifest.cell_id != manifest.cell.id:  # one of them was changed, and nobody can say which
        raise DamagedRunError(f"{path.name}: cell_id {manifest.cell_id!r} is not that of its cell, {manifest.cell.id}")
    return manifest


def migrate(data: dict[str, Any], migrations: Mapping[int, Migration], schema: int) -> dict[str, Any]:
    """A manifest brought to a schema one step at a time.

    Raises:
        DamagedRunError: there is no way from its schema.
    """
    while data["schema_version"] < schema:
        version = data["schema_version"]
        if version not in migrations:
            raise DamagedRunError(f"{MANIFEST}: schema {version} is not known")
        data = {**migrations[version](data), "schema_version": version + 1}
    return data
