"""The table at the end of ``melt run``: medians over sessions with their intervals."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from melt.analysis.advice import advice
from melt.analysis.metrics import shown_in
from melt.analysis.settings import telling
from melt.cli import printable
from melt.cli.tables import model_table, print_whole, width_of
from melt.spec.cell import AXES, Cell
from melt.spec.failures import what_to_do
from melt.spec.metrics import Metric
from melt.util.text import of_all, plural

if TYPE_CHECKING:
    from melt.analysis.frames import Results
    from melt.execution.executor import Outcome


def print_summary(outcome: "Outcome", results: "Results", folder: Path) -> None:
    """One row a cell of this plan, then what was not measured."""
    console = Console(emoji=False)
    cells = results.cells
    cells = cells[cells["cell_id"].isin([c.id for c in outcome.cells]) & (cells["n_sessions"] > 0)]
    if len(cells):
        _print_table(console, cells)
        _warn(console, results.runs[results.runs["cell_id"].isin(cells["cell_id"])], cells)
        flagged = results.flags[results.flags["run_id"].isin(results.runs.query("cell_id in @cells.cell_id")["run_id"])]
        for flag, count in flagged["flag"].value_counts().items():
            console.print(f"[yellow]flagged[/yellow] {plural(int(count), 'run')}: {flag}", highlight=False)
    made = f"{plural(len(outcome.made), 'run')} made, {outcome.already_there} there already: "
    console.print(made + escape(printable(str(folder))), highlight=False, soft_wrap=True)
    for run in outcome.failed:
        m = run.manifest
        reason = f"{m.error.kind}: {m.error.message}" if m.error else ""
        text = f"{escape(printable(m.cell.label()))}: {escape(printable(reason))}"
        console.print(f"[red]failed[/red] {text}", highlight=False, soft_wrap=True)
    errors = [run.manifest.error for run in outcome.failed if run.manifest.error]
    for hint in dict.fromkeys(e.hint or what_to_do(e.kind) for e in errors):
        if hint:
            console.print(f"[cyan]hint[/cyan] {escape(printable(hint))}", highlight=False, soft_wrap=True)
    for device, reason in outcome.ended.items():
        text = f"{escape(printable(device))}: {escape(printable(reason))}"
        console.print(f"[red]ended[/red] {text}", highlight=False, soft_wrap=True)
    for reason, cells_of in _by_reason(outcome.not_tried).items():
        text = (
            f"{plural(len(cells_of), 'cell')} of {escape(printable(cells_of[0].device))}: {escape(printable(reason))}"
        )
        console.print(f"[red]not tried[/red] {text}", highlight=False, soft_wrap=True)
    for cell, reason in outcome.skipped.items():
        text = f"{escape(printable(cell.label()))}: {escape(printable(reason))}"
        console.print(f"[yellow]skipped[/yellow] {text}", highlight=False, soft_wrap=True)


def _by_reason(not_tried: Mapping[Cell, str]) -> dict[str, list[Cell]]:
    out: dict[str, list[Cell]] = {}
    for cell, reason in not_tried.items():
        out.setdefault(reason, []).append(cell)
    return out


def _warn(console: Console, runs: Any, cells: Any) -> None:
    """What disturbed the runs, and what to do."""
    found = advice(runs, cells)
    if found:
        said = " ".join(part for part in (found.what, found.lacking, found.to_do) if part)
        console.print(f"[bold red]disturbed[/bold red] {said}", highlight=False, soft_wrap=True)


def _print_table(console: Console, cells: Any) -> None:
    """Without intervals where they do not fit."""
    table = _table(cells, console.width)
    if width_of(table) > console.width:
        table = _table(cells, console.width, with_intervals=False)
    print_whole(console, table)


def _table(cells: Any, room: int, with_intervals: bool = True) -> Table:
    shown = [m for m in shown_in("summary") if cells[m.name].notna().any()]
    apart = telling(cells, ["model", "prompt_tokens"])
    caption = f"medians over n sessions; {_bounds(cells, with_intervals)}"
    rows = cells.sort_values(["model", "prompt_tokens", *apart]).to_dict("records")
    names = [escape(printable(_short(str(row["model"])))) for row in rows]
    columns = {
        "context": [str(row["prompt_tokens"]) for row in rows],
        "n": [of_all(row["n_clean"], row["n_sessions"]) for row in rows],
    }
    words = {name: AXES[name].word if name in AXES else name for name in apart}
    columns = {words[name]: [escape(printable(_text(name, row[name]))) for row in rows] for name in apart} | columns
    columns |= {m.narrow_heading.replace(" ", "_"): [_value(row, m, with_intervals) for row in rows] for m in shown}
    return model_table(names, columns, room, caption)


def _bounds(cells: Any, with_intervals: bool) -> str:
    """What stands behind ±, or that it does not fit."""
    kinds = list(dict.fromkeys(cells.sort_values("n_sessions")["bounds"].dropna()))
    if not kinds:
        return "one session has no bounds"
    said = kinds[0] if len(kinds) == 1 else "95 % interval, or range of fewer than six sessions"
    return f"± half the {said}" if with_intervals else f"the {said} in the report or a wider terminal"


def _text(name: str, value: Any) -> str:
    known = None if value != value else value
    return AXES[name].text(known) if name in AXES else str(value)


def _short(name: str) -> str:
    return Path(name).name if name.endswith(".gguf") else name


def _value(row: dict[str, Any], metric: Metric, with_interval: bool) -> str:
    middle, low, high = (row.get(metric.name + end, math.nan) for end in ("", "_lo", "_hi"))
    if not _is_number(middle):
        return "-"
    text = f"{middle * metric.scale.factor:.{metric.scale.decimals}f}"
    if with_interval and _is_number(low) and _is_number(high) and middle:
        text += f" [dim]±{(high - low) / 2 / abs(middle):.0%}[/dim]"
    return text


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)
