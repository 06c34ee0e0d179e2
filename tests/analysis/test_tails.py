"""Percentiles of inter-token latency: of all clean intervals together, and only of enough of them."""

from pathlib import Path

import numpy as np
import pytest

import melt
from melt.analysis.measures.latency import tails, why_no_tail
from melt.report import text
from melt.report.curve_groups import curve_groups
from melt.report.figures.intervals import token_intervals
from melt.store.manifest import Flag
from tests.support.store_factory import MAMBA, Recipe, write_run

LONG = Recipe(gen_tokens=256, iterations=2, telemetry=False)


@pytest.mark.parametrize(("n", "given"), [(1, "50 max"), (99, "50 max"), (100, "50 90 max"), (1000, "50 90 99 max")])
def test_a_percentile_needs_ten_intervals_beyond_it(n: int, given: str) -> None:
    found = tails(np.linspace(0.01, 0.02, n))
    names = [name.split("_")[1].removeprefix("p") for name, value in found.items() if value == value]
    assert " ".join(names) == given
    assert bool(why_no_tail(n)) == (n < 1000)


def test_stalls_show_in_the_pool_as_they_are() -> None:
    """1.5 % of the intervals are ten times as long: the 99th percentile is one of those."""
    rng = np.random.default_rng(12)
    itl_s = 0.01 * np.exp(rng.normal(0, 0.03, 20_000)) * np.where(rng.random(20_000) < 0.015, 10, 1)
    assert tails(itl_s)["itl_p99_s"] == pytest.approx(0.0987, rel=0.02)


def test_a_cells_tail_is_that_of_its_sessions_together_in_table_and_figure(tmp_path: Path) -> None:
    for session in range(3):
        write_run(tmp_path, MAMBA, 128, session, LONG)
    results = melt.load(tmp_path)
    pool = np.concatenate([np.diff(p.token_t_ns) / 1e9 for r in results.recorded for p in r.timed])
    assert len(pool) == 3 * 2 * 255
    cell = results.cells.iloc[0]
    assert cell["itl_p99_s"] == pytest.approx(np.percentile(pool, 99), rel=1e-9)
    drawing = token_intervals(curve_groups(results)[0], results)
    assert drawing is not None
    shown = dict(zip(drawing.header, drawing.rows[0], strict=True))
    assert shown["ITL p99 (ms)"] == text.number(cell["itl_p99_s"] * 1e3, 4)
    assert results.runs["itl_p99_s"].isna().all()
    assert set(results.runs["itl_reason"]) == {"510 intervals, and percentiles are given of 99 % from 1,000 on"}


def test_a_session_that_is_in_no_comparison_is_not_in_the_pool(tmp_path: Path) -> None:
    warm = Flag(name="start_temperature_out_of_band", evidence="seen")
    for session in range(3):
        write_run(tmp_path, MAMBA, 128, session, Recipe(**{**vars(LONG), "flags": (warm,) if session == 2 else ()}))
    results = melt.load(tmp_path)
    pool = results.intervals_of(set(results.runs.loc[results.runs["flags"] == "", "run_id"]))
    assert results.cells.iloc[0]["itl_p90_s"] == pytest.approx(np.percentile(pool, 90), rel=1e-9)
