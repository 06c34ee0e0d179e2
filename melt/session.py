"""A plan on its devices: every missing run in order, each recorded whole, failures too."""

import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from melt.backends import load_backend
from melt.drivers import connect
from melt.drivers.lease import lease
from melt.facts import DeviceFacts
from melt.models.info import ModelInfo
from melt.models.memory import predict_memory
from melt.models.refs import parse_ref, resolve
from melt.plan import Cell, Plan, interleave
from melt.profile import DeviceProfile, load_profile
from melt.record import Attempt, beyond_training, record_run, record_skip
from melt.store import Manifest, Prediction, Run, Store
from melt.watch import Watcher

if TYPE_CHECKING:
    from melt.backends.base import Backend
    from melt.drivers.base import Driver

# A crash by one of these signals in a quantised matrix product is known on some hosts with AMX.
CRASHES = ("SIGSEGV", "SIGILL", "SIGBUS")


@dataclass(frozen=True)
class Device:
    """A connected device of the plan."""

    profile: DeviceProfile
    driver: "Driver"
    facts: DeviceFacts


@dataclass(frozen=True)
class Outcome:
    """What came of a plan: the runs made now, and how many were there already."""

    made: tuple[Run, ...]
    already_there: int

    @property
    def not_measured(self) -> tuple[Run, ...]:
        """Cell sessions whose last attempt is no measurement."""
        last = {(r.manifest.cell_id, r.manifest.session): r for r in self.made}
        return tuple(r for r in last.values() if r.manifest.status != "ok")


def run(plan: Plan, results: str | Path = "results", watcher: Watcher | None = None) -> Outcome:
    """Measures everything in a plan that the results folder does not hold yet.

    Args:
        plan: what to measure.
        results: the folder that takes the runs; made where missing.
        watcher: is told of progress.

    Raises:
        MeltError: something is wrong that can be known before any time is spent, or the results folder
            cannot be written. A run that fails is recorded as failed and raises nothing.
    """
    watcher = watcher or Watcher()
    store = Store(Path(results))
    cells = plan.cells()
    backends = {name: load_backend(name) for name in {c.backend for c in cells}}
    profiles = {name: load_profile(name) for name in {c.device for c in cells}}
    for ref in {c.model for c in cells}:
        parse_ref(ref)  # a name that cannot be is found before anything is opened or fetched
    with ExitStack() as stack:
        devices = {name: _open(profile, stack) for name, profile in profiles.items()}
        for cell in cells:
            backends[cell.backend].check(devices[cell.device].facts)
        refs = dict.fromkeys(c.model for c in cells)
        models = {ref: resolve(ref, progress=watcher.model_progress(ref)) for ref in refs}
        session = _Session(plan, store, watcher, devices, models, backends)
        return session.run_all(cells)


def _open(profile: DeviceProfile, stack: ExitStack) -> Device:
    driver = connect(profile)
    stack.callback(driver.close)
    facts = driver.facts()
    stack.enter_context(lease(f"{profile.driver}-{facts.serial_hash or profile.name}"))
    return Device(profile, driver, facts)


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
        """Every missing session of every cell, in the plan's order."""
        order = interleave(cells, self._plan.sessions, self._plan.seed)
        if self._plan.order == "sequential":
            order.sort(key=lambda pair: (cells.index(pair[0]), pair[1]))
        have = self._present() if self._store.folder.is_dir() else set()
        todo = [(cell, session) for cell, session in order if (cell.id, session) not in have]
        for warning in beyond_training(cells, self._models):
            self._watcher.say(f"warning: {warning}")
        self._watcher.plan(cells, todo, self._models)
        made: list[Run] = []
        for cell, session in todo:
            made += self._run_session(cell, session)
        return Outcome(tuple(made), len(order) - len(todo))

    def _present(self) -> set[tuple[str, int]]:
        """Sessions that are measured: same cell, same model, same device state, at least as many iterations."""
        runs, damaged = self._store.runs()
        for broken in damaged:
            self._watcher.say(f"{broken.folder.name} is damaged and left alone: {broken.reason}")
        return {(r.manifest.cell_id, r.manifest.session) for r in runs if self._counts(r.manifest)}

    def _counts(self, m: Manifest) -> bool:
        device = self._devices.get(m.cell.device)
        model = self._models.get(m.cell.model)
        if m.status != "ok" or device is None or model is None or m.model is None:
            return False
        if m.cell.workload == "fixed" and m.job.get("iterations", 0) < self._plan.iterations:
            return False
        same_device = device.facts.passport().items() <= m.passport.items()
        return same_device and m.model.sha256 == model.sha256

    def _run_session(self, cell: Cell, session: int) -> list[Run]:
        """One session of a cell, with the retries that its failure allows."""
        device, backend = self._devices[cell.device], self._backends[cell.backend]
        model = self._models[cell.model]
        attempt = Attempt(
            plan=self._plan,
            cell=cell,
            session=session,
            attempt=0,
            run_id=_new_run_id(cell, session),
            profile=device.profile,
            facts=device.facts,
            model=model,
            prediction=_predict(cell, model),
            extra_buffers=(cell.device, cell.backend) not in self._extra_buffers_crash,
        )
        self._watcher.begin(cell, session)
        too_large = _does_not_fit(attempt)
        if too_large:
            return [self._finish(record_skip(self._store, attempt, "predicted_out_of_memory", too_large))]
        made: list[Run] = []
        while True:
            run = record_run(self._store, device.driver, backend, attempt, self._watcher)
            made.append(self._finish(run))
            again = self._next_attempt(attempt, run)
            if again is None:
                return made
            attempt = again

    def _finish(self, run: Run) -> Run:
        self._watcher.end(run)
        return run

    def _next_attempt(self, attempt: Attempt, run: Run) -> Attempt | None:
        error = run.manifest.error
        if error is None:
            return None
        again = replace(attempt, attempt=attempt.attempt + 1, run_id=_new_run_id(attempt.cell, attempt.session))
        if error.kind in CRASHES and attempt.extra_buffers:
            self._extra_buffers_crash.add((attempt.cell.device, attempt.cell.backend))
            return replace(again, extra_buffers=False)
        if error.kind in ("disconnected", "transient") and attempt.attempt < self._plan.retries:
            return again
        return None


def _predict(cell: Cell, model: ModelInfo) -> Prediction:
    tokens = cell.prompt_tokens + cell.gen_tokens
    found = predict_memory(model, tokens, cell.type_k, cell.type_v, cell.ubatch, n_outputs=1)
    return Prediction(**{key: getattr(found, key) for key in Prediction.model_fields})


def _does_not_fit(attempt: Attempt) -> str:
    """Why the run would run out of memory, by prediction; empty where it fits or where it cannot be known."""
    available = attempt.facts.available_bytes
    if available is None:
        return ""
    allowed = int(available * attempt.plan.memory_fraction)
    needed = attempt.prediction.total_bytes
    if needed <= allowed:
        return ""
    return (
        f"needs {needed / 2**20:.0f} MiB by prediction, and {attempt.plan.memory_fraction:.0%} of the "
        f"{available / 2**20:.0f} MiB available is {allowed / 2**20:.0f} MiB"
    )


def _new_run_id(cell: Cell, session: int) -> str:
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return f"{now}-{cell.id}-s{session:02d}-{uuid.uuid4().hex[:4]}"
