"""The table at the end of ``melt run``: medians over sessions with their intervals."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from melt.cli import printable

if TYPE_CHECKING:
    from melt.analysis.frames import Results
    from melt.session import Outcome

# Column of the cells frame -> heading, factor, digits
METRICS = (
    ("ttft_s", "TTFT s", 1.0, 3),
    ("prefill_tok_per_s", "prefill tok/s", 1.0, 1),
    ("decode_tok_per_s", "decode tok/s", 1.0, 1),
    ("peak_rss_bytes", "peak RSS MiB", 2.0**-20, 0),
    ("decode_j_per_token", "decode J/token", 1.0, 3),
)


def print_summary(outcome: "Outcome", results: "Results", folder: Path) -> None:
    """One row a cell of this results folder, then what was not measured."""
    console = Console()
    cells = results.cells
    if len(cells):
        console.print(_table(cells))
    made = len(outcome.made)
    console.print(f"{made} runs made, {outcome.already_there} were there already: {folder}", highlight=False)
    for run in outcome.not_measured:
        m = run.manifest
        reason = f"{m.error.kind}: {m.error.message}" if m.error else ""
        console.print(f"[red]{m.status}[/red] {escape(printable(m.cell.label()))}: {escape(printable(reason))}")


def _table(cells: Any) -> Table:
    shown = [c for c in METRICS if cells[c[0]].notna().any()]
    table = Table(title="Median over sessions, with 95 % bootstrap interval where there are enough sessions")
    for heading in ("device", "model", "quant", "context", "sessions", *(c[1] for c in shown)):
        table.add_column(heading, justify="left" if heading in ("device", "model", "quant") else "right")
    ordered = cells.sort_values(["device", "model", "prompt_tokens"])
    for row in ordered.to_dict("records"):
        values = [_value(row, *metric) for metric in shown]
        names = [escape(printable(str(row[k]))) for k in ("device", "model", "quant")]
        table.add_row(*names, str(row["prompt_tokens"]), str(row["n_sessions"]), *values)
    return table


def _value(row: dict[str, Any], column: str, _heading: str, factor: float, digits: int) -> str:
    middle, low, high = (row.get(column + end, math.nan) for end in ("", "_lo", "_hi"))
    if not _is_number(middle):
        return "-"
    text = f"{middle * factor:.{digits}f}"
    if _is_number(low) and _is_number(high):
        text += f" [dim]({low * factor:.{digits}f}-{high * factor:.{digits}f})[/dim]"
    return text


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)
