"""One attempt at a unit, from pushing its files to a published run. It knows of no plan."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from melt.analysis.judge import why_no_measurement
from melt.backends.cores import oversubscribed
from melt.drivers.base import ToRecord
from melt.drivers.runner import write
from melt.errors import DeviceError, DeviceGoneError, MeltError, StoreError, TransientDeviceError
from melt.execution import limits
from melt.execution.attempt import Attempt, Evidence
from melt.execution.conditions import OF_CELLS, conditions_of, moved, not_held, words_of
from melt.execution.cooldown import wait_until_cool
from melt.execution.fit import beyond_training
from melt.execution.manifest import manifest_of
from melt.execution.private import scrubber
from melt.execution.progress import Watcher
from melt.execution.protocol_adapter import ProtocolAdapter
from melt.execution.stream import explain_end, follow
from melt.spec.events import Event, Hello, UnknownLine
from melt.spec.facts import DeviceFacts
from melt.spec.failures import BEYOND_LIMIT, DEVICE, GONE, RUNNER, TRANSIENT
from melt.spec.job import Job
from melt.spec.plan import Timeouts
from melt.spec.transcript import Transcript
from melt.store.manifest import Flag, RunFailure
from melt.store.store import EVENTS, PLAN, STDERR, TELEMETRY, Run, Store, cannot_write
from melt.telemetry.limits import LimitsWatch
from melt.telemetry.thermal_band import missing_zones

if TYPE_CHECKING:
    from melt.backends.base import Backend, Bundle
    from melt.drivers.base import Driver, Process, Recording


Stop = Callable[[], RunFailure | None]


@dataclass(frozen=True)
class _Bench:
    """An attempt with all that it is made with."""

    attempt: Attempt
    driver: "Driver"
    backend: "Backend"
    watcher: Watcher
    folder: Path  # of the run in the making
    scrub: Callable[[str], str]


@dataclass(frozen=True)
class _Placed:
    """A bundle on the device, its files by their places there."""

    bundle: "Bundle"
    argv: Sequence[str]
    sampler: Sequence[str]
    job: Job


def measure(attempt: Attempt, driver: "Driver", backend: "Backend", store: Store, watcher: Watcher) -> Run:
    """Makes one run. What goes wrong on the device becomes a failed run.

    Raises:
        StoreError: the results folder cannot be written; nothing half-written is left.
    """
    partial = store.begin(attempt.run_id)
    folder = partial.folder
    try:
        (folder / PLAN).write_text(attempt.origin.text, encoding="utf-8")
        evidence = _measured(_Bench(attempt, driver, backend, watcher, folder, scrubber(attempt.profile)))
        manifest = manifest_of(attempt, evidence)
        return store.publish(partial, manifest.model_copy(update={"disturbed": _disturbed_by(Run(folder, manifest))}))
    except OSError as e:
        store.discard(partial)
        raise cannot_write(store.folder, e) from e
    except BaseException:
        store.discard(partial)
        raise


def _disturbed_by(run: Run) -> tuple[str, ...]:
    from melt.analysis.causes import causes_of  # has pandas

    return causes_of(run)


def record_skip(attempt: Attempt, store: Store, kind: str, reason: str) -> Run:
    """A run that is not made, with the reason; it stands in the report beside the others."""
    evidence = Evidence(error=RunFailure(kind=kind, message=reason))
    manifest = manifest_of(attempt, evidence).model_copy(update={"status": "skipped"})
    partial = store.begin(attempt.run_id)
    try:
        (partial.folder / PLAN).write_text(attempt.origin.text, encoding="utf-8")
    except OSError as e:
        store.discard(partial)
        raise cannot_write(store.folder, e) from e
    return store.publish(partial, manifest)


def _measured(bench: _Bench) -> Evidence:
    """All steps in order, as far as they go."""
    evidence = Evidence().doubted(*_known_flags(bench.attempt))
    try:
        bench.watcher.phase("push")
        placed = _place(bench, bench.attempt.facts)
        evidence = replace(evidence, job=placed.job, runner_sha256=placed.bundle.runner_sha256)
        evidence = _under_conditions(bench, evidence)
        if evidence.facts and evidence.facts.online_cpus != bench.attempt.facts.online_cpus:
            placed = _place(bench, evidence.facts)  # its threads are those of what is on
            evidence = replace(evidence, job=placed.job)
        evidence = replace(evidence, discovery=bench.driver.discover())  # what the sensors tell under them
        bench.watcher.phase("cool")
        evidence = _cooled(bench, evidence)
        return _recorded(bench, placed, evidence)
    except MeltError as e:
        return replace(evidence, error=_failure(e))


def _failure(error: MeltError) -> RunFailure:
    """What stopped an attempt, as its run keeps it; the results' own trouble is no fault of a run and is raised."""
    match error:
        case StoreError():
            raise error
        case limits.LimitError():
            kind = BEYOND_LIMIT
        case DeviceGoneError():
            kind = GONE
        case TransientDeviceError():
            kind = TRANSIENT
        case DeviceError():
            kind = DEVICE
        case _:
            kind = RUNNER
    return RunFailure(kind=kind, message=error.message, hint=error.hint)


def _known_flags(attempt: Attempt) -> list[Flag]:
    """What is known against the run beforehand; what its data say is found when they are read (analysis/flags.py)."""
    flags = []
    if not attempt.extra_buffers:
        evidence = "the runner crashed with the engine's extra buffers, so they are off: no repacked weights, slower"
        flags.append(Flag(name="extra_buffers_off", evidence=evidence))
    if told := oversubscribed(attempt.cell, attempt.facts):
        flags.append(Flag(name="oversubscribed", evidence=f"{told}: they wait for each other"))
    beyond = beyond_training(attempt.cell, attempt.model)
    return [*flags, Flag(name="context_beyond_training", evidence=beyond)] if beyond else flags


def _place(bench: _Bench, facts: DeviceFacts) -> _Placed:
    """Pushes the bundle."""
    attempt = bench.attempt
    bundle = bench.backend.bundle(attempt.cell, attempt.model, facts, attempt.run_id)
    for file in bundle.files.values():
        write(file)
    places = {k: bench.driver.push(f, bench.watcher.pushing(f.name)).device_path for k, f in bundle.files.items()}
    job = bundle.job.model_copy(
        update={
            "model": places.get(bundle.job.model, bundle.job.model),
            "profile_ops": attempt.rules.profile_ops,
            "extra_buffers": attempt.extra_buffers,
        }
    )
    return _Placed(bundle, [places.get(a, a) for a in bundle.argv], [places.get(a, a) for a in bundle.sampler], job)


def _under_conditions(bench: _Bench, evidence: Evidence) -> Evidence:
    """Sets the conditions. One that the cell names has to hold: it would be measured under a name that is not its."""
    cell, driver = bench.attempt.cell, bench.driver
    own = cell.conditions
    for refused in driver.condition(conditions_of(cell, bench.attempt.profile)):
        why = f"{refused.reason}. {refused.hint}".strip()
        if refused.name in own:
            raise DeviceError(f"{words_of(refused.name)} {own[refused.name]}: {why}")
        evidence = evidence.warned(f"condition {refused.name} could not be set: {why}")
    held = driver.held()
    as_asked = held.get("power_mode", bench.attempt.facts.power_mode) == bench.attempt.facts.power_mode
    before = bench.attempt.facts if as_asked else bench.attempt.found  # a mode that was refused turned no processor on
    evidence = replace(evidence, facts=before.model_copy(update=dict(held)))
    if problem := not_held(cell, evidence.facts or bench.attempt.facts):
        raise DeviceError(problem)
    return evidence


def _cooled(bench: _Bench, evidence: Evidence) -> Evidence:
    attempt = bench.attempt
    if missing := missing_zones(evidence.discovery, attempt.profile.thermal):
        evidence = evidence.warned(f"the profile's thermal band: {missing}")
    cooled = wait_until_cool(bench.driver, evidence.discovery, attempt.profile.thermal, attempt.rules.cooldown)
    left_s = max(0.0, attempt.rules.cooldown.limit_s - cooled.waited_s)
    waited_s = limits.wait_below(bench.driver, evidence.discovery, attempt.profile.limits, left_s)
    cooldown_s = cooled.waited_s + waited_s
    return replace(evidence, start_temp_c=cooled.start_temp_c, cooldown_s=cooldown_s).doubted(cooled.flag)


def _recorded(bench: _Bench, placed: _Placed, evidence: Evidence) -> Evidence:
    """The idle baseline and the runner, with telemetry recorded beside them."""
    driver, telemetry = bench.driver, bench.folder / TELEMETRY
    attempt = bench.attempt
    period_ms = attempt.profile.sensors.period_ms
    watch = LimitsWatch(attempt.profile.limits, evidence.discovery)
    asked = ToRecord(attempt.run_id, evidence.discovery.probes, period_ms, placed.sampler, watch.probes)
    recording = driver.record(asked)

    def beyond_limits() -> RunFailure | None:
        watch.hear(recording.heard())
        return limits.failure(watch.over) if watch.over else None

    try:
        bench.watcher.phase("idle")
        evidence = _idle(bench, evidence)
        bench.watcher.phase("load")
        evidence = _listened(bench, placed, recording, evidence, beyond_limits)
    except BaseException as e:
        with contextlib.suppress(MeltError, OSError):  # what ended the run is what is told, an interrupt above all
            recording.stop(telemetry)
        if not isinstance(e, MeltError):
            raise
        return replace(evidence, error=_failure(e))
    bench.watcher.phase("collect")
    try:
        if problem := recording.stop(telemetry):
            evidence = evidence.warned(f"telemetry: {problem}")
        return _still_held(driver, evidence)
    except MeltError as e:
        return replace(evidence, error=_failure(e))


def _idle(bench: _Bench, evidence: Evidence) -> Evidence:
    clock = bench.driver.clock()
    time.sleep(bench.attempt.rules.idle_s)
    return replace(evidence, clock=clock, idle_t_ns=(clock.device_ns, bench.driver.clock().device_ns))


def _listened(bench: _Bench, placed: _Placed, recording: "Recording", evidence: Evidence, stop: Stop) -> Evidence:
    """The runner from its start to its end, and whether what it said is a measurement."""
    attempt, bundle = bench.attempt, placed.bundle
    process: Process = bench.driver.launch(placed.argv, placed.job.model_dump(mode="json"), bundle.env)
    timeouts = attempt.rules.timeouts
    if bundle.translate is not None:
        process, timeouts = ProtocolAdapter(process, bundle.translate), _of_all(timeouts, attempt.cell.iterations)
    try:
        said, error = _follow(bench, process, recording, timeouts, stop)
        if error is None:
            error = _why_failed(said, process, bench, evidence)
    finally:
        process.kill()
        (bench.folder / STDERR).write_text(bench.scrub(process.stderr()), encoding="utf-8")
    return replace(evidence, said=said, error=error).warned(*said.spoken_warnings)


def _follow(
    bench: _Bench, process: "Process", recording: "Recording", timeouts: Timeouts, stop: Stop
) -> tuple[Transcript, RunFailure | None]:
    if process.pid is not None:
        recording.follow(process.pid)

    def hear(event: Event | UnknownLine) -> None:
        if isinstance(event, Hello) and event.pid is not None and process.pid is None:
            recording.follow(event.pid)
        bench.watcher.event(event)

    with (bench.folder / EVENTS).open("w", encoding="utf-8") as raw:
        return follow(process, lambda line: raw.write(bench.scrub(line)), timeouts, hear, stop)


def _why_failed(said: Transcript, process: "Process", bench: _Bench, evidence: Evidence) -> RunFailure | None:
    """Also where the device goes away before it tells how its runner ended: what that said is kept all the same."""
    try:
        return explain_end(said, process, bench.driver) or _no_measurement(said, bench, evidence)
    except MeltError as e:
        return _failure(e)


def _no_measurement(said: Transcript, bench: _Bench, evidence: Evidence) -> RunFailure | None:
    attempt, iterations = bench.attempt, evidence.job.iterations if evidence.job else None
    return why_no_measurement(said, attempt.cell, iterations, evidence.started.elapsed_s(), attempt.model)


def _still_held(driver: "Driver", evidence: Evidence) -> Evidence:
    """What held when it began holds still: another computer, or a person, may have set it otherwise meanwhile."""
    changes = moved(evidence.facts or DeviceFacts(platform="", machine=""), driver.held())
    what = "; ".join(changes.values())
    if OF_CELLS & changes.keys() and evidence.error is None:
        message = f"somebody changed the device while it ran: {what}"
        return replace(evidence, error=RunFailure(kind=TRANSIENT, message=message))
    return evidence.doubted(Flag(name="conditions_changed", evidence=what)) if changes else evidence


def _of_all(timeouts: Timeouts, iterations: int) -> Timeouts:
    """For a program that says nothing until all iterations of a phase are over, its model's loading included."""
    whole_s = timeouts.load_s + iterations * timeouts.iteration_s
    return timeouts.model_copy(update={"load_s": whole_s, "iteration_s": whole_s})
