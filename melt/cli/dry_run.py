"""``melt run --dry-run``: what would be done, without a measurement or a download."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from melt.backends.base import Backend
from melt.cli import print_error, printable
from melt.cli.progress import duration as time_text
from melt.cli.tables import model_table, print_whole
from melt.drivers import connect
from melt.drivers.profiles import load_profile
from melt.errors import MeltError
from melt.execution.estimate import Rate
from melt.execution.plan import check_power_mode, does_not_fit, read_names
from melt.execution.unit import beyond_training
from melt.models.info import ModelInfo
from melt.models.memory import predict_memory
from melt.models.refs import peek
from melt.spec.cell import AXES, Cell
from melt.spec.facts import DeviceFacts
from melt.spec.plan import Plan
from melt.store.store import Store


def show_dry_run(plan: Plan, results: Path) -> int:
    """Prints the cells, the expected time, and what would be pushed to each device; returns the exit code."""
    console = Console(emoji=False)
    cells = plan.cells()
    backends, _, _ = read_names(cells)
    devices, missing = _devices({c.device for c in cells})
    known = {ref: info for ref in dict.fromkeys(c.model for c in cells) if (info := peek(ref)) is not None}
    rate, measured = Rate(plan, known), 0
    if results.is_dir():
        runs, _ = Store(results).runs()
        measured = len({(r.manifest.cell_id, r.manifest.session) for r in runs if r.manifest.status == "ok"})
        for run in runs:
            rate.learn(run)
    print_whole(console, cells_table(cells, known, rate, console.width))
    iterations = " or ".join(str(n) for n in dict.fromkeys(c.iterations for c in cells))
    console.print(f"{len(cells)} cells x {plan.sessions} sessions x {iterations} iterations", highlight=False)
    if measured:
        where = escape(printable(str(results)))
        console.print(f"{measured} sessions in {where} are measured; those of this plan would not be made again")
    console.print(_expected(plan, known, rate))
    for warning in beyond_training(cells, known):
        console.print(f"[yellow]warning[/yellow] {escape(printable(warning))}", highlight=False)
    for cell in cells:
        reason = _skipped(cell, known, devices, plan)
        if reason:
            console.print(f"[yellow]skipped[/yellow] {escape(printable(cell.label()))}: {reason}", highlight=False)
    to_build, unready = _readiness([c for c in cells if c.device in devices], backends, devices)
    for what in to_build:
        console.print(f"built first: {escape(printable(what))}", highlight=False)
    missing += unready
    for error in missing:
        print_error(error)
    for ref, info in known.items():
        console.print(
            f"model {escape(printable(ref))}: {info.file_bytes / 2**20:.1f} MiB on the device", highlight=False
        )
    return missing[0].exit_code if missing else 0


def _devices(names: set[str]) -> tuple[dict[str, DeviceFacts], list[MeltError]]:
    """What each device that is there says of itself, and the reasons of those that are not."""
    found: dict[str, DeviceFacts] = {}
    missing = []
    for name in sorted(names):
        profile = load_profile(name)
        try:
            driver = connect(profile)
            try:
                found[name] = driver.facts()
            finally:
                driver.close()
        except MeltError as e:
            missing.append(e)
    return found, missing


def _readiness(
    cells: Iterable[Cell], backends: Mapping[str, Backend], devices: Mapping[str, DeviceFacts]
) -> tuple[list[str], list[MeltError]]:
    """What would be built first, and why some cells could not be run; each once."""
    to_build: dict[str, None] = {}
    unready: dict[str, MeltError] = {}
    for cell in cells:
        backend, facts = backends[cell.backend], devices[cell.device]
        try:
            check_power_mode(cell, facts)
            if what := backend.to_build(cell, facts):
                to_build[what] = None
            else:  # there is nothing to make, so that this only says what is wrong
                backend.prepare(cell, facts, lambda _what: nullcontext(lambda _done, _total: None))
        except MeltError as e:
            unready.setdefault(e.message, e)
    return list(to_build), list(unready.values())


def _skipped(cell: Cell, known: dict[str, ModelInfo], devices: dict[str, DeviceFacts], plan: Plan) -> str:
    if not plan.memory_check or cell.model not in known or cell.device not in devices:
        return ""
    available = devices[cell.device].available_bytes
    return does_not_fit(_memory(cell, known[cell.model]), available, plan.memory_fraction)


def _memory(cell: Cell, info: ModelInfo) -> int:
    tokens = cell.prompt_tokens + cell.gen_tokens
    return predict_memory(info, tokens, cell.type_k, cell.type_v, cell.ubatch, n_outputs=1).total_bytes


def cells_table(cells: Sequence[Cell], known: Mapping[str, ModelInfo], rate: Rate, room: int) -> Table:
    """A row a cell: its model and context, the settings in which cells differ, and what to expect of it."""
    columns: dict[str, list[str]] = {"cell": [c.id[:6] for c in cells]}
    for name, axis in AXES.items():
        values = [getattr(c, name) for c in cells]
        if axis.separates == "context" or (axis.separates != "model" and len(set(values)) > 1):
            columns[axis.word] = [escape(printable(axis.text(v))) for v in values]
    infos = [known.get(c.model) for c in cells]
    columns["memory_MiB"] = [f"{_memory(c, i) / 2**20:.0f}" if i else "?" for c, i in zip(cells, infos, strict=True)]
    columns["a_session"] = [time_text(rate.session_s(c)) if i else "?" for c, i in zip(cells, infos, strict=True)]
    return model_table([escape(printable(c.model)) for c in cells], columns, room)


def _expected(plan: Plan, known: dict[str, ModelInfo], rate: Rate) -> str:
    cells = [c for c in plan.cells() if c.model in known]
    total = time_text(rate.total_s(cells) * plan.sessions)
    basis = "from earlier runs here" if rate.learned else "a rough guess: nothing of this was measured here yet"
    missing = len(plan.cells()) - len(cells)
    unknown = f", without {missing} cells whose model is not here yet" if missing else ""
    return f"expected time: {total} ({basis}{unknown})"
