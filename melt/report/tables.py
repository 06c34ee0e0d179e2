"""The tables of the page and the CSV files beside it."""

import csv
import io
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd

from melt.analysis.frames import Results
from melt.analysis.metrics import shown_in
from melt.analysis.settings import differing
from melt.analysis.stats import median
from melt.report import text
from melt.spec.cell import AXES
from melt.spec.metrics import Metric

_NAMED = ("model_name", "quant", "prompt_tokens")  # in every table

Show = Callable[[float], str]


@dataclass(frozen=True)
class Entry:
    """A table cell: what is shown, and what it is sorted by (a number, or the text itself)."""

    shown: str
    key: str
    numeric: bool = False
    note: str = ""  # in small letters beneath


@dataclass(frozen=True)
class Table:
    """A sortable table; ``header`` has (title, explanation)."""

    slug: str
    header: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Entry, ...], ...]


def words(value: object, note: object = "") -> Entry:
    """A cell of text; missing text is an en dash."""
    shown = "–" if _missing(value) else text.clean(value)
    return Entry(shown, shown, note="" if _missing(note) else text.clean(note))


def _missing(value: object) -> bool:
    return value is None or value != value or value == ""


def numeral(value: float, show: Show, low: float = math.nan, high: float = math.nan) -> Entry:
    """A cell with a number, with its bounds where they are known."""
    number = float(value)
    known = math.isfinite(low) and math.isfinite(high) and show(low) != show(high)
    bounds = f"{show(low)} – {show(high)}" if known else ""
    return Entry(show(number), "" if math.isnan(number) else repr(number), True, bounds)


def _heading(metric: Metric) -> tuple[str, str]:
    """A metric's name and, for whoever points at it, what it means."""
    return text.heading(metric), f"{metric.heading}: {metric.meaning}"


def _value(metric: Metric, row: Mapping[Any, Any]) -> Entry:
    """A metric of a row, with its bounds where the row has them."""
    bounds = (row.get(metric.name + end, math.nan) for end in ("_lo", "_hi"))
    return numeral(row[metric.name], partial(text.bare, metric), *bounds)


def cells_table(results: Results) -> Table:
    """Every cell, with the metrics that any of them has."""
    cells = results.cells
    metrics = [m for m in shown_in("cells") if cells[m.name].notna().any()]
    place = text.PLACE if cells[[*text.PLACE]].drop_duplicates().shape[0] > 1 else ()
    header = [
        ("Model", ""),
        ("Context", "tokens in the prompt"),
        ("Sessions", "fresh processes measured, and how many of them count: the others were disturbed"),
    ]
    header += [("Flags", "reasons to doubt"), *(_heading(m) for m in metrics)]
    if place:
        header.insert(0, ("Measured on", ", ".join(AXES[name].title for name in place)))
    apart = differing(cells, [*_NAMED, *place])
    rows = []
    for row in cells.to_dict("records"):
        where = [words(text.place(row))] if place else []
        identity = [
            words(row["model_name"], row["quant"]),
            replace(numeral(row["prompt_tokens"], text.count), note=_note(row, apart)),
        ]
        values = [_value(m, row) for m in metrics]
        rows.append((*where, *identity, _sessions(row), _flags(row["flags"]), *values))
    return Table("cells", tuple(header), tuple(rows))


def _note(row: Mapping[Hashable, Any], names: Sequence[str]) -> str:
    """The settings that tell a row from others, as in "flash attention on, key cache q8_0"."""
    return ", ".join(text.setting(name, row[name]) for name in names)


def _sessions(row: Mapping[Hashable, Any]) -> Entry:
    return replace(numeral(row["n_sessions"], text.count), shown=text.of_all(row["n_clean"], row["n_sessions"]))


def _flags(joined: str) -> Entry:
    return words(joined.replace(",", ", ").replace("_", " "))


def runs_table(results: Results) -> Table:
    """Every run, those that failed and were skipped among them, with the evidence of its flags."""
    header = (
        ("Started", "UTC, by the host's clock"),
        ("Model", ""),
        ("Context", "tokens in the prompt"),
        ("Session", ""),
        ("Status", ""),
        *(_heading(m) for m in shown_in("runs")),
        ("Remarks", "why it failed, and what its flags rest on"),
    )
    evidence: dict[str, list[str]] = {}
    for flag in results.flags.to_dict("records"):
        said = f"{str(flag['flag']).replace('_', ' ')}: {flag['evidence']}"
        evidence.setdefault(str(flag["run_id"]), []).append(said)
    apart = differing(results.cells, _NAMED)
    rows = []
    for row in results.runs.to_dict("records"):
        failure = [f"{row['error_kind']}: {row['error_message']}"] if row["status"] != "ok" else []
        rows.append(
            (
                words(row["started_at"][:19].replace("T", " ")),
                words(row["model_name"], row["quant"]),
                replace(numeral(row["prompt_tokens"], text.count), note=_note(row, apart)),
                numeral(row["session"] + 1, text.count),
                words(row["status"]),
                *(_value(m, row) for m in shown_in("runs")),
                words("; ".join(failure + evidence.get(row["run_id"], []))),
            )
        )
    return Table("runs", header, tuple(rows))


def rails_table(results: Results) -> Table:
    """Joules by rail of every cell whose device has several; medians over its sessions."""
    header = (
        ("Model", ""),
        ("Context", "tokens in the prompt"),
        ("Rail", "and the sensor that measures it"),
        ("In the total", "others are inside one that is, or beside the total"),
        *(_heading(m) for m in shown_in("rails")),
    )
    rails = results.rails
    if not rails.groupby("run_id").size().gt(1).any():
        return Table("rails", header, ())
    with_rails = set(results.runs.loc[results.runs["run_id"].isin(rails["run_id"]), "cell_id"])
    apart = differing(results.cells[results.cells["cell_id"].isin(with_rails)], _NAMED)
    keys = dict.fromkeys(("cell_id", "passport_id", *_NAMED, *apart))
    joined = rails.merge(results.runs[["run_id", *keys]], on="run_id")
    groups = joined.groupby([*keys, "source"], sort=False, dropna=False)
    rows = []
    for _, group in groups:
        first = group.iloc[0]
        value = {m.name: median(group[m.name]) for m in shown_in("rails")}
        rows.append(
            (
                words(first["model_name"], first["quant"]),
                replace(numeral(first["prompt_tokens"], text.count), note=_note(first.to_dict(), apart)),
                words(first["rail"] or first["source"], first["sensor"]),
                words("yes" if first["counts_in_total"] else "no"),
                *(_value(m, value) for m in shown_in("rails")),
            )
        )
    return Table("rails", header, tuple(rows))


def to_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV: numbers in full, missing ones empty, text harmless in a spreadsheet."""
    safe = frame.copy()
    for column in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[column]):
            safe[column] = safe[column].astype(object).map(_csv_text)
    return str(safe.to_csv(index=False, lineterminator="\n"))


def rows_to_csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([text.cell(v) for v in row] for row in rows)
    return out.getvalue()


def _csv_text(value: object) -> object:
    return text.cell(value) if isinstance(value, str) else value
