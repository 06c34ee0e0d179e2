"""Is a run a measurement? The one judgement: asked when a run is made, and whenever it is read again.

It needs only what the runner said, what it was asked, and how long the run took by the host's clock.
"""

from collections.abc import Sequence
from typing import Protocol

from melt.spec.cell import Cell
from melt.spec.events import Iteration, ModelLoaded, Repetitions
from melt.spec.transcript import Transcript
from melt.store.manifest import RunFailure
from melt.util.units import S_PER_NS

CLOCKS_MAY_DIFFER_S = 300.0  # the host's clock may be set while a run goes on


class Asked(Protocol):
    """What a run says of the model that it was made with."""

    @property
    def arch(self) -> str:
        """Its architecture, by its own header."""

    @property
    def n_params(self) -> int:
        """Its parameters; 0: not known."""


def why_no_measurement(
    said: Transcript,
    cell: Cell,
    iterations: int | None = None,
    duration_s: float = float("inf"),
    model: Asked | None = None,
) -> RunFailure | None:
    """Why what a runner said is no measurement of a cell; None where it is one.

    Args:
        said: its events.
        cell: what it was asked.
        iterations: timed passes that its job asked for; None: the cell's.
        duration_s: how long the whole run took by the host's clock; infinite where that is not known.
        model: the one that it was made with; None where that is not known.
    """
    if said.loaded is not None and model is not None and (problem := _of_another_model(said.loaded, model)):
        return RunFailure(kind="another_model", message=problem)
    if said.done is None or said.done.status != "ok":
        return RunFailure(kind="incomplete_events", message="The event stream has no ok end.")
    wanted = max(1, cell.iterations if iterations is None else iterations) if cell.workload == "fixed" else 1
    timed = [p for p in said.passes if not p.warmup]
    if said.repetitions and not timed:
        problem = _impossible_repetitions(said.repetitions, cell, wanted, duration_s)
        return RunFailure(kind="invalid_events", message=problem) if problem else None
    if len(timed) < wanted:
        message = f"Its events have {len(timed)} of {wanted} timed iterations."
        return RunFailure(kind="incomplete_events", message=message)
    for i, one in enumerate(said.passes):
        if problem := _impossible(one, said.passes[i - 1] if i else None, cell, duration_s):
            return RunFailure(kind="invalid_events", message=f"Pass {i}: {problem}.")
    return None


def _of_another_model(loaded: ModelLoaded, model: Asked) -> str:
    """How what the engine loaded differs from what it was asked for, or nothing; engines do not tell all of it."""
    told = (("architecture", loaded.architecture, model.arch), ("parameters", loaded.n_params, model.n_params))
    for what, loads, asks in told:
        if loads and asks and loads != asks:
            return f"The engine loaded a model of {loads} {what}, and the run's is of {asks}."
    return ""


def _impossible(one: Iteration, before: Iteration | None, cell: Cell, duration_s: float) -> str:
    """What a pass claims that cannot be, or nothing."""
    if problem := one.problem(cell.gen_tokens):
        return problem
    if not one.warmup and one.prefill.tokens != cell.prompt_tokens:
        return f"{one.prefill.tokens} prompt tokens where the cell has {cell.prompt_tokens}"
    if before and one.prefill.t_start_ns < _end_ns(before):
        return "it starts before the end of the pass before it"
    took_s = (_end_ns(one) - one.prefill.t_start_ns) * S_PER_NS
    if took_s > duration_s + CLOCKS_MAY_DIFFER_S:
        return f"it took {took_s:.0f} s, and the whole run {duration_s:.0f} s"
    return ""


def _impossible_repetitions(tests: Sequence[Repetitions], cell: Cell, wanted: int, duration_s: float) -> str:
    """What durations claim that cannot be, or nothing."""
    if sorted(r.phase for r in tests) != sorted(cell.phases):
        return f"Tests of {', '.join(r.phase for r in tests)}, where one of each phase should be."
    for one in tests:
        if (one.tokens, one.depth) != cell.phases[one.phase]:
            return f"A {one.phase} of {one.tokens} tokens at depth {one.depth}, which the cell does not ask for."
        if len(one.took_ns) < wanted:
            return f"{len(one.took_ns)} of {wanted} repetitions of the {one.phase}."
        if sum(one.took_ns) * S_PER_NS > duration_s + CLOCKS_MAY_DIFFER_S:
            return f"The {one.phase} took longer than the whole run."
    return ""


def _end_ns(one: Iteration) -> int:
    return one.token_t_ns[-1] if one.token_t_ns else one.prefill.t_end_ns
