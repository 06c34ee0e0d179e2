"""docs/architecture.md is true: its paths are there, its map is whole, and adding costs what it says."""

import re
import tomllib
from pathlib import Path

from melt.analysis.metrics import METRICS
from melt.spec.cell import AXES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
SOURCES = [p for p in (ROOT / "melt").rglob("*") if p.suffix in (".py", ".cpp", ".hpp", ".json", ".j2")]


def test_every_path_of_the_page_is_there() -> None:
    named = set(re.findall(r"`((?:melt|tests|docs)/[\w./]+)`", PAGE))
    assert len(named) > 40
    assert not {path for path in named if not (ROOT / path).exists()}


def test_the_map_names_every_room() -> None:
    on_map = set(re.findall(r"^\| `melt/(\w+)/` \|", PAGE, re.MULTILINE))
    assert on_map == {p.name for p in (ROOT / "melt").iterdir() if p.is_dir() and p.name != "__pycache__"}


def files_that_name(word: str) -> set[str]:
    whole = re.compile(rf"\b{word}\b")
    return {str(p.relative_to(ROOT)) for p in SOURCES if whole.search(p.read_text())}


def test_an_axis_is_declared_once_and_known_to_the_engines_alone() -> None:
    """A cell's field, the job's, and each engine that has the choice; the other backends refuse it by its row.

    Who reads and writes another program's files says what that program calls it; an axis that it lacks needs no word.
    """
    assert "load_mode" in AXES
    assert len([name for name in files_that_name("load_mode") if not name.startswith("melt/exchange/")]) <= 4


def test_a_metric_stands_in_one_file() -> None:
    alone = [name for name in METRICS if len(files_that_name(name)) == 1]
    assert "cold_ttft_s" in alone
    assert files_that_name("cold_ttft_s") == {"melt/analysis/measures/loading.py"}


def test_a_kind_of_sensor_stands_in_one_file_and_an_entry_point() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["melt.sensors"]
    assert points["nvmap"].startswith("melt.telemetry.kinds.nvmap:")
    assert files_that_name("nvmap") == {"melt/telemetry/kinds/nvmap.py"}
