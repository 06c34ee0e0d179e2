"""Tables in which no column is lost and no figure broken, however narrow the terminal is."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

MIN_MODEL_WIDTH = 10  # a narrow terminal breaks the models' names first


def model_table(models: Sequence[str], columns: Mapping[str, Sequence[str]], room: int, caption: str = "") -> Table:
    """A row a model, with the other columns at their full width.

    Args:
        models: names, as rich's markup.
        columns: by heading, whose underscores begin new lines, the rows' values as rich's markup.
        room: the terminal's width; the table is wider where not even broken names fit.
        caption: below it.
    """
    # Every column has its width, as rich would take it from the first where they do not fit.
    table = Table(box=box.SIMPLE_HEAD, caption=caption or None, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column("model", overflow="fold")
    for heading, values in columns.items():
        lines = heading.replace("_", "\n")
        table.add_column(lines, justify="right", no_wrap=True, width=_longest((*lines.split("\n"), *values)))
    table.columns[0].width = max(MIN_MODEL_WIDTH, min(_longest(models), room - width_of(table)))
    for row in zip(models, *columns.values(), strict=True):
        table.add_row(*row)
    return table


def width_of(table: Table) -> int:
    """With two spaces before each column, of which the first has one and the end the other."""
    return sum((column.width or 0) + 2 for column in table.columns)


def print_whole(console: Console, table: Table) -> None:
    """A line may be too long for the terminal."""
    Console(emoji=False, width=max(console.width, width_of(table))).print(table)


def _longest(texts: Sequence[str]) -> int:
    return max(Text.from_markup(text).cell_len for text in texts)
