"""``melt run --dry-run``: what a run would do, with nothing measured, downloaded, built or pushed."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from melt.cli import print_error, printable
from melt.cli.progress import duration
from melt.cli.tables import model_table, print_whole
from melt.execution.adaptive import most_near_crossovers
from melt.execution.agenda import Agenda, agenda
from melt.execution.estimate import Rate
from melt.execution.fit import predicted
from melt.execution.preflight import Preflight, preflight
from melt.models.info import ModelInfo
from melt.spec.cell import AXES, Cell
from melt.spec.plan import Plan
from melt.store.store import Store
from melt.util.text import byte_count, plural

_LENGTHS = ("prompt_tokens", "gen_tokens")  # memory and time rest on them: shown even where all cells have the same


def show_dry_run(plan: Plan, results: Path) -> int:
    """Prints the cells by the ids that a run gives them, the expected time, and what would be made, built and pushed.

    Returns:
        The exit code: of the first thing that stands in the way of a run, or 0.
    """
    console = Console(emoji=False)
    admitted = preflight(plan)
    left = agenda(admitted, Store(results))
    table = cells_table(admitted.cells, admitted.models, left.rate, console.width, admitted.undecided)
    print_whole(console, table)
    for line in (*_counts(admitted, left, results), *_unknown(admitted), *_made_first(admitted), *_pushed(admitted)):
        console.print(escape(printable(line)), highlight=False)
    for warning in (*left.warnings, *(f"warning: {w}" for w in admitted.warnings)):
        console.print(f"[yellow]{escape(printable(warning))}[/yellow]", highlight=False)
    for cell, reason in admitted.skipped.items():
        console.print(f"[yellow]skipped[/yellow] {escape(printable(f'{cell.label()}: {reason}'))}", highlight=False)
    for problem in admitted.problems:
        print_error(problem)
    return admitted.problems[0].exit_code if admitted.problems else 0


def _counts(admitted: Preflight, left: Agenda, results: Path) -> list[str]:
    plan = admitted.plan
    cells, sessions = plural(len(admitted.cells), "cell"), plural(plan.sessions, "session")
    most = most_near_crossovers(admitted) if plan.adaptive else 0
    more = f", and up to {plural(most, 'cell')} near crossovers as far as extra_time allows" if most else ""
    lines = [f"{cells} x {sessions}: {plural(len(left.todo), 'run')} to make{more}"]
    if left.already_there:
        lines.append(f"{left.already_there} measured already in {results}")
    known = [cell for cell, _ in left.todo if cell.model in admitted.models]
    basis = "from earlier runs here" if left.rate.learned else "a rough guess: nothing of this was measured here yet"
    missing = len(left.todo) - len(known)
    without = f", without {plural(missing, 'run')} whose model is not here yet" if missing else ""
    return [*lines, f"expected time: {duration(left.rate.total_s(known))} ({basis}{without})"]


def _unknown(admitted: Preflight) -> list[str]:
    """What cannot be known before the run."""
    models = dict.fromkeys(c.model for c in admitted.cells if c.model not in admitted.models)
    devices = dict.fromkeys(c.device for c in admitted.cells if c in admitted.undecided)
    return [
        *(f"not known yet: memory and time with {ref}, which is not on this machine" for ref in models),
        *(f"not known yet: what {name} would choose for its cells, and so their ids (marked ?)" for name in devices),
    ]


def _made_first(admitted: Preflight) -> list[str]:
    """What the run would build, and which models it would download or write."""
    built = dict.fromkeys(what for what in admitted.to_build.values() if what)
    models = dict.fromkeys(c.model for c in admitted.cells)
    absent = [ref for ref in models if ref not in admitted.models or not admitted.models[ref].path]
    made = [f"downloaded or written first: model {ref}" for ref in absent]
    return [*(f"built first: {what}" for what in built), *made]


def _pushed(admitted: Preflight) -> list[str]:
    lines = []
    for device in admitted.profiles:
        sizes = admitted.files(device)
        if not sizes:
            continue
        here = device in admitted.facts and admitted.facts[device].is_host
        what = f"used in place on {device}" if here else f"pushed to {device}, but for what is there already"
        parts = ", ".join(f"{name} {byte_count(size_bytes)}" for name, size_bytes in sizes.items())
        lines.append(f"{what}: {byte_count(sum(sizes.values()))} ({parts})")
    return lines


def cells_table(
    cells: Sequence[Cell],
    known: Mapping[str, ModelInfo],
    rate: Rate,
    room: int,
    undecided: Collection[Cell] = (),
) -> Table:
    """A row a cell: its model and context, the settings in which cells differ, and what to expect of it."""
    columns: dict[str, list[str]] = {"cell": [c.id + ("?" if c in undecided else "") for c in cells]}
    for name, axis in AXES.items():
        values = [getattr(c, name) for c in cells]
        if name in _LENGTHS or (axis.separates != "model" and len(set(values)) > 1):
            columns[axis.word] = [escape(printable(axis.text(v))) for v in values]
    columns["memory_MiB"] = [_memory(c, known.get(c.model)) for c in cells]
    columns["a_session"] = [duration(rate.session_s(c)) if c.model in known else "?" for c in cells]
    return model_table([escape(printable(c.model)) for c in cells], columns, room)


def _memory(cell: Cell, model: ModelInfo | None) -> str:
    needs = predicted(cell, model) if model else None
    return f"{needs.total_bytes / 2**20:.0f}" if needs else "?"
