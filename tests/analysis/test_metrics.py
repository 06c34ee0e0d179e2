"""A metric is one row: whatever shows, draws, compares or documents metrics follows from it."""

import ast
import csv
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest

import melt
from melt.analysis.measures.latency import TAILS
from melt.analysis.metrics import METRICS, PER_RAIL, ROWS, drawn_in, shown_in
from melt.cli.progress import pass_speed
from melt.cli.summary import print_summary
from melt.execution.executor import Outcome
from melt.report import text, write_report
from melt.report.curve_groups import curve_groups
from melt.report.sentences import model_sentence
from melt.spec.metrics import SCALES, Metric
from tests.support.store_factory import MAMBA, SMOLLM, Recipe, write_store

ROOT = Path(__file__).parents[2]
EVERY = tuple({m.name: m for m in (*ROWS, *PER_RAIL)}.values())
FORMER_NAMES = (
    "Prompt speed",
    "Reading speed",
    "Writing speed",
    "Generation speed",
    "Reading tok/s",
    "Writing tok/s",
    "Time per token",
    "Time per further token",
    "Energy to read",
    "Energy to write",
    "prefill/s",
    "decode/s",
)


def filled(folder: Path) -> melt.Results:
    """Results in which every metric has a value; only what a real run lacks is made up."""
    recipe = Recipe(tables_bytes=2**24, repacked_bytes=2**25)
    write_store(folder, models=(SMOLLM, MAMBA), contexts=(128, 512), sessions=2, recipe=recipe)
    results = melt.load(folder)
    made_up = 1.0 + np.arange(len(results.runs)) / 100
    results.runs[list(METRICS)] = results.runs[list(METRICS)].apply(lambda column: column.fillna(pd.Series(made_up)))
    rails = [
        {"run_id": run_id, "source": source, "rail": source, "sensor": "x", "counts_in_total": True}
        | {m.name: 1.0 for m in PER_RAIL}
        for run_id in results.runs["run_id"]
        for source in ("a", "b")
    ]
    results.rails = pd.DataFrame(rails)
    return results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> melt.Results:
    return filled(tmp_path_factory.mktemp("filled"))


@pytest.fixture(scope="module")
def page(results: melt.Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(results, tmp_path_factory.mktemp("report"))


def headings(page: Path, table: str) -> list[str]:
    [body] = re.findall(rf'id="table-{table}">.*?</thead>', page.read_text(encoding="utf-8"), flags=re.S)
    return [unescape(h) for h in re.findall(r"<button[^>]*>(.*?)</button>", body)]


@pytest.mark.parametrize("metric", EVERY, ids=lambda m: m.name)
def test_a_metric_has_all_that_people_need(metric: Metric) -> None:
    assert metric.title
    assert metric.meaning
    assert metric.unit in SCALES
    assert metric.unit in text.FORMATS
    assert metric.figure is None or metric.plain
    if "card" in metric.shown or "crossover" in metric.shown or metric.figure:
        assert metric.better
        assert metric.words.less != metric.words.more


def test_a_name_is_of_one_metric() -> None:
    for names in ([m.name for m in EVERY], [m.title for m in EVERY], [m.label for m in EVERY]):
        assert len(set(names)) == len(names)


def test_a_speed_is_that_of_a_time_in_the_same_row() -> None:
    for speed in ROWS:
        assert (speed.unit == "tokens/s") == bool(speed.of_time)
        assert not speed.of_time or METRICS[speed.of_time].unit == "s"


@pytest.mark.parametrize("table", ["cells", "runs", "rails"])
def test_a_table_has_the_metrics_that_say_so_and_no_other(page: Path, table: str) -> None:
    shown = headings(page, table)
    few = TAILS.keys()  # a column without a value is not shown, and here are few intervals
    expected = [text.heading(m) for m in shown_in(table) if m.name not in few]  # type: ignore[arg-type]
    assert expected
    assert [h for h in shown if h in {text.heading(m) for m in EVERY}] == expected


@pytest.mark.parametrize("group", ["latency", "memory", "energy"])
def test_a_metric_with_a_figure_is_drawn(page: Path, group: str) -> None:
    html = page.read_text(encoding="utf-8")
    for metric in drawn_in(group):  # type: ignore[arg-type]
        [heading] = re.findall(rf'id="figure-{metric.name.replace("_", "-")}">\s*<h3>(.*?)</h3>', html)
        assert heading == metric.full
        svg = (page.parent / "figures" / f"{metric.name.replace('_', '-')}.svg").read_text(encoding="utf-8")
        assert f"{metric.title} ({metric.scale.unit})" in svg


def test_a_card_a_crossover_and_a_sentence_name_their_metrics(page: Path, results: melt.Results) -> None:
    html = page.read_text(encoding="utf-8")
    assert re.findall(r"<h4>(.*?)</h4>", html) == [m.heading for m in shown_in("card")]
    with (page.parent / "tables" / "crossovers.csv").open() as f:
        assert [row["metric"] for row in csv.DictReader(f)] == [m.heading for m in shown_in("crossover")]
    [sentence] = re.findall(r'class="sentence">(.*?)</p>', html)
    alone = model_sentence(curve_groups(results)[0].curves[0])
    for metric in shown_in("sentence"):
        assert f"{metric.title} is " in sentence
        assert f"{metric.title} " in alone


def test_the_parts_of_memory_are_in_its_figure(page: Path) -> None:
    figures = (page.parent / "figures").glob("memory-*.svg")
    svg = "".join(path.read_text(encoding="utf-8") for path in figures)
    for metric in shown_in("memory parts"):
        assert f">{metric.short or metric.title}</text>" in svg, metric.name


def test_the_terminal_shows_what_says_so(
    results: melt.Results, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    cells = [SimpleNamespace(id=cell) for cell in results.cells["cell_id"]]
    outcome = SimpleNamespace(cells=cells, made=[], already_there=0, failed=[], skipped={}, not_tried={}, ended={})
    print_summary(cast(Outcome, outcome), results, Path("results"))
    words = capsys.readouterr().out.split("─")[0].split()
    for metric in shown_in("summary"):
        for word in metric.narrow_heading.split():
            assert word in words
            words.remove(word)
    assert set(words) <= {"model", "context", "n"}
    live = pass_speed(results.recorded[0].timed[0])
    assert all(m.title in live for m in shown_in("live"))


def test_the_terms_of_the_field_are_the_only_names() -> None:
    files = [ROOT / "README.md", *(ROOT / "melt").rglob("*"), *(ROOT / "docs").rglob("*")]
    for path in [f for f in files if f.suffix in (".py", ".md", ".j2")]:
        said = path.read_text(encoding="utf-8")
        assert not [name for name in FORMER_NAMES if re.search(rf"\b{re.escape(name)}\b", said)], path


def choosing() -> list[Path]:
    """The files that show, draw, compare or write metrics, and do not compute them."""
    files = [f for room in ("analysis", "report", "cli", "exchange") for f in (ROOT / "melt" / room).rglob("*.py")]
    return sorted(f for f in files if f.parent.name != "measures")


@pytest.mark.parametrize("path", choosing(), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_no_list_of_metrics_is_kept_by_hand(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        items: list[ast.expr | None] = []
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            items += node.elts
        if isinstance(node, ast.Dict):
            items += node.keys
        named = [i.value for i in items if isinstance(i, ast.Constant) and i.value in {m.name for m in EVERY}]
        assert len(named) < 2, named


ADD_A_METRIC = """
import sys
from dataclasses import replace
from types import SimpleNamespace
from pathlib import Path
from melt.analysis.measures import thermal
from melt.spec.metrics import Metric

# What its file would hold beside the other rows.
thermal.METRICS += (
    Metric("fan_s", "s", "how long the fan ran", title="fan time", better="lower", figure="latency", plain="Noise.",
           shown=("summary", "cells", "runs", "sentence", "card", "crossover")),
)
known = thermal.of_run
thermal.of_run = lambda rec, seen: known(rec, seen) | {"fan_s": rec.manifest.cell.prompt_tokens / 100}

import melt
from melt.analysis.columns import page_table
from melt.cli.summary import print_summary
from melt.report import write_report
results = melt.load(sys.argv[1])
cells = [SimpleNamespace(id=cell) for cell in results.cells["cell_id"]]
outcome = SimpleNamespace(cells=cells, made=[], already_there=0, failed=[], skipped={}, not_tried={}, ended={})
print_summary(outcome, results, Path("."))
print(page_table("cells"))
write_report(results, Path(sys.argv[2]))
"""


def test_adding_a_metric_touches_the_file_of_its_measure_alone(tmp_path: Path) -> None:
    write_store(tmp_path / "r", models=(SMOLLM, MAMBA), contexts=(128, 512), sessions=1, recipe=Recipe(telemetry=False))
    command = [sys.executable, "-W", "error", "-c", ADD_A_METRIC, str(tmp_path / "r"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| `fan_s` | s | **fan time**: how long the fan ran |" in done.stdout
    assert re.search(r"5\.120", done.stdout)
    html = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    for table in ("cells", "runs"):
        assert "Fan time" in headings(tmp_path / "out" / "index.html", table)
        assert "fan_s" in (tmp_path / "out" / "tables" / f"{table}.csv").read_text()
    assert "<h4>Fan time</h4>" in html
    assert "; fan time is 5.12 s (one session) with " in html
    assert "Fan time" in (tmp_path / "out" / "tables" / "crossovers.csv").read_text()
    assert (tmp_path / "out" / "figures" / "fan-s.svg").is_file()
