"""Writes a report's folder: whole, or not at all."""

import gc
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from melt.analysis import processes
from melt.analysis.frames import Results
from melt.errors import ReportError
from melt.report import charts
from melt.report.gather import Plate, chapters
from melt.report.page import render
from melt.report.series import settings
from melt.report.story import crossing_rows
from melt.report.tables import rows_to_csv, to_csv

INDEX = "index.html"
WORTH_A_PROCESS = 12  # figures: a second or so of drawing
FRAMES = ("runs", "iterations", "cells", "flags", "ops")


def write_report(results: Results, out: Path) -> Path:
    """Writes ``index.html``, ``figures/`` and ``tables/`` under ``out``, replacing a report that is there.

    Args:
        results: what was measured.
        out: the report's folder.

    Returns:
        The path of ``index.html``.

    Raises:
        ReportError: the folder cannot be written, or holds something that is no report.
    """
    if out.exists() and not (out / INDEX).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ReportError(f"{out}: exists and is not a report", "Name another folder with --out.")
    try:
        with _replacing(out) as partial, _spared():
            _write(results, partial)
    except OSError as e:
        raise ReportError(
            f"{out}: cannot be written: {e.strerror or e}", "Free some space, or name another --out."
        ) from e
    return out / INDEX


def _write(results: Results, folder: Path) -> None:
    found = settings(results)
    (folder / "figures").mkdir()
    (folder / "tables").mkdir()
    with charts.house_style():
        parts = chapters(found, results)
        _draw([plate for chapter in parts for plate in chapter.plates], folder / "figures")
    for name in FRAMES:
        (folder / "tables" / f"{name}.csv").write_text(to_csv(getattr(results, name)), encoding="utf-8")
    rows = [vars(row) for setting in found for row in crossing_rows(setting)]
    if rows:
        table = rows_to_csv(list(rows[0]), [list(r.values()) for r in rows])
        (folder / "tables" / "crossovers.csv").write_text(table, encoding="utf-8")
    (folder / INDEX).write_text(render(results, found, parts), encoding="utf-8")


def _draw(plates: Sequence[Plate], folder: Path) -> None:
    """Draws the figures to files, and keeps their SVG for the page."""
    figures = [plate.drawing.figure for plate in plates]
    drawn = processes.over("melt.report.charts:drawn", figures, least=WORTH_A_PROCESS)
    for plate, (svg, png) in zip(plates, drawn, strict=True):
        plate.svg = svg
        (folder / f"{plate.slug}.svg").write_text(svg, encoding="utf-8")
        (folder / f"{plate.slug}.png").write_bytes(png)


@contextmanager
def _spared() -> Iterator[None]:
    """Keeps the garbage collector from walking all of the results again and again while figures come and go."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``out`` at the end; what was there goes only then."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.parent / f".{out.name}.{os.getpid()}.partial"
    old = out.parent / f".{out.name}.{os.getpid()}.old"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if out.exists():
            out.rename(old)
        partial.rename(out)
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
