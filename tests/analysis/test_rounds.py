"""Which sessions of two models make a round."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

import melt
from melt.analysis.compare import claim
from melt.analysis.curves import Curve, curves, pairs
from melt.analysis.rounds import rounds
from tests.support.store_factory import MAMBA, SMOLLM, Recipe, write_store

QUIET = Recipe(noise=0.0, session_noise=0.0, telemetry=False)
DAY = timedelta(days=1)


def two(folder: Path, contexts: tuple[int, ...] = (128,)) -> tuple[Curve, Curve]:
    """Six sessions each, interleaved, twenty minutes a round."""
    write_store(folder, models=(SMOLLM, MAMBA), contexts=contexts, sessions=6, recipe=QUIET)
    results = melt.load(folder)
    return next(pairs(curves(results.runs, results.cells)))


def later(curve: Curve, by: timedelta, sessions: tuple[int, ...] = tuple(range(6))) -> None:
    moved = curve.sessions["session"].isin(sessions)
    times = pd.to_datetime(curve.sessions["started_at"], format="ISO8601") + by * moved.astype(int)
    curve.sessions["started_at"] = [t.isoformat() for t in times]


def test_interleaved_sessions_are_rounds(tmp_path: Path) -> None:
    a, b = two(tmp_path)
    assert rounds(a, b, [128.0]) == [0, 1, 2, 3, 4, 5]
    later(a, timedelta(minutes=15))  # whichever of the two comes first in its round
    assert rounds(a, b, [128.0]) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("apart", [timedelta(hours=2, minutes=1), 3 * DAY])
def test_one_model_after_the_other_makes_no_rounds(tmp_path: Path, apart: timedelta) -> None:
    a, b = two(tmp_path)
    later(a, apart)
    assert rounds(a, b, [128.0]) == []
    found = claim(a, b, "ttft_s", melt.load(tmp_path).manifests)
    assert found is not None
    assert (found.rounds.n, found.rounds.verdict("lower")) == (0, "not settled")


def test_a_session_that_was_made_up_for_on_another_day_costs_its_round_alone(tmp_path: Path) -> None:
    a, b = two(tmp_path)
    later(a, DAY, sessions=(2,))
    assert rounds(a, b, [128.0]) == [0, 1, 3, 4, 5]


def test_a_claim_over_lengths_takes_the_rounds_that_have_them_all(tmp_path: Path) -> None:
    a, b = two(tmp_path, contexts=(128, 512))
    a = replace(a, sessions=a.sessions.query("session != 1 or prompt_tokens != 512"))
    assert rounds(a, b, [128.0, 512.0]) == [0, 2, 3, 4, 5]
