"""One attempt at one session of a cell: from pushing the files to a published run."""

import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melt.errors import DeviceError, MeltError, StoreError, TransientDeviceError
from melt.execution.adapter import TranslatedProcess
from melt.execution.cooldown import wait_until_cool
from melt.execution.progress import Watcher
from melt.execution.stream import Heard, explain_end, follow
from melt.models.refs import parse_ref
from melt.spec.cell import Cell
from melt.spec.events import Event, Hello, UnknownLine
from melt.spec.facts import ClockReading, DeviceFacts
from melt.spec.job import Job
from melt.spec.plan import Plan, Timeouts, to_yaml
from melt.spec.profile import DeviceProfile
from melt.store.manifest import Flag, Manifest, ModelRecord, Prediction, RunFailure
from melt.store.store import (
    EVENTS,
    PLAN,
    STDERR,
    TELEMETRY,
    Run,
    Store,
    cannot_write,
)
from melt.telemetry.source import Discovery
from melt.version import __version__

if TYPE_CHECKING:
    from melt.backends.base import Backend, Bundle
    from melt.drivers.base import Driver, Process, Recording
    from melt.models.info import ModelInfo


POWER_MODE = "power_mode"
HELD = ("governor", "clocks", POWER_MODE)  # conditions that the passport tells as they were found to hold


@dataclass(frozen=True)
class Attempt:
    """What is to be measured, on what, and the how-manieth try it is."""

    plan: Plan
    cell: Cell
    session: int
    attempt: int
    run_id: str
    profile: DeviceProfile
    facts: DeviceFacts
    model: "ModelInfo"
    prediction: Prediction
    extra_buffers: bool = True

    @property
    def conditions(self) -> dict[str, str]:
        """What is to be set: the profile's, and the cell's power mode."""
        mode = {POWER_MODE: self.cell.power_mode} if self.cell.power_mode else {}
        return {**self.profile.conditions, **mode}


@dataclass
class _Draft:
    """The manifest in the making."""

    started_at: str = field(default_factory=lambda: _utc_now())
    discovery: Discovery = field(default_factory=Discovery)
    heard: Heard = field(default_factory=Heard)
    error: RunFailure | None = None
    flags: list[Flag] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    job: Job | None = None
    runner_sha256: str | None = None
    clock: ClockReading | None = None
    idle_t_ns: tuple[int, int] | None = None
    facts: DeviceFacts | None = None  # as they were under the conditions
    start_temp_c: float | None = None
    cooldown_s: float | None = None


def record_run(store: Store, driver: "Driver", backend: "Backend", attempt: Attempt, watcher: Watcher) -> Run:
    """Makes one run. What goes wrong on the device becomes a failed run.

    Raises:
        StoreError: the results folder cannot be written; nothing half-written is left.
    """
    partial = store.begin(attempt.run_id)
    draft = _Draft()
    try:
        (partial / PLAN).write_text(to_yaml(attempt.plan), encoding="utf-8")
        try:
            _measure(partial, driver, backend, attempt, draft, watcher)
        except TransientDeviceError as e:
            draft.error = RunFailure(kind="transient", message=e.message)
        except DeviceError as e:
            draft.error = RunFailure(kind="device", message=e.message)
        except StoreError:
            raise
        except MeltError as e:
            draft.error = RunFailure(kind="runner", message=e.message)
        return store.publish(partial, _manifest(attempt, draft))
    except OSError as e:
        store.discard(partial)
        raise cannot_write(store.folder, e) from e
    except BaseException:
        store.discard(partial)
        raise


def record_skip(store: Store, attempt: Attempt, kind: str, reason: str) -> Run:
    """A run that is not made, with the reason; it stands in the report beside the others."""
    draft = _Draft(error=RunFailure(kind=kind, message=reason))
    manifest = _manifest(attempt, draft).model_copy(update={"status": "skipped"})
    partial = store.begin(attempt.run_id)
    try:
        (partial / PLAN).write_text(to_yaml(attempt.plan), encoding="utf-8")
    except OSError as e:
        store.discard(partial)
        raise cannot_write(store.folder, e) from e
    return store.publish(partial, manifest)


def _measure(
    partial: Path, driver: "Driver", backend: "Backend", attempt: Attempt, draft: _Draft, watcher: Watcher
) -> None:
    watcher.phase("push")
    bundle = backend.bundle(attempt.cell, attempt.model, attempt.facts, attempt.run_id)
    argv, sampler, draft.job = _place(driver, bundle, attempt, watcher)
    draft.runner_sha256 = bundle.runner_sha256
    draft.discovery = driver.discover()
    for refused in driver.condition(attempt.conditions):
        if refused.name == POWER_MODE and attempt.cell.power_mode:  # it would be measured under a name that is not its
            raise DeviceError(f"power mode {attempt.cell.power_mode}: {refused.reason}. {refused.hint}".strip())
        draft.warnings.append(f"condition {refused.name} could not be set: {refused.reason}. {refused.hint}".strip())
    draft.facts = attempt.facts.model_copy(update=dict(driver.held()))
    if attempt.cell.power_mode not in (None, draft.facts.power_mode):
        raise DeviceError(f"power mode {attempt.cell.power_mode}: the device is in {draft.facts.power_mode}")
    watcher.phase("cool")
    cooled = wait_until_cool(driver, draft.discovery, attempt.profile.thermal, attempt.plan.cooldown)
    draft.start_temp_c, draft.cooldown_s = cooled.start_temp_c, cooled.waited_s
    draft.flags += [cooled.flag] if cooled.flag else []
    recording = driver.record(draft.discovery.probes, attempt.profile.sensors.period_ms, sampler)
    try:
        watcher.phase("idle")
        draft.clock = driver.clock()
        time.sleep(attempt.plan.idle_s)
        draft.idle_t_ns = (draft.clock.device_ns, driver.clock().device_ns)
        watcher.phase("load")
        process = driver.launch(argv, draft.job.model_dump(mode="json"), bundle.env)
        timeouts = attempt.plan.timeouts
        if bundle.translate is not None:
            process, timeouts = TranslatedProcess(process, bundle.translate), _of_all(timeouts, attempt.cell.iterations)
        _follow(partial, driver, process, recording, timeouts, attempt, draft, watcher)
    except BaseException:
        with contextlib.suppress(MeltError, OSError):  # what ended the run is what is told, an interrupt above all
            recording.stop(partial / TELEMETRY)
        raise
    watcher.phase("collect")
    problem = recording.stop(partial / TELEMETRY)
    draft.warnings += [f"telemetry: {problem}"] if problem else []
    _check_held(driver, draft)


def _check_held(driver: "Driver", draft: _Draft) -> None:
    """What held when it began holds still: another computer, or a person, may have set it otherwise meanwhile."""
    before = draft.facts or DeviceFacts(platform="", machine="")
    moved = {k: v for k, v in driver.held().items() if v != getattr(before, k)}
    told = "; ".join(f"{k} was {getattr(before, k)} and is {v}" for k, v in moved.items())
    if POWER_MODE in moved and draft.error is None:
        draft.error = RunFailure(kind="transient", message=f"somebody changed the device while it ran: {told}")
    elif moved:
        draft.flags.append(Flag(name="conditions_changed", evidence=told))


def _place(driver: "Driver", bundle: "Bundle", attempt: Attempt, watcher: Watcher) -> tuple[list[str], list[str], Job]:
    """Pushes the bundle; its argv, its sampler and its job with the files' places on the device."""
    places = {k: driver.push(f, watcher.pushing(f.name)).device_path for k, f in bundle.files.items()}
    plan = attempt.plan
    job = bundle.job.model_copy(
        update={
            "model": places.get(bundle.job.model, bundle.job.model),
            "profile_ops": plan.profile_ops,
            "extra_buffers": attempt.extra_buffers,
        }
    )
    return [places.get(a, a) for a in bundle.argv], [places.get(a, a) for a in bundle.sampler], job


def _follow(
    partial: Path,
    driver: "Driver",
    process: "Process",
    recording: "Recording",
    timeouts: Timeouts,
    attempt: Attempt,
    draft: _Draft,
    watcher: Watcher,
) -> None:
    try:
        if process.pid is not None:
            recording.follow(process.pid)
        with (partial / EVENTS).open("w", encoding="utf-8") as raw:

            def heard(event: Event | UnknownLine) -> None:
                if isinstance(event, Hello) and event.pid is not None and process.pid is None:
                    recording.follow(event.pid)
                watcher.event(event)

            draft.heard, draft.error = follow(process, raw, timeouts, attempt.cell.gen_tokens, heard)
        if draft.error is None:
            draft.error = explain_end(draft.heard, process, driver)
    finally:
        process.kill()
        (partial / STDERR).write_text(process.stderr(), encoding="utf-8")
    draft.warnings += draft.heard.warnings + draft.heard.unknown_warning()
    draft.flags += _flags(attempt)


def _of_all(timeouts: Timeouts, iterations: int) -> Timeouts:
    """For a program that says nothing until all iterations of a phase are over, its model's loading included."""
    whole_s = timeouts.load_s + iterations * timeouts.iteration_s
    return timeouts.model_copy(update={"load_s": whole_s, "iteration_s": whole_s})


def _flags(attempt: Attempt) -> list[Flag]:
    """What is known against the run beforehand; what its data say is found when they are read (analysis/flags.py)."""
    flags = []
    if not attempt.extra_buffers:
        evidence = "the runner crashed with the engine's extra buffers, so they are off: no repacked weights, slower"
        flags.append(Flag(name="extra_buffers_off", evidence=evidence))
    beyond = _beyond_training(attempt.cell, attempt.model)
    flags += [Flag(name="context_beyond_training", evidence=beyond)] if beyond else []
    return flags


def beyond_training(cells: Iterable[Cell], models: Mapping[str, "ModelInfo"]) -> list[str]:
    """A warning for each model asked for more context than it was trained for; its longest cell is named."""
    longest = {c.model: c for c in sorted(cells, key=lambda c: c.prompt_tokens + c.gen_tokens)}
    found = {ref: _beyond_training(c, models[ref]) for ref, c in longest.items() if ref in models}
    return [f"{ref}: {evidence}" for ref, evidence in found.items() if evidence]


def _beyond_training(cell: Cell, model: "ModelInfo") -> str:
    """Empty where the context is within training, or the model says nothing of it, or has no positions."""
    tokens = cell.prompt_tokens + cell.gen_tokens
    if model.family == "ssm" or not 0 < model.context_trained < tokens:
        return ""
    return f"{tokens} tokens; trained for {model.context_trained}: the speed is right, the text would not be"


def known_passport(
    profile: DeviceProfile, facts: DeviceFacts, model: "ModelInfo", runner_sha256: str | None
) -> dict[str, str]:
    """The passport as far as it is known before a run; the engine's own words are added after it."""
    asked = {f"asked_{name}": value for name, value in profile.conditions.items() if name not in HELD}
    known = {"driver": profile.driver, **facts.passport(), **asked, "model_sha256": model.sha256}
    return {**known, "runner_sha256": runner_sha256} if runner_sha256 else known


def _manifest(attempt: Attempt, draft: _Draft) -> Manifest:
    hello = draft.heard.hello
    versions = {"melt": __version__}
    facts = draft.facts or attempt.facts
    passport = known_passport(attempt.profile, facts, attempt.model, draft.runner_sha256)
    if hello is not None:
        versions |= {
            "runner": f"{hello.runner} {hello.runner_version}",
            "engine": f"{hello.engine} {hello.engine_version}",
        }
        versions |= {f"engine_{k}": v for k, v in hello.engine_build.items()}
        passport |= {"engine": hello.engine, "engine_version": hello.engine_version}
        passport |= {f"engine_{k}": v for k, v in hello.engine_build.items()}
    return Manifest(
        run_id=attempt.run_id,
        cell=attempt.cell,
        cell_id=attempt.cell.id,
        plan_name=attempt.plan.name,
        session=attempt.session,
        attempt=attempt.attempt,
        status="ok" if draft.error is None else "failed",
        error=draft.error,
        flags=tuple(draft.flags),
        warnings=tuple(draft.warnings),
        started_at=draft.started_at,
        ended_at=_utc_now(),
        device=facts.model_copy(update={"python": None, "installed_runner": None}),
        passport=passport,
        model=model_record(attempt.model),
        prediction=attempt.prediction,
        job=_job_record(draft.job),
        telemetry=draft.discovery,
        sampler_period_ms=attempt.profile.sensors.period_ms,
        idle_t_ns=draft.idle_t_ns,
        clock=draft.clock,
        start_temp_c=draft.start_temp_c,
        cooldown_s=draft.cooldown_s,
        versions=versions,
    )


def _job_record(job: Job | None) -> dict[str, Any]:
    """The job as a run keeps it: results are shared, and where a file lay on somebody's device is no part of them."""
    return {**job.model_dump(mode="json"), "model": Path(job.model).name} if job else {}


def model_record(model: "ModelInfo") -> ModelRecord:
    """The model as a run keeps it: no path of this host."""
    keys = ("n_layers", "d_model", "n_heads", "n_kv_heads", "vocab_size", "d_state")
    shape = {k: v for k in keys if isinstance(v := getattr(model, k, None), int)}
    return ModelRecord(
        ref=model.ref,
        name=parse_ref(model.ref).short,
        sha256=model.sha256,
        file_bytes=model.file_bytes,
        family=model.family,
        arch=model.arch,
        quant=model.quant,
        synthetic=model.synthetic,
        n_params=model.n_params,
        context_trained=model.context_trained or None,
        source=model.revision,
        shape=shape,
    )


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
