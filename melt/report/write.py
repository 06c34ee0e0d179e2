"""Writes a report: its page, figures and tables."""

import gc
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from melt.analysis.columns import FRAMES
from melt.analysis.frames import Results
from melt.report import charts
from melt.report.chapters import Plate, chapters
from melt.report.crossings import crossing_rows
from melt.report.curve_groups import curve_groups
from melt.report.folder import INDEX, replacing
from melt.report.page import render
from melt.report.tables import rows_to_csv, to_csv

# A row a token and a row a sample: too large to travel with a report; `melt.load` has them.
LEFT_OUT = ("tokens", "samples")

# Figures: a second or so of drawing.
WORTH_A_PROCESS = 12


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
    with replacing(out) as partial, _spared():
        _write(results, partial)
    return out / INDEX


def _write(results: Results, folder: Path) -> None:
    groups = curve_groups(results)
    (folder / "figures").mkdir()
    (folder / "tables").mkdir()
    with charts.house_style():
        parts = chapters(groups, results)
        _draw([plate for chapter in parts for plate in chapter.plates], folder / "figures")
    for name in (n for n in FRAMES if n not in LEFT_OUT):
        (folder / "tables" / f"{name}.csv").write_text(to_csv(getattr(results, name)), encoding="utf-8")
    rows = [vars(row) for group in groups for row in crossing_rows(group)]
    if rows:
        table = rows_to_csv(list(rows[0]), [list(r.values()) for r in rows])
        (folder / "tables" / "crossovers.csv").write_text(table, encoding="utf-8")
    (folder / INDEX).write_text(render(results, groups, parts), encoding="utf-8")


def _draw(plates: Sequence[Plate], folder: Path) -> None:
    """Draws the figures to files, and keeps their SVG for the page."""
    n_helpers = (os.cpu_count() or 1) - 1 if sys.platform == "linux" and len(plates) >= WORTH_A_PROCESS else 0
    parts = [plates[i :: n_helpers + 1] for i in range(n_helpers + 1)]
    helpers = [(_forked(part, folder), part) for part in parts[1:]]
    _draw_files(parts[0], folder)
    for pid, part in helpers:
        if os.waitpid(pid, 0)[1] != 0:
            _draw_files(part, folder)
    for plate in plates:
        plate.svg = (folder / f"{plate.slug}.svg").read_text(encoding="utf-8")


def _draw_files(plates: Sequence[Plate], folder: Path) -> None:
    for plate in plates:
        svg, png = charts.drawn(plate.drawing.figure)
        (folder / f"{plate.slug}.svg").write_text(svg, encoding="utf-8")
        (folder / f"{plate.slug}.png").write_bytes(png)


def _forked(plates: Sequence[Plate], folder: Path) -> int:
    """A child that draws these figures and ends; its answer is the files, and exit status 0."""
    with warnings.catch_warnings():
        # Newer Pythons warn of a fork beside threads; the child draws, and calls nothing that they may hold.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _draw_files(plates, folder)
            status = 0
        finally:
            os._exit(status)  # whatever happened: no handler of the parent's may run twice
    return pid


@contextmanager
def _spared() -> Iterator[None]:
    """Keeps the garbage collector from walking all of the results again and again while figures come and go."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
