"""The promise of every axis: cells that differ in it alone are different cells wherever a person meets them."""

import io
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
from rich.console import Console

import melt
from melt.analysis.curves import curves
from melt.analysis.metrics import shown_in
from melt.analysis.settings import _as_run
from melt.cli.dry_run import cells_table as dry_run_table
from melt.cli.run import _assigned, run
from melt.cli.summary import print_summary
from melt.execution.estimate import Rate
from melt.execution.executor import Outcome
from melt.report import tables
from melt.report.curve_groups import curve_groups
from melt.report.reproduce import command
from melt.spec.cell import AXES, Cell
from melt.spec.plan import Plan, load_plan
from tests.support.store_factory import SMOLLM, Recipe, with_, write_run

QUIET = Recipe(noise=0.0, session_noise=0.0, token_noise=0.0, telemetry=False)
# Text cannot be guessed; of numbers and choices another one is taken.
OTHER_TEXT = {
    "device": "pixel8",
    "model": "elsewhere/smollm2.gguf",
    "backend": "onnxruntime",
    "runner": "native",
    "cores": "big",
    "power_mode": "15W",
    "options": {"block_kib": 64},
}
BESIDE: dict[str, dict[str, object]] = {
    "power_mode": {"power_mode": "30W"},
    "workload": {"sustained_s": 60.0},
    "sustained_s": {"workload": "sustained", "sustained_s": 60.0},
}
ID = re.compile(r"\b(?=[0-9]*[a-f])[0-9a-f]{4,12}\b")  # of all that is hashed here each has a letter


def another(field: str, value: Any) -> Any:
    """A value of the field that is not the given one."""
    if field in OTHER_TEXT:
        return OTHER_TEXT[field]
    schema = Cell.model_json_schema()["properties"][field]
    if "enum" in schema:
        return next(v for v in schema["enum"] if v != value)
    return not value if isinstance(value, bool) else value + 1


def pair(field: str) -> tuple[Cell, Cell]:
    """Two cells that differ in the field alone."""
    few = {"device": "local", "model": SMOLLM.ref, "prompt_tokens": 128, "gen_tokens": 8, "threads": 2}
    one = Cell.model_validate(few | BESIDE.get(field, {}))
    return one, Cell.model_validate(dict(one) | {field: another(field, getattr(one, field))})


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], melt.Results]:
    """The results of a session of each cell of the pair; their numbers are the same."""
    made: dict[str, melt.Results] = {}

    def of(field: str) -> melt.Results:
        if field not in made:
            folder = tmp_path_factory.mktemp(field)
            for cell in pair(field):
                write_run(folder, SMOLLM, cell.prompt_tokens, recipe=with_(QUIET, cell=dict(cell)))
            made[field] = melt.load(folder)
        return made[field]

    return of


def apart(rows: Iterable[Sequence[str]]) -> bool:
    """Whether two rows differ in more than an id, which tells nobody what was measured."""
    one, other = ([ID.sub("", text) for text in row] for row in rows)
    return one != other


def entries(table: tables.Table) -> list[list[str]]:
    return [[f"{e.shown} {e.note}" for e in row] for row in table.rows]


def test_what_ran_alike_though_asked_otherwise_is_kept_and_told_apart(tmp_path: Path) -> None:
    """Two threads by number, and by the device's default: the same was measured twice, under two ids."""
    asked: list[dict[str, object]] = [{"threads": 2}, {"threads": None}]
    for more in asked:
        write_run(tmp_path, SMOLLM, 128, recipe=with_(QUIET, cell=more))
        write_run(tmp_path, SMOLLM, 512, recipe=with_(QUIET, cell={**more, "seed": 7}))
    results = melt.load(tmp_path)
    assert set(results.cells["threads"]) == {2}
    found = curves(results.runs, results.cells)
    assert [list(c.contexts) for c in found] == [[128, 512], [128, 512]]
    labels = [d.label for s in curve_groups(results) for d in s.curves]
    assert len(set(labels)) == len(labels) == 2
    notes = {row[1].shown + row[1].note for row in tables.cells_table(results).rows}
    assert len(notes) == 4


def test_the_rows_say_which_columns_may_be_another_than_was_asked(tmp_path: Path) -> None:
    write_run(tmp_path, SMOLLM, 128, recipe=QUIET)
    [rec] = melt.load(tmp_path).recorded
    assert _as_run(rec).keys() & AXES.keys() == {name for name, axis in AXES.items() if axis.as_run}


@pytest.mark.parametrize("field", Cell.model_fields)
class TestTwoCellsThatDifferInOneField:
    def test_have_ids_that_differ(self, field: str) -> None:
        one, other = pair(field)
        assert one != other
        assert one.id != other.id
        assert len({hash(one), hash(other)}) == 2

    def test_have_labels_that_differ(self, field: str) -> None:
        one, other = pair(field)
        if field not in ("warmups", "iterations", "seed"):  # no other measurement: a progress line need not say it
            assert one.label() != other.label()

    def test_are_apart_in_the_table_at_the_end(
        self, field: str, measured: Callable[[str], melt.Results], capsys: pytest.CaptureFixture[str]
    ) -> None:
        results = measured(field)
        outcome = SimpleNamespace(
            cells=pair(field), made=[], already_there=0, failed=[], skipped={}, not_tried={}, ended={}
        )
        print_summary(cast(Outcome, outcome), results, Path("results"))
        rows = [line.split() for line in capsys.readouterr().out.splitlines() if re.search(r" \d+\.\d+ ", line)]
        assert apart(rows)

    def test_are_apart_in_a_dry_run(self, field: str) -> None:
        cells = pair(field)
        plan = Plan(devices=("local",), models=(SMOLLM.ref,))
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(dry_run_table(cells, {}, Rate(plan, {}), 200))
        lines = console.export_text().splitlines()
        assert apart(line.split() for cell in cells for line in lines if cell.id[:6] in line)

    def test_are_apart_in_the_reports_tables(self, field: str, measured: Callable[[str], melt.Results]) -> None:
        results = measured(field)
        rails = pd.DataFrame(
            [
                {"run_id": run_id, "source": rail, "rail": rail, "sensor": "INA", "counts_in_total": True}
                | dict.fromkeys((m.name for m in shown_in("rails")), 1.0)
                for run_id in results.runs["run_id"]
                for rail in ("cpu", "gpu")
            ]
        )
        boards = cast(melt.Results, SimpleNamespace(rails=rails, runs=results.runs, cells=results.cells))
        assert apart(entries(tables.cells_table(results)))
        assert apart(entries(tables.runs_table(results)))
        of_cpu = [row for row in entries(tables.rails_table(boards)) if "cpu INA" in row]
        assert apart(of_cpu)

    def test_are_apart_in_csv(self, field: str, measured: Callable[[str], melt.Results]) -> None:
        for frame in (measured(field).cells, measured(field).runs):
            assert apart(line.split(",") for line in tables.to_csv(frame).splitlines()[1:])

    def test_are_on_no_common_curve(self, field: str, measured: Callable[[str], melt.Results]) -> None:
        results = measured(field)
        found = curves(results.runs, results.cells)
        assert sorted(i for c in found for i in c.cells["cell_id"]) == sorted(c.id for c in pair(field))
        if field != "prompt_tokens":
            assert len(found) == 2
            assert apart([s.title, d.label] for s in curve_groups(results) for d in s.curves)

    def test_are_measured_again_by_the_command_of_the_report(
        self, field: str, measured: Callable[[str], melt.Results]
    ) -> None:
        shown = command([*measured(field).manifests.values()])
        given = run.make_context("melt run", shlex.split(shown.replace("\\\n", " "))[2:]).params
        options = {k: v for k, v in given.items() if v not in (None, ()) and k in {a.key for a in AXES.values()}}
        idle = [{name: axis.default for name, axis in AXES.items() if not cell.means(axis)} for cell in pair(field)]
        cells = {cell.model_copy(update=unused) for cell, unused in zip(pair(field), idle, strict=True)}
        assert set(load_plan(None, options | _assigned(given["assignments"])).cells()) == cells


def test_a_setting_of_an_engine_stands_in_four_files() -> None:
    """Its row, the job's field, and each of the two engines that obey it; everything else is derived.

    What other programs' files call it, only ``melt/exchange`` knows.
    """
    melt_folder = Path(melt.__file__).parent
    texts = (p for p in melt_folder.rglob("*") if p.suffix in (".py", ".json", ".cpp", ".hpp", ".sh"))
    naming = (p.relative_to(melt_folder) for p in texts if "load_mode" in p.read_text())
    assert {str(p) for p in naming if p.parts[0] != "exchange"} == {
        "spec/cell.py",
        "runner/job.json",
        "runner/python/engine_llamacpp.py",
        "runner/native/engine.cpp",
    }
