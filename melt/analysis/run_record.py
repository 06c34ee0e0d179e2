"""One run as analysis sees it: what its runner said, and whether that bears out its status."""

import math
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest

from melt.analysis.judge import why_no_measurement
from melt.spec.events import Iteration
from melt.spec.transcript import Transcript, transcript_of
from melt.store.manifest import Manifest, RunFailure
from melt.store.store import Run
from melt.util.units import S_PER_NS


@dataclass(frozen=True, kw_only=True)
class RunRecord(Transcript):
    """What a run's runner said, with the run; ``failure`` is None where its measurements may be used."""

    run: Run
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
        prefill_s = [ns * S_PER_NS for r in self.repetitions if r.phase == "prefill" for ns in r.took_ns]
        tpot_s = [ns * S_PER_NS / r.tokens for r in self.repetitions if r.phase == "decode" for ns in r.took_ns]
        return tuple(zip_longest(prefill_s, tpot_s, fillvalue=math.nan))

    @property
    def ok(self) -> bool:
        """Whether its measurements may be used."""
        return self.status == "ok"


def read(run: Run) -> RunRecord:
    """A run's events; lines that are none are counted and otherwise ignored.

    A run whose manifest says ok, but whose events are not whole or not possible, becomes a failed run
    here: half of a measurement must neither be pooled nor vanish.
    """
    said = transcript_of(run.events())
    status, failure = run.manifest.status, run.manifest.error
    if status == "ok" and (failure := _contradiction(said, run.manifest)):
        status = "failed"
    return RunRecord(**vars(said), run=run, status=status, failure=failure)


def _contradiction(said: Transcript, manifest: Manifest) -> RunFailure | None:
    """Why a run that says ok cannot be believed, or None."""
    asked = manifest.job.get("iterations")
    iterations = asked if isinstance(asked, int) else None
    failure = why_no_measurement(said, manifest.cell, iterations, _duration_s(manifest), manifest.model)
    if failure is None:
        return None
    reason = failure.message[:1].lower() + failure.message[1:]
    return RunFailure(kind=failure.kind, message=f"The manifest says ok, but {reason}")


def _duration_s(manifest: Manifest) -> float:
    """How long the run took by the host's clock; infinite where the manifest does not tell, or it was set back."""
    try:
        started, ended = (datetime.fromisoformat(t) for t in (manifest.started_at, manifest.ended_at))
        return (ended - started).total_seconds() if ended >= started else math.inf
    except (ValueError, TypeError):
        return math.inf
