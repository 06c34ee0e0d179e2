"""A plan on its devices: every missing run in order, each recorded whole, failures too."""

import contextlib
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from melt.backends import load_backend
from melt.drivers import connect
from melt.drivers.lease import lease, lease_name
from melt.drivers.profiles import load_profile
from melt.errors import DeviceError, MeltError, PlanError, ProfileError, TransientDeviceError
from melt.execution.progress import Watcher
from melt.execution.unit import HELD, POWER_MODE, Attempt, beyond_training, known_passport, record_run, record_skip
from melt.models.info import ModelInfo, inspect
from melt.models.memory import predict_memory
from melt.models.refs import PathRef, Ref, parse_ref, resolve
from melt.spec.cell import Cell
from melt.spec.facts import DeviceFacts
from melt.spec.plan import Plan, check_complete, load_plan
from melt.spec.profile import DeviceProfile
from melt.spec.schedule import interleave
from melt.store.manifest import Manifest, Prediction
from melt.store.store import Run, Store

if TYPE_CHECKING:
    from melt.backends.base import Backend
    from melt.drivers.base import Driver

_ENGINE = "engine as the device tells it"
# A crash by one of these signals in a quantised matrix product is known on some hosts with AMX.
CRASHES = ("SIGSEGV", "SIGILL", "SIGBUS")


K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True)
class Device:
    """A connected device of the plan."""

    profile: DeviceProfile
    driver: "Driver"
    facts: DeviceFacts


@dataclass(frozen=True)
class Outcome:
    """What came of a plan: the runs made now, those there already, and the cells that cannot fit."""

    cells: tuple[Cell, ...]
    made: tuple[Run, ...]
    already_there: int
    skipped: Mapping[Cell, str]

    @property
    def failed(self) -> tuple[Run, ...]:
        """Sessions whose last attempt is no measurement."""
        last = {(r.manifest.cell_id, r.manifest.session): r for r in self.made}
        return tuple(r for r in last.values() if r.manifest.status == "failed")

    @property
    def complete(self) -> bool:
        """Whether everything asked for is measured."""
        return not self.failed and not self.skipped

    def __repr__(self) -> str:
        counts = f"{len(self.made)} runs made, {self.already_there} there already"
        return f"<Outcome: {counts}, {len(self.failed)} failed, {len(self.skipped)} cells skipped>"


def run(plan: Plan | str | Path, results: str | Path = "results", watcher: Watcher | None = None) -> Outcome:
    """Measures everything in a plan that the results folder does not hold yet.

    Args:
        plan: what to measure, or the YAML file that says it.
        results: the folder that takes the runs; made where missing.
        watcher: is told of progress.

    Raises:
        MeltError: something is wrong that can be known before any time is spent, or the results folder
            cannot be written. A run that fails is recorded as failed and raises nothing.
    """
    watcher = watcher or Watcher()
    plan = plan if isinstance(plan, Plan) else load_plan(Path(plan))
    check_complete(plan)
    store = Store(Path(results))
    store.check_writable()
    asked = plan.cells()
    backends, profiles, refs = read_names(asked)
    # One model and one device have one name each, so that two ways to write it are one cell, and no path is in it.
    named = by_name(profiles.values())
    cells = tuple(dict.fromkeys(_of_profile(c, profiles[c.device], refs[c.model].text) for c in asked))
    with ExitStack() as stack:
        devices = {name: _open(profile, stack, watcher) for name, profile in named.items()}
        for cell in cells:
            check_power_mode(cell, devices[cell.device].facts)
        decided = [backends[c.backend].prepare(c, devices[c.device].facts, watcher.building) for c in cells]
        cells = tuple(dict.fromkeys(decided))
        names = dict.fromkeys(c.model for c in cells)
        models = {ref: resolve(ref, progress=watcher.model_progress(ref)) for ref in names}
        session = _Session(plan, store, watcher, devices, models, backends)
        return session.run_all(cells)


def by_name(profiles: Iterable[DeviceProfile]) -> dict[str, DeviceProfile]:
    """Profiles by their names.

    Raises:
        ProfileError: two files have one name, and results could not tell the devices apart.
    """
    found: dict[str, DeviceProfile] = {}
    for profile in profiles:
        other = found.setdefault(profile.name, profile)
        if other.path != profile.path:
            raise ProfileError(
                f"{other.path} and {profile.path} are both named {profile.name!r}", "Rename one of them."
            )
    return found


def read_names(
    cells: Sequence[Cell],
) -> tuple[dict[str, "Backend"], dict[str, DeviceProfile], dict[str, Ref]]:
    """The backends, profiles and model references that cells name; nothing is opened or fetched.

    Raises:
        MeltError: of the first problem's kind, with every problem in its message.
    """
    problems: list[MeltError] = []

    def read(reader: Callable[[K], T], asked: Iterable[K]) -> dict[K, T]:
        found = {}
        for one in dict.fromkeys(asked):
            try:
                found[one] = reader(one)
            except MeltError as e:
                problems.append(e)
        return found

    backends = read(load_backend, (c.backend for c in cells))
    profiles = read(load_profile, (c.device for c in cells))
    refs = read(_read_ref, (c.model for c in cells))
    read(lambda cell: backends[cell.backend].check_cell(cell), (c for c in cells if c.backend in backends))
    if problems:
        hints = dict.fromkeys(p.hint for p in problems if p.hint)
        messages = dict.fromkeys(p.message for p in problems)
        raise type(problems[0])("\n".join(messages), "\n".join(hints))
    return backends, profiles, refs


def _read_ref(text: str) -> Ref:
    ref = parse_ref(text)
    if isinstance(ref, PathRef):
        inspect(ref.path, ref.text)  # the header alone: a file that is gone or damaged is found now
    return ref


def _of_profile(cell: Cell, profile: DeviceProfile, model: str) -> Cell:
    """By the names that results keep, and with the profile's threads where neither they nor cores are asked for."""
    threads = cell.threads or (profile.threads if cell.cores == "all" else None)
    return cell.model_copy(update={"model": model, "device": profile.name, "threads": threads})


def _open(profile: DeviceProfile, stack: ExitStack, watcher: Watcher) -> Device:
    driver = connect(profile)
    stack.callback(_let_go, driver, watcher)
    facts = driver.facts()
    stack.enter_context(lease(lease_name(profile, facts)))
    with contextlib.suppress(TransientDeviceError):  # each run waits for a device that went away
        driver.condition({})  # what a run that was killed had set is put back, and is no fact
        facts = facts.model_copy(update=dict(driver.held()))
    return Device(profile, driver, facts)


def _let_go(driver: "Driver", watcher: Watcher) -> None:
    try:
        driver.close()
    except DeviceError as e:
        watcher.say(f"warning: {e.message}. {e.hint}")


def check_power_mode(cell: Cell, facts: DeviceFacts) -> None:
    """Raises PlanError where the cell asks for a mode that its device does not have."""
    has = facts.power_modes
    if cell.power_mode and cell.power_mode not in has:
        raise PlanError(
            f"{cell.device}: has no power mode {cell.power_mode!r}",
            f"It has {', '.join(has)}." if has else "It tells of none.",
        )


class _Session:
    """The state of one ``run``: what is there, and what has been learned of the devices."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        watcher: Watcher,
        devices: Mapping[str, Device],
        models: Mapping[str, ModelInfo],
        backends: Mapping[str, "Backend"],
    ) -> None:
        self._plan = plan
        self._store = store
        self._watcher = watcher
        self._devices = devices
        self._models = models
        self._backends = backends
        self._extra_buffers_crash: set[tuple[str, str]] = set()  # (device, backend)

    def run_all(self, cells: Sequence[Cell]) -> Outcome:
        """Every missing session of every cell that fits, in the plan's order."""
        have, known_skips = self._present(cells) if self._store.folder.is_dir() else (set(), set())
        skipped = {c: reason for c in cells if (reason := self._does_not_fit(c))}
        order = interleave([c for c in cells if c not in skipped], self._plan.sessions, self._plan.seed[0])
        if self._plan.order == "sequential":
            order.sort(key=lambda pair: (cells.index(pair[0]), pair[1]))
        todo = [(cell, session) for cell, session in order if (cell.id, session) not in have]
        for warning in beyond_training(cells, self._models):
            self._watcher.say(f"warning: {warning}")
        self._watcher.plan(todo, len(order) - len(todo), self._models)
        for cell in skipped:
            if cell.id not in known_skips:
                attempt = self._attempt(cell, 0)
                record_skip(self._store, attempt, "predicted_out_of_memory", skipped[cell])
            self._watcher.say(f"skipped {cell.label()}: {skipped[cell]}")
        made: list[Run] = []
        for cell, session in todo:
            made += self._run_session(cell, session)
        return Outcome(tuple(cells), tuple(made), len(order) - len(todo), skipped)

    def _present(self, cells: Sequence[Cell]) -> tuple[set[tuple[str, int]], set[str]]:
        """Sessions that are measured under what holds now, and cells known not to fit."""
        runs, damaged = self._store.runs()
        for broken in damaged:
            self._watcher.say(f"{broken.folder.name} is damaged and left alone: {broken.reason}")
        expected = {c.id: self._expected(c) for c in cells}
        counted = [r.manifest for r in runs if _counts(r.manifest, expected)]
        measured = {(m.cell_id, m.session) for m in counted}
        without = sum(not m.job.get("profile_ops") for m in counted) if self._plan.profile_ops else 0
        if without:
            self._watcher.say(
                f"warning: {without} sessions were made without the operator pass and are not made again; "
                "name another --results folder to have it of all"
            )
        return measured, {r.manifest.cell_id for r in runs if r.manifest.status == "skipped"}

    def _expected(self, cell: Cell) -> dict[str, frozenset[str]]:
        """The passport that a run of this cell would have now, and the engine's version as the device tells it.

        Of a condition that the profile asks for, the run has what was asked, or what was found where it was refused.
        """
        device, model = self._devices[cell.device], self._models[cell.model]
        bundle = self._backends[cell.backend].bundle(cell, model, device.facts, job_id="")
        asked, found = (
            known_passport(device.profile, facts, model, bundle.runner_sha256)
            for facts in (_facts_of(cell, device), _as_found(cell, device))
        )
        allowed = {k: frozenset((v, found.get(k, v))) for k, v in asked.items()}
        return allowed | {_ENGINE: frozenset((device.facts.engines.get(cell.backend, ""),))}

    def _does_not_fit(self, cell: Cell) -> str:
        if not self._plan.memory_check:
            return ""
        available = self._devices[cell.device].facts.available_bytes
        predicted = _predict(cell, self._models[cell.model])
        return does_not_fit(predicted.total_bytes, available, self._plan.memory_fraction)

    def _attempt(self, cell: Cell, session: int) -> Attempt:
        device, model = self._devices[cell.device], self._models[cell.model]
        return Attempt(
            plan=self._plan,
            cell=cell,
            session=session,
            attempt=0,
            run_id=_new_run_id(cell, session),
            profile=device.profile,
            facts=_facts_of(cell, device),
            model=model,
            prediction=_predict(cell, model),
            extra_buffers=(cell.device, cell.backend) not in self._extra_buffers_crash,
        )

    def _run_session(self, cell: Cell, session: int) -> list[Run]:
        """One session of a cell, with the retries that its failure allows."""
        driver, backend = self._devices[cell.device].driver, self._backends[cell.backend]
        attempt: Attempt | None = self._attempt(cell, session)
        self._watcher.begin(cell, session)
        made: list[Run] = []
        while attempt is not None:
            run = record_run(self._store, driver, backend, attempt, self._watcher)
            made.append(run)
            self._watcher.end(run)
            attempt = self._next_attempt(attempt, run)
        return made

    def _next_attempt(self, attempt: Attempt, run: Run) -> Attempt | None:
        error = run.manifest.error
        if error is None:
            return None
        again = replace(attempt, attempt=attempt.attempt + 1, run_id=_new_run_id(attempt.cell, attempt.session))
        if error.kind in CRASHES and attempt.extra_buffers and self._backends[attempt.cell.backend].has_extra_buffers:
            self._extra_buffers_crash.add((attempt.cell.device, attempt.cell.backend))
            return replace(again, extra_buffers=False)
        if error.kind in ("disconnected", "transient") and attempt.attempt < self._plan.retries:
            return again
        return None


def _facts_of(cell: Cell, device: Device) -> DeviceFacts:
    """The device as the cell will have it."""
    asked = {k: v for k, v in device.profile.conditions.items() if k in HELD}
    return _as_found(cell, device).model_copy(update=asked | ({POWER_MODE: cell.power_mode} if cell.power_mode else {}))


def _as_found(cell: Cell, device: Device) -> DeviceFacts:
    """The device as it is, in the cell's power mode."""
    return device.facts.model_copy(update={POWER_MODE: cell.power_mode}) if cell.power_mode else device.facts


def _counts(m: Manifest, expected: Mapping[str, Mapping[str, frozenset[str]]]) -> bool:
    """Whether a run is a measurement of one of these cells, with the same device, engine, runner and model."""
    if m.status != "ok" or m.cell_id not in expected:
        return False
    had = m.passport | {_ENGINE: m.device.engines.get(m.cell.backend, "")}
    return all(had.get(k) in allowed for k, allowed in expected[m.cell_id].items())


def _predict(cell: Cell, model: ModelInfo) -> Prediction:
    tokens = cell.prompt_tokens + cell.gen_tokens
    found = predict_memory(model, tokens, cell.type_k, cell.type_v, cell.ubatch, n_outputs=1)
    return Prediction(**{key: getattr(found, key) for key in Prediction.model_fields})


def does_not_fit(needed_bytes: int, available_bytes: int | None, fraction: float) -> str:
    """Why a run would run out of memory, by prediction; empty where it fits or where it cannot be known."""
    if available_bytes is None or needed_bytes <= available_bytes * fraction:
        return ""
    available, allowed = available_bytes / 2**20, available_bytes * fraction / 2**20
    share = f"{fraction:.0%} of the {available:.0f} MiB available is {allowed:.0f} MiB"
    return f"needs {needed_bytes / 2**20:.0f} MiB by prediction, and {share}"


def _new_run_id(cell: Cell, session: int) -> str:
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return f"{now}-{cell.id}-s{session:02d}-{uuid.uuid4().hex[:4]}"
