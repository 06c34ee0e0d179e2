"""One run as analysis sees it: its events sorted by kind, and whether they bear out its status."""

import math
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest

from melt.spec.events import Compiled, Done, Failed, Hello, Iteration, ModelLoaded, Ops, Repetitions, Warned
from melt.store.manifest import Manifest, RunFailure
from melt.store.store import Run

NS = 1e-9
CLOCKS_MAY_DIFFER_S = 300.0  # the host's clock may be set while a run goes on


@dataclass(frozen=True)
class Recorded:
    """A run with its events; ``failure`` is None where its measurements may be used."""

    run: Run
    hello: Hello | None
    compiled: tuple[Compiled, ...]  # the model's graphs, of an accelerator that wants that
    loaded: ModelLoaded | None
    passes: tuple[Iteration, ...]  # every pass in order, warm-ups included
    repetitions: tuple[Repetitions, ...]  # of a program that gives durations only
    ops: tuple[Ops, ...]
    warnings: tuple[Warned, ...]
    done: Done | None
    n_unknown_lines: int
    status: str
    failure: RunFailure | None

    @property
    def manifest(self) -> Manifest:
        """The run's manifest."""
        return self.run.manifest

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.run.manifest.run_id

    @property
    def timed(self) -> tuple[Iteration, ...]:
        """The timed iterations: warm-ups, and whatever a failed run left, are no measurements."""
        return tuple(p for p in self.passes if not p.warmup) if self.status == "ok" else ()

    @property
    def durations(self) -> tuple[tuple[float, float], ...]:
        """Of a program that gives durations only: of each repetition the prefill's and one decoded token's seconds.

        The two are separate tests, so one repetition's pair shares a number and nothing else.
        """
        if not self.ok or self.timed:
            return ()
        prefill_s = [ns * NS for r in self.repetitions if r.phase == "prefill" for ns in r.took_ns]
        tpot_s = [ns * NS / r.tokens for r in self.repetitions if r.phase == "decode" for ns in r.took_ns]
        return tuple(zip_longest(prefill_s, tpot_s, fillvalue=math.nan))

    @property
    def ok(self) -> bool:
        """Whether its measurements may be used."""
        return self.status == "ok"


def read(run: Run) -> Recorded:
    """A run's events; lines that are none are counted and otherwise ignored.

    A run whose manifest says ok, but whose events are not whole or not possible, becomes a failed run
    here: half of a measurement must neither be pooled nor vanish.
    """
    hello: Hello | None = None
    compiled: list[Compiled] = []
    loaded: ModelLoaded | None = None
    done: Done | None = None
    passes: list[Iteration] = []
    repetitions: list[Repetitions] = []
    ops: list[Ops] = []
    warnings: list[Warned] = []
    unknown = 0
    for event in run.events():
        match event:
            case Hello():
                hello = hello or event
            case Compiled():
                compiled.append(event)
            case ModelLoaded():
                loaded = loaded or event
            case Iteration():
                passes.append(event)
            case Repetitions():
                repetitions.append(event)
            case Ops():
                ops.append(event)
            case Warned():
                warnings.append(event)
            case Done():
                done = event
            case Failed():
                pass  # the session has made the manifest's error of it
            case _:
                unknown += 1
    status, failure = run.manifest.status, run.manifest.error
    if status == "ok":
        failure = _contradiction(run.manifest, passes, repetitions, done)
        status = "failed" if failure else "ok"
    return Recorded(
        run,
        hello,
        tuple(compiled),
        loaded,
        tuple(passes),
        tuple(repetitions),
        tuple(ops),
        tuple(warnings),
        done,
        unknown,
        status,
        failure,
    )


def _contradiction(
    manifest: Manifest, passes: list[Iteration], repetitions: list[Repetitions], done: Done | None
) -> RunFailure | None:
    """Why a run that says ok cannot be believed, or None."""
    timed = [p for p in passes if not p.warmup]
    if done is None or done.status != "ok":
        return RunFailure(kind="incomplete_events", message="The manifest says ok, but the event stream has no ok end.")
    told = manifest.job.get("iterations")
    wanted = told if isinstance(told, int) else manifest.cell.iterations
    wanted = wanted if manifest.cell.workload == "fixed" else 1
    if repetitions and not timed:
        problem = _impossible_repetitions(repetitions, manifest, max(1, wanted))
        return RunFailure(kind="invalid_events", message=problem) if problem else None
    if len(timed) < max(1, wanted):
        message = f"The manifest says ok, but {len(timed)} of {max(1, wanted)} timed iterations are in its events."
        return RunFailure(kind="incomplete_events", message=message)
    for i, one in enumerate(passes):
        problem = _impossible(one, passes[i - 1] if i else None, manifest)
        if problem:
            return RunFailure(kind="invalid_events", message=f"Pass {i}: {problem}.")
    return None


def _impossible(one: Iteration, before: Iteration | None, manifest: Manifest) -> str:
    """What a pass claims that cannot be, or nothing."""
    problem = one.problem(manifest.cell.gen_tokens)
    if problem:
        return problem
    if not one.warmup and one.prefill.tokens != manifest.cell.prompt_tokens:
        return f"{one.prefill.tokens} prompt tokens where the cell has {manifest.cell.prompt_tokens}"
    if before and one.prefill.t_start_ns < _end_ns(before):
        return "it starts before the end of the pass before it"
    took_s = (_end_ns(one) - one.prefill.t_start_ns) * 1e-9
    run_s = _duration_s(manifest)
    if took_s > run_s + CLOCKS_MAY_DIFFER_S:
        return f"it took {took_s:.0f} s, and the whole run {run_s:.0f} s"
    return ""


def _impossible_repetitions(found: list[Repetitions], manifest: Manifest, wanted: int) -> str:
    """What durations claim that cannot be, or nothing."""
    cell = manifest.cell
    tests = {"prefill": (cell.prompt_tokens, 0), "decode": (cell.gen_tokens, cell.prompt_tokens)}
    if sorted(r.phase for r in found) != sorted(tests):
        return f"Tests of {', '.join(r.phase for r in found)}, where one of each phase should be."
    for one in found:
        if (one.tokens, one.depth) != tests[one.phase]:
            return f"A {one.phase} of {one.tokens} tokens at depth {one.depth}, which the cell does not ask for."
        if len(one.took_ns) < wanted:
            return f"{len(one.took_ns)} of {wanted} repetitions of the {one.phase}."
        if sum(one.took_ns) * 1e-9 > _duration_s(manifest) + CLOCKS_MAY_DIFFER_S:
            return f"The {one.phase} took longer than the whole run."
    return ""


def _end_ns(one: Iteration) -> int:
    return one.token_t_ns[-1] if one.token_t_ns else one.prefill.t_end_ns


def _duration_s(manifest: Manifest) -> float:
    """How long the run took by the host's clock; infinite where the manifest does not tell."""
    try:
        started, ended = (datetime.fromisoformat(t) for t in (manifest.started_at, manifest.ended_at))
        return (ended - started).total_seconds()
    except (ValueError, TypeError):
        return math.inf
