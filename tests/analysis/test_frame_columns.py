"""Frames: the columns are the documented ones, and their names say their units."""

import re
from pathlib import Path

import pytest

import melt
from melt.analysis.columns import COLUMNS, FRAMES, names, page_table
from tests.analysis.frames import results

__all__ = ["results"]
DOCS = Path(__file__).parents[2] / "docs" / "results.md"


@pytest.mark.parametrize("frame", FRAMES)
def test_columns_are_the_documented_ones(results: melt.Results, frame: str) -> None:
    assert list(getattr(results, frame).columns) == names(frame)


def test_docs_table_equals_the_code() -> None:
    sections = re.split(r"^## (\w+)$", DOCS.read_text(encoding="utf-8"), flags=re.M)
    documented = {
        name: "\n".join(re.findall(r"^\|.*\|$", body, flags=re.M))
        for name, body in zip(sections[1::2], sections[2::2], strict=True)
    }
    assert documented == {f: page_table(f) for f in FRAMES}, "write the tables anew with melt.analysis.columns"


def test_column_names_end_in_their_unit() -> None:
    endings = {"s": "_s", "bytes": "_bytes", "J": "_j", "W": "_w", "J/token": "_j_per_token", "°C": "_c"}
    endings["tokens/s"] = "_tok_per_s"
    for columns in COLUMNS.values():
        for column in columns:
            if column.unit in endings:
                assert column.name.endswith(endings[column.unit]), column.name
