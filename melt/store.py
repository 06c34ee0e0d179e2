"""Results on disk: a folder a run, written under a temporary name and renamed when whole.

A folder holds ``manifest.json`` (this module's ``Manifest``), ``events.jsonl`` (the runner's stdout as it
came), ``telemetry.jsonl`` (the sampler's file as it came), ``stderr.txt`` and ``plan.yaml`` (the plan it belongs
to). Whatever kills melt, a run is either whole or still under a name that starts with a dot, which loading ignores.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from melt.errors import StoreError
from melt.events import Event, UnknownLine, parse_event
from melt.facts import ClockReading, DeviceFacts
from melt.paths import is_alive
from melt.plan import Cell
from melt.telemetry.base import Discovery

SCHEMA = 1
MANIFEST = "manifest.json"
EVENTS = "events.jsonl"
TELEMETRY = "telemetry.jsonl"
STDERR = "stderr.txt"
PLAN = "plan.yaml"
PARTIAL = ".partial-"

Migration = Callable[[dict[str, Any]], dict[str, Any]]
# From each older schema to the next. Schema 1 is the first, so there is none yet.
MIGRATIONS: Mapping[int, Migration] = {}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Flag(_Frozen):
    """A reason to doubt a run, with its evidence."""

    name: str
    evidence: str


class RunFailure(_Frozen):
    """Why a run failed or was skipped; ``kind`` is a short stable name."""

    kind: str
    message: str


class ModelRecord(_Frozen):
    """The model as it was measured."""

    ref: str
    name: str
    sha256: str
    file_bytes: int
    family: Literal["transformer", "ssm", "hybrid"]
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


@dataclass(frozen=True)
class Run:
    """One published run: its manifest, and its raw streams on demand."""

    folder: Path
    manifest: Manifest

    def events(self) -> Iterator[Event | UnknownLine]:
        """The runner's events in order; lines that are none come as UnknownLine."""
        for line in _lines(self.folder / EVENTS):
            yield parse_event(line)

    def telemetry_lines(self) -> Iterator[str]:
        """The sampler's raw lines in order."""
        yield from _lines(self.folder / TELEMETRY)


@dataclass(frozen=True)
class Damaged:
    """A folder that should hold a run and does not, with the reason; it is reported and left alone."""

    folder: Path
    reason: str


class Store:
    """A results folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def runs(self) -> tuple[list[Run], list[Damaged]]:
        """Every run in the folder, oldest first, and every folder that is damaged.

        Raises:
            StoreError: there is no such folder, or a run in it was written by a newer melt.
        """
        if not self.folder.is_dir():
            raise StoreError(f"{self.folder}: no such results folder", "Measure something first: `melt run --help`.")
        runs, damaged = [], []
        for folder in sorted(p.parent for p in self.folder.glob(f"*/{MANIFEST}")):
            if folder.name.startswith("."):
                continue
            try:
                runs.append(Run(folder, read_manifest(folder / MANIFEST)))
            except DamagedRunError as e:
                damaged.append(Damaged(folder, str(e)))
        have = {r.folder for r in runs} | {d.folder for d in damaged}
        for folder in sorted(p.parent for p in self.folder.glob(f"*/{EVENTS}")):
            if folder not in have and not folder.name.startswith("."):
                damaged.append(Damaged(folder, f"no {MANIFEST}"))
        runs.sort(key=lambda r: (r.manifest.started_at, r.manifest.run_id))
        return runs, damaged

    def check_writable(self) -> None:
        """Raises StoreError where nothing could be written, without making anything."""
        there = next(p for p in (self.folder.absolute(), *self.folder.absolute().parents) if p.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            reason = "cannot be written to" if there.is_dir() else "is not a folder"
            raise StoreError(f"{self.folder}: {there} {reason}", "Name another --results.")

    def begin(self, run_id: str) -> Path:
        """A new folder for a run in the making; it becomes a run by ``publish``.

        Raises:
            StoreError: the folder cannot be written.
        """
        partial = self.folder / f"{PARTIAL}{os.getpid()}-{run_id}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            partial.mkdir()
        except OSError as e:
            raise cannot_write(self.folder, e) from e
        return partial

    def publish(self, partial: Path, manifest: Manifest) -> Run:
        """Makes a run of a folder from ``begin``: manifest written and synced, folder renamed.

        Raises:
            StoreError: the disk is full or the folder is gone; nothing half-written is left under a run's name.
        """
        final = self.folder / manifest.run_id
        try:
            with (partial / MANIFEST).open("w", encoding="utf-8") as f:
                f.write(manifest.model_dump_json(indent=1))
                f.flush()
                os.fsync(f.fileno())
            partial.rename(final)
        except OSError as e:
            shutil.rmtree(partial, ignore_errors=True)
            raise cannot_write(final, e) from e
        return Run(final, manifest)

    def discard(self, partial: Path) -> None:
        """Forgets a run in the making."""
        shutil.rmtree(partial, ignore_errors=True)

    def _sweep(self) -> None:
        """Removes what a killed melt left behind: partial folders whose process is gone."""
        for left in self.folder.glob(f"{PARTIAL}*"):
            pid = left.name.removeprefix(PARTIAL).split("-")[0]
            if pid.isdigit() and not is_alive(int(pid)):
                shutil.rmtree(left, ignore_errors=True)


def cannot_write(path: Path, error: OSError) -> StoreError:
    """The error for a results folder that refuses, with the advice that fits its reason."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "Free some space; the same command then resumes." if full else "Name another --results."
    return StoreError(f"{path}: cannot be written: {error.strerror}", hint)


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
            f"{path}: results of schema {data['schema_version']}, and this melt reads up to {SCHEMA}",
            "Update melt, or name another results folder.",
        )
    try:
        return Manifest.model_validate_json(json.dumps(migrate(data, MIGRATIONS, SCHEMA)))
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        where = ".".join(str(p) for p in first["loc"])
        raise DamagedRunError(f"{path.name}: {where}: {first['msg']}") from e


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


def _lines(path: Path) -> Iterator[str]:
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as f:
        for line in f:
            if line.strip():
                yield line.rstrip("\n")
