"""What the page says of how it was measured and drawn is so."""

from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

import melt
from melt.report import charts
from melt.report.conditions import order
from melt.report.palette import MARKERS, SHADES, looks
from melt.store.manifest import MANIFEST, Manifest
from tests.support.store_factory import EPOCH, MAMBA, SMOLLM, write_store


def started(folder: Path, minutes: dict[tuple[str, int], int]) -> melt.Results:
    """A store whose runs, by model and session, began so many minutes after each other."""
    for run in write_store(folder, models=(SMOLLM, MAMBA), contexts=(128,), sessions=2):
        path = run.folder / MANIFEST
        model = run.manifest.model
        at = EPOCH + timedelta(minutes=minutes[model.name if model else "", run.manifest.session])
        moved = Manifest.model_validate_json(path.read_text()).model_copy(update={"started_at": at.isoformat()})
        path.write_text(moved.model_dump_json())
    return melt.load(folder)


def test_the_order_is_told_as_it_was(tmp_path: Path) -> None:
    a, b = SMOLLM.name, MAMBA.name
    in_turn = started(tmp_path / "a", {(a, 0): 0, (b, 0): 1, (a, 1): 2, (b, 1): 3})
    assert order(in_turn).startswith("Sessions of all cells are interleaved")
    one_by_one = started(tmp_path / "b", {(a, 0): 0, (a, 1): 1, (b, 0): 2, (b, 1): 3})
    assert order(one_by_one).startswith("Sessions of each cell were measured one after the other")
    enclosed = started(tmp_path / "c", {(a, 0): 0, (b, 0): 1, (b, 1): 2, (a, 1): 3})
    assert order(enclosed).startswith("Sessions of some cells were measured one after the other")


def test_one_session_of_each_has_no_order(tmp_path: Path) -> None:
    write_store(tmp_path, models=(SMOLLM, MAMBA), contexts=(128,), sessions=1)
    assert order(melt.load(tmp_path)) == ""


@pytest.mark.parametrize("family", ["ssm", "hybrid"])
def test_models_of_one_family_differ_in_dash_and_marker(family: str) -> None:
    found = looks([(f"model {i}", family) for i in range(len(SHADES[family]))])
    assert len({look.dashes for look in found.values()}) == len(found)
    assert len({look.marker for look in found.values()}) == len(found) <= len(MARKERS)


@pytest.mark.parametrize(("low", "high"), [(10, 40), (8, 300), (9, 1_400), (5, 20_000), (1, 30_000)])
def test_labels_of_a_logarithmic_axis_do_not_touch(low: float, high: float) -> None:
    figure, (ax,) = charts.new()
    charts.log_across(ax, low, high)
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels() if label.get_text()]
    inside = sorted((b.x0, b.x1) for b in boxes if ax.bbox.x0 <= (b.x0 + b.x1) / 2 <= ax.bbox.x1)
    assert len(inside) >= 2
    assert all(one[1] < other[0] for one, other in pairwise(inside))
