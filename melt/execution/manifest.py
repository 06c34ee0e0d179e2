"""The manifest of an attempt: its passport, and what was found out by making it."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melt.execution.attempt import Attempt, Evidence
from melt.execution.private import scrubber
from melt.spec.events import Hello
from melt.spec.facts import MOVED_BY_CONDITIONS, DeviceFacts
from melt.spec.job import Job
from melt.spec.profile import DeviceProfile
from melt.store.manifest import Manifest
from melt.store.model_record import model_record
from melt.version import __version__

if TYPE_CHECKING:
    from melt.models.info import ModelInfo


def known_passport(
    profile: DeviceProfile, facts: DeviceFacts, model: "ModelInfo", runner_sha256: str | None
) -> dict[str, str]:
    """The passport as far as it is known before a run; the engine's own words are added after it."""
    asked = {f"asked_{name}": value for name, value in profile.conditions.items() if name not in MOVED_BY_CONDITIONS}
    known = {"driver": profile.driver, **facts.passport(), **asked, "model_sha256": model.sha256}
    return {**known, "runner_sha256": runner_sha256} if runner_sha256 else known


def manifest_of(attempt: Attempt, evidence: Evidence) -> Manifest:
    """The manifest of an attempt that is over."""
    facts, scrub = evidence.facts or attempt.facts, scrubber(attempt.profile)
    error = evidence.error
    passport = known_passport(attempt.profile, facts, attempt.model, evidence.runner_sha256)
    hello = evidence.said.hello
    return Manifest(
        run_id=attempt.run_id,
        cell=attempt.cell,
        cell_id=attempt.cell.id,
        plan_name=attempt.origin.name,
        session=attempt.session,
        attempt=attempt.number,
        adaptive=attempt.origin.adaptive,
        status="ok" if error is None else "failed",
        error=error and error.model_copy(update={"message": scrub(error.message), "hint": scrub(error.hint)}),
        flags=tuple(f.model_copy(update={"evidence": scrub(f.evidence)}) for f in evidence.flags),
        warnings=tuple(map(scrub, evidence.warnings)),
        started_at=_iso(evidence.started.at),
        ended_at=_iso(evidence.started.at + timedelta(seconds=evidence.started.elapsed_s())),
        device=facts.model_copy(update={"python": None, "installed_runner": None}),
        passport=passport | _engine(hello),
        model=model_record(attempt.model),
        prediction=attempt.prediction,
        job=_job_record(evidence.job),
        telemetry=evidence.discovery,
        sampler_period_ms=attempt.profile.sensors.period_ms,
        idle_t_ns=evidence.idle_t_ns,
        clock=evidence.clock,
        start_temp_c=evidence.start_temp_c,
        cooldown_s=evidence.cooldown_s,
        versions={"melt": __version__} | _versions(hello),
    )


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def _engine(hello: Hello | None) -> dict[str, str]:
    if hello is None:
        return {}
    build = {f"engine_{k}": v for k, v in hello.engine_build.items()}
    return {"engine": hello.engine, "engine_version": hello.engine_version} | build


def _versions(hello: Hello | None) -> dict[str, str]:
    if hello is None:
        return {}
    runner, engine = f"{hello.runner} {hello.runner_version}", f"{hello.engine} {hello.engine_version}"
    return {"runner": runner, "engine": engine} | {f"engine_{k}": v for k, v in hello.engine_build.items()}


def _job_record(job: Job | None) -> dict[str, Any]:
    """The job as a run keeps it: results are shared, and where a file lay on somebody's device is no part of them."""
    return {**job.model_dump(mode="json"), "model": Path(job.model).name} if job else {}
