"""Joules of runs held against what a box says that it drew."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import melt
from melt.store.store import Store
from tests.support.plans import timed


def steady(phase_s: float, gen: int = 200, **more: object) -> dict[str, Any]:
    """The part of a plan with whose paces each phase takes so long, and draws its own power, whatever the model."""
    paces = {"base_ms": phase_s * 1000, "token_us": 0.0, "decode_ms": phase_s * 1000 / (gen - 1)}
    options = {**paces, "prefill_cores": 1.0, "decode_cores": 0.6}
    few = {"warmups": 0, "iterations": 1, "gen": (gen,), "idle_s": 1.0}
    return {"backends": ("paced",), "options": options, **few, **more}


def meet_the_truth(
    results: Path,
    true_energy_j: Callable[[int, int], float],
    rel: float = 0.02,
    phases: Sequence[str] = ("prefill", "decode"),
) -> list[dict[Any, Any]]:
    """Holds the joules of every run's phases against what its device drew meanwhile; gives the runs' rows.

    Within 2 %, or as near as the run itself says it can be where the tests' machine kept the sampler from reading.
    """
    runs, _ = Store(results).runs()
    made = {run.manifest.run_id: timed(run) for run in runs if run.manifest.status == "ok"}
    rows: list[dict[Any, Any]] = melt.load(results).runs.to_dict("records")
    assert len(made) == len(rows), [run.manifest.error for run in runs]
    for row in rows:
        passes = made[row["run_id"]]
        truth_j = {
            "prefill": [true_energy_j(p.prefill.t_start_ns, p.token_t_ns[0]) for p in passes],
            "decode": [true_energy_j(p.token_t_ns[0], p.token_t_ns[-1]) for p in passes],
        }
        for phase in phases:
            assert row[f"energy_{phase}_j"] > 0, (phase, row["flags"])
            uncertain_j = row[f"energy_{phase}_method_uncertainty_j"]
            near = pytest.approx(statistics.median(truth_j[phase]), rel=rel, abs=3 * uncertain_j)
            assert row[f"energy_{phase}_j"] == near
        assert row["decode_j_per_token"] * (row["gen_tokens"] - 1) == near
    return rows
