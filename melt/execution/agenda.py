"""What a plan has left to do: which of its units the results hold already, and in which order the rest is measured."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from melt.analysis.run_record import read
from melt.execution.conditions import facts_as_asked, facts_as_found
from melt.execution.estimate import Rate
from melt.execution.manifest import known_passport
from melt.execution.preflight import Preflight
from melt.spec.cell import Cell
from melt.spec.facts import MOVED_BY_CONDITIONS, STATE
from melt.spec.plan import Plan
from melt.spec.schedule import Unit, interleave
from melt.store.manifest import Manifest
from melt.store.store import Run, Store
from melt.util.text import plural

_ENGINE = "engine as the device tells it"
Passport = Mapping[str, frozenset[str]]  # what each value may be


@dataclass(frozen=True)
class Agenda:
    """The units that are to be measured, in order; how many there are already; and what to say of that."""

    todo: tuple[Unit, ...]
    already_there: int
    counted: tuple[Manifest, ...]  # the runs that are measurements of the plan's cells, disturbed ones too
    known_skips: frozenset[str]  # ids of the cells whose skip is in the results
    rate: Rate
    warnings: tuple[str, ...] = ()


def agenda(admitted: Preflight, store: Store) -> Agenda:
    """What is left of a plan; what cannot be known yet (a model that is not here) is taken to be as it was."""
    runs, damaged = store.runs() if store.folder.is_dir() else ([], [])
    warnings = [f"{broken.folder.name} is damaged and left alone: {broken.reason}" for broken in damaged]
    have = {r.manifest.cell_id for r in runs if r.manifest.status == "ok"}
    expected = {c.id: _expected_passport(c, admitted) for c in admitted.cells if c.id in have}
    again = admitted.plan.extra_time.share > 0  # whether what was disturbed is to be measured again
    counted, doubted = _measurements([r for r in runs if _counts(r.manifest, expected)])
    warnings += [f"{m.run_id} is made again: {reason}" for m, reason in doubted]
    measured = {(m.cell_id, m.session) for m in counted if not (again and m.disturbed)}
    skipped = admitted.skipped
    order = _order([c for c in admitted.cells if c not in skipped], admitted.plan)
    todo = tuple(unit for unit in order if (unit.cell.id, unit.session) not in measured)
    skips = frozenset(r.manifest.cell_id for r in runs if r.manifest.status == "skipped")
    warnings += _without_operators(counted, admitted.plan)
    return Agenda(todo, len(order) - len(todo), tuple(counted), skips, _rate(admitted, runs), tuple(warnings))


def _order(cells: Sequence[Cell], plan: Plan) -> list[Unit]:
    order = interleave(cells, plan.sessions, plan.seed[0])
    if plan.order == "sequential":
        order.sort(key=lambda unit: (cells.index(unit.cell), unit.session))
    return order


def rounds(units: Sequence[Unit], plan: Plan) -> list[list[Unit]]:
    """The units in order, by rounds: a session of every cell, or in a sequential plan every session of a cell."""
    by_cell = plan.order == "sequential"
    groups = itertools.groupby(units, key=lambda unit: unit.cell if by_cell else unit.session)
    return [list(group) for _, group in groups]


def _measurements(runs: Sequence[Run]) -> tuple[list[Manifest], list[tuple[Manifest, str]]]:
    """The runs that whoever reads them takes for measurements; and those that say so and are none, with the reason."""
    counted, doubted = [], []
    for run in runs:
        record = read(run)
        if record.failure is None:
            counted.append(run.manifest)
        else:
            doubted.append((run.manifest, record.failure.message))
    return counted, doubted


def _rate(admitted: Preflight, runs: Sequence[Run]) -> Rate:
    rate = Rate(admitted.plan, dict(admitted.models))
    for run in runs:
        rate.learn(run)
    return rate


def _without_operators(counted: Sequence[Manifest], plan: Plan) -> list[str]:
    without = sum(not m.job.get("profile_ops") for m in counted) if plan.profile_ops else 0
    if not without:
        return []
    made = plural(without, "session was", "sessions were")
    again = "is not made again" if without == 1 else "are not made again"
    return [
        f"warning: {made} made without the operator pass and {again}; name another --results folder to have it of all"
    ]


def _expected_passport(cell: Cell, admitted: Preflight) -> Passport:
    """The passport that a run of this cell would have now, and the engine's version as the device tells it.

    Of a condition that the profile asks for, the run has what was asked, or what was found where it was refused. What
    else moves with conditions nobody knows before they are set.
    """
    facts, model = admitted.facts.get(cell.device), admitted.models.get(cell.model)
    if facts is None or model is None:
        return {}
    profile, runner_sha256 = admitted.profiles[cell.device], admitted.runner_sha256(cell)
    as_asked, as_found = (
        known_passport(profile, under, model, runner_sha256)
        for under in (facts_as_asked(cell, profile, facts), facts_as_found(cell, facts))
    )
    allowed = {k: frozenset((v, as_found.get(k, v))) for k, v in as_asked.items() if v or k != "model_sha256"}
    if facts.identity:  # by which results called the device before there was a salt
        allowed["serial_hash"] = allowed.get("serial_hash", frozenset()) | {facts.identity}
    if profile.conditions or cell.conditions:
        allowed = {k: v for k, v in allowed.items() if k in MOVED_BY_CONDITIONS or k not in STATE}
    return allowed | {_ENGINE: frozenset((facts.engines.get(cell.backend, ""),))}


def _counts(m: Manifest, expected: Mapping[str, Passport]) -> bool:
    """Whether a run is a measurement of one of these cells, with the same device, engine, runner and model."""
    if m.status != "ok" or m.cell_id not in expected:
        return False
    had = m.passport | {_ENGINE: m.device.engines.get(m.cell.backend, "")}
    return all(had.get(k) in allowed for k, allowed in expected[m.cell_id].items())
