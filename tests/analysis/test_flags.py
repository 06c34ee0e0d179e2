"""Flags that the data of a run give."""

import ast
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Literal

import pytest

import melt
import melt.analysis.flags
from melt.analysis.curves import curves, pairs
from melt.analysis.disturbance import WAITED
from melt.report import write_report
from tests.support.store_factory import FALCON_H1, MAMBA, SMOLLM, FakeModel, Recipe, write_store

ROOT = Path(__file__).parents[2]
Family = Literal["transformer", "ssm", "hybrid"]


def flag_names() -> set[str]:
    """Every name that some file of melt gives a flag, by itself or as a constant of melt.analysis.flags."""
    names = set()
    for path in (ROOT / "melt").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Flag":
                [value] = [k.value for k in node.keywords if k.arg == "name"]
                is_literal, said = isinstance(value, ast.Constant), ast.unparse(value)
                names.add(str(ast.literal_eval(said) if is_literal else getattr(melt.analysis.flags, said)))
    return names


def test_the_docs_say_what_each_flag_means() -> None:
    page = (ROOT / "docs" / "measurement.md").read_text(encoding="utf-8").partition("## Flags")[2]
    assert "memory_gap" in flag_names()
    assert [name for name in sorted(flag_names()) if f"| `{name}` | " not in page] == []
    assert f"more than {WAITED * 100:g} % of a phase" in page


@pytest.mark.parametrize("model", [SMOLLM, MAMBA, FALCON_H1])
def test_an_engine_that_agrees_with_the_header_is_no_doubt(tmp_path: Path, model: FakeModel) -> None:
    for word in (None, model.family):  # streams of earlier runners say nothing
        folder = tmp_path / str(word)
        write_store(folder, models=(model,), contexts=(128,), sessions=1, recipe=Recipe(engine_family=word))
        assert "family_disagreement" not in set(melt.load(folder).flags["flag"])


@pytest.mark.parametrize(
    ("model", "word"), [(SMOLLM, "hybrid"), (SMOLLM, "ssm"), (MAMBA, "transformer"), (FALCON_H1, "transformer")]
)
def test_a_family_that_the_engine_denies_is_in_no_comparison(tmp_path: Path, model: FakeModel, word: Family) -> None:
    others = tuple(m for m in (SMOLLM, MAMBA) if m is not model)
    write_store(tmp_path / "r", models=(model,), contexts=(128, 512), recipe=Recipe(engine_family=word))
    write_store(tmp_path / "r", models=others, contexts=(128, 512))
    results = melt.load(tmp_path / "r")
    flags = results.flags[results.flags["flag"] == "family_disagreement"]
    evidence = f"{model.arch} is {word} by the engine's own word, and {model.family} by the model's header"
    assert set(flags["evidence"]) == {evidence}
    assert len(flags) == 6
    found = curves(results.runs, results.cells)
    assert {c.name for c in found} == {m.name for m in others}
    assert not [p for p in pairs(found) if model.name in (p[0].name, p[1].name)]
    page = unescape(write_report(results, tmp_path / "page").read_text())
    assert f"Family disagreement: local · llama.cpp · cpu. {evidence}. 6 such runs stand in the tables" in page


def test_an_unknown_family_is_shown_as_such_and_compared_with_nothing(tmp_path: Path) -> None:
    stranger = replace(MAMBA, name="Stranger-1B", family="unknown", arch="stranger")
    write_store(tmp_path / "r", models=(SMOLLM, stranger), contexts=(128, 512))
    results = melt.load(tmp_path / "r")
    found = curves(results.runs, results.cells)
    assert {(c.name, c.family) for c in found} == {(SMOLLM.name, "transformer"), ("Stranger-1B", "unknown")}
    assert not list(pairs(found))
    assert "unknown family" in write_report(results, tmp_path / "page").read_text()
