"""A plan at work: every missing unit in its order, each attempt recorded whole, failures too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from melt.execution.adaptive import near_crossovers
from melt.execution.agenda import Agenda, agenda, rounds
from melt.execution.attempt import Attempt, Origin, Rules, new_run_id
from melt.execution.conditions import facts_as_asked
from melt.execution.devices import Device
from melt.execution.extra_time import ExtraTimeBudget, seconds_of
from melt.execution.fit import predicted
from melt.execution.preflight import Preflight
from melt.execution.progress import Watcher
from melt.execution.unit import measure, record_skip
from melt.spec.cell import Cell
from melt.spec.failures import BEYOND_LIMIT, DEVICE, GONE, NO_ACCELERATOR, TRANSIENT
from melt.spec.schedule import Unit
from melt.store.store import Run, Store
from melt.util.text import plural

SECOND_TRIES = 2  # of a disturbed unit, where the plan's extra time allows
# A crash by one of these signals in a quantised matrix product is known on some hosts with AMX.
CRASHES = ("SIGSEGV", "SIGILL", "SIGBUS")


@dataclass(frozen=True)
class Outcome:
    """What came of a plan: the runs made now, the units there already, the cells that cannot fit.

    ``not_tried`` are those of which not every session was tried: their device, or what they need of it, is not there.
    """

    cells: tuple[Cell, ...]
    made: tuple[Run, ...]
    already_there: int
    skipped: Mapping[Cell, str]
    not_tried: Mapping[Cell, str] = field(default_factory=dict)
    ended: Mapping[str, str] = field(default_factory=dict)  # devices of which nothing more is known, with the reason

    @property
    def failed(self) -> tuple[Run, ...]:
        """The last run of each unit none of whose attempts is a measurement."""
        last = {(r.manifest.cell_id, r.manifest.session): r for r in self.made}
        measured = {(r.manifest.cell_id, r.manifest.session) for r in self.made if r.manifest.status == "ok"}
        return tuple(r for unit, r in last.items() if r.manifest.status == "failed" and unit not in measured)

    @property
    def complete(self) -> bool:
        """Whether everything asked for is measured."""
        return not (self.failed or self.skipped or self.not_tried or self.ended)

    def __add__(self, other: "Outcome") -> "Outcome":
        """What came of this and of another."""
        return Outcome(
            (*self.cells, *other.cells),
            (*self.made, *other.made),
            self.already_there + other.already_there,
            {**self.skipped, **other.skipped},
            {**self.not_tried, **other.not_tried},
            {**self.ended, **other.ended},
        )

    @property
    def unavailable(self) -> bool:
        """Whether nothing was measured because a device, or the engine on it, is not available."""
        kinds = {r.manifest.error.kind for r in self.failed if r.manifest.error}
        nothing = not self.already_there and all(r.manifest.status != "ok" for r in self.made)
        return (
            nothing
            and bool(kinds or self.not_tried or self.ended)
            and kinds <= {NO_ACCELERATOR, GONE, BEYOND_LIMIT, TRANSIENT, DEVICE}
        )

    def __repr__(self) -> str:
        made, skipped = plural(len(self.made), "run"), plural(len(self.skipped), "cell")
        there, failed = f"{self.already_there} there already", f"{len(self.failed)} failed"
        return f"<Outcome: {made} made, {there}, {failed}, {skipped} skipped>"


class Executor:
    """A plan at work, and what has been learned of the devices on the way."""

    def __init__(self, admitted: Preflight, store: Store, devices: Mapping[str, Device], watcher: Watcher) -> None:
        self._admitted = admitted
        self._store = store
        self._devices = devices
        self._watcher = watcher
        plan = admitted.plan
        self._rules = Rules(plan.cooldown, plan.timeouts, plan.idle_s, plan.profile_ops)
        self._origin = Origin(plan.name, admitted.told)
        self._extra_time = ExtraTimeBudget(plan.extra_time)
        self._extra_buffers_crash: set[tuple[str, str, str]] = set()  # (device, backend, model)
        self._given_up: dict[str, str] = {}  # devices that were waited for in vain, with the reason
        self._lacking: dict[tuple[str, str, str], str] = {}  # likewise (device, backend, accelerator)
        self._not_tried: dict[Cell, str] = dict(admitted.left_out)

    def run_all(self) -> Outcome:
        """Every missing unit of every cell that fits, in the plan's order."""
        skipped = self._admitted.skipped
        left = agenda(self._admitted, self._store)
        for warning in (*left.warnings, *(f"warning: {w}" for w in self._admitted.warnings)):
            self._watcher.say(warning)
        self._watcher.plan(left, self._admitted)
        self._record_skips(skipped, left)
        self._extra_time.add(left.counted)
        made = [run for units in rounds(left.todo, self._admitted.plan) for run in self._run_round(units)]
        outcome = Outcome(self._admitted.cells, tuple(made), left.already_there, skipped)
        if self._admitted.plan.adaptive:
            outcome = self._near_crossovers(outcome)
        return replace(outcome, not_tried=self._not_tried)

    def _near_crossovers(self, asked: Outcome) -> Outcome:
        """With the cells where curves cross, as far as there is extra time for all sessions of both curves."""
        counted = agenda(self._admitted, self._store).counted
        out = asked
        for cells in near_crossovers(self._admitted, counted, self._store):
            admitted = replace(self._admitted, cells=cells, to_build=dict.fromkeys(cells, ""))
            left = agenda(admitted, self._store)
            self._extra_time.add(left.counted)
            words = f"{cells[0].prompt_tokens} tokens, where {cells[0].model} and {cells[1].model} cross"
            if left.todo and not self._extra_time.allow(left.rate.total_s(cell for cell, _ in left.todo)):
                self._watcher.say(f"not measured at {words}: the plan's extra_time has no room for it")
                continue
            if left.todo:
                self._watcher.say(f"also measured at {words}")
                self._watcher.plan(left, admitted)
            origin = replace(self._origin, adaptive=True)
            made = [run for units in rounds(left.todo, admitted.plan) for run in self._run_round(units, origin)]
            there = out.already_there + left.already_there
            out = Outcome((*out.cells, *cells), (*out.made, *made), there, out.skipped)
        return out

    def _record_skips(self, skipped: Mapping[Cell, str], left: Agenda) -> None:
        for cell, reason in skipped.items():
            if cell.id not in left.known_skips:
                record_skip(self._first_attempt(cell, 0), self._store, "predicted_out_of_memory", reason)
            self._watcher.say(f"skipped {cell.label()}: {reason}")

    def _run_round(self, units: Sequence[Unit], origin: Origin | None = None) -> list[Run]:
        """The units of a round, and at its end those again that were disturbed, whatever their values."""
        origin = origin or self._origin
        made: list[Run] = []
        disturbed: list[tuple[Unit, Run]] = []
        for unit in units:
            if reason := self._why_in_vain(unit.cell):
                self._not_tried.setdefault(unit.cell, reason)
                continue
            with self._extra_time.clocked(extra=origin.adaptive):
                runs = self._run_unit(unit, 0, origin)
            made += runs
            disturbed += [(unit, runs[-1])] if runs[-1].manifest.disturbed else []
        for _ in range(SECOND_TRIES):
            before, disturbed = disturbed, []
            for unit, run in before:
                if not self._extra_time.allow(seconds_of(run.manifest)):
                    continue
                with self._extra_time.clocked(extra=True):
                    runs = self._run_unit(unit, run.manifest.attempt + 1, origin)
                made += runs
                disturbed += [(unit, runs[-1])] if runs[-1].manifest.disturbed else []
        return made

    def _run_unit(self, unit: Unit, number: int, origin: Origin) -> list[Run]:
        """The attempts at one unit: one, and the retries that its failure allows."""
        cell, session = unit
        driver, backend = self._devices[cell.device].driver, self._admitted.backends[cell.backend]
        attempt: Attempt | None = replace(self._first_attempt(cell, session), number=number, origin=origin)
        self._watcher.begin(cell, session)
        made: list[Run] = []
        while attempt is not None:
            run = measure(attempt, driver, backend, self._store, self._watcher)
            made.append(run)
            self._watcher.end(run)
            attempt = self._next_attempt(attempt, run)
        return made

    def _why_in_vain(self, cell: Cell) -> str:
        """Why a unit of this cell is not tried; empty where it is."""
        return self._given_up.get(cell.device, "") or self._lacking.get(_lacking(cell), "")

    def _first_attempt(self, cell: Cell, session: int) -> Attempt:
        device, model = self._devices[cell.device], self._admitted.models[cell.model]
        return Attempt(
            cell=cell,
            session=session,
            number=0,
            run_id=new_run_id(cell, session),
            profile=device.profile,
            facts=facts_as_asked(cell, device.profile, device.facts),
            found=device.facts,
            model=model,
            prediction=predicted(cell, model),
            rules=self._rules,
            origin=self._origin,
            extra_buffers=_crasher(cell) not in self._extra_buffers_crash,
        )

    def _next_attempt(self, attempt: Attempt, run: Run) -> Attempt | None:
        error, backend = run.manifest.error, self._admitted.backends[attempt.cell.backend]
        if error is None:
            return None
        if error.kind in CRASHES and attempt.extra_buffers and backend.has_extra_buffers:
            self._extra_buffers_crash.add(_crasher(attempt.cell))
            return replace(attempt.again(), extra_buffers=False)
        if error.kind == NO_ACCELERATOR:
            self._lacking[_lacking(attempt.cell)] = error.message
        if error.kind in (GONE, BEYOND_LIMIT):
            what = "is gone" if error.kind == GONE else "is beyond its limits"
            self._given_up[attempt.cell.device] = error.message
            self._watcher.say(f"{attempt.cell.device} {what}, and its other sessions are not tried: {error.message}")
        may_pass = error.kind == TRANSIENT and attempt.number < self._admitted.plan.retries
        return attempt.again() if may_pass else None


def _crasher(cell: Cell) -> tuple[str, str, str]:
    """What crashed with extra buffers and would again: another model may have none of the kernels at fault."""
    return cell.device, cell.backend, cell.model


def _lacking(cell: Cell) -> tuple[str, str, str]:
    return cell.device, cell.backend, cell.accelerator
