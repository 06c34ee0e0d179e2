"""The table at the end of ``melt run``: medians over sessions with their intervals."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
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
    ("prefill_tok_per_s", "prefill/s", 1.0, 0),
    ("decode_tok_per_s", "decode/s", 1.0, 1),
    ("peak_rss_bytes", "peak MiB", 2.0**-20, 0),
    ("decode_j_per_token", "J/token", 1.0, 3),
)


def print_summary(outcome: "Outcome", results: "Results", folder: Path) -> None:
    """One row a cell of this results folder, then what was not measured."""
    console = Console()
    if len(results.cells):
        console.print(_table(results.cells))
    made = len(outcome.made)
    console.print(f"{made} runs made, {outcome.already_there} were there already: {folder}", highlight=False)
    for run in outcome.not_measured:
        m = run.manifest
        reason = f"{m.error.kind}: {m.error.message}" if m.error else ""
        console.print(f"[red]{m.status}[/red] {escape(printable(m.cell.label()))}: {escape(printable(reason))}")


def _table(cells: Any) -> Table:
    shown = [c for c in METRICS if cells[c[0]].notna().any()]
    named = ["device", "model"] if cells["device"].nunique() > 1 else ["model"]
    caption = "Medians over n sessions; tokens a second; ± half the 95 % bootstrap interval"
    table = Table(box=box.SIMPLE_HEAD, caption=caption)
    for heading in named:
        table.add_column(heading, overflow="fold")
    for heading in ("context", "n", *(c[1] for c in shown)):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in cells.sort_values([*named, "prompt_tokens"]).to_dict("records"):
        names = [escape(printable(_short(str(row[k])))) for k in named]
        values = [_value(row, column, factor, digits) for column, _, factor, digits in shown]
        table.add_row(*names, str(row["prompt_tokens"]), str(row["n_sessions"]), *values)
    return table


def _short(name: str) -> str:
    return Path(name).name if name.endswith(".gguf") else name


def _value(row: dict[str, Any], column: str, factor: float, digits: int) -> str:
    middle, low, high = (row.get(column + end, math.nan) for end in ("", "_lo", "_hi"))
    if not _is_number(middle):
        return "-"
    text = f"{middle * factor:.{digits}f}"
    if _is_number(low) and _is_number(high) and middle:
        text += f" [dim]±{(high - low) / 2 / abs(middle):.0%}[/dim]"
    return text


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)
