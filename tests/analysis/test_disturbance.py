"""A disturbed run says by what, is kept, and counts for nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import melt
from melt.analysis.advice import advice
from melt.analysis.compare import claim
from melt.analysis.curves import curves, pairs
from melt.report import write_report
from melt.store.manifest import Flag
from melt.store.store import Run
from tests.analysis.frames import events_of, rewrite
from tests.support.store_factory import MAMBA, SMOLLM, Recipe, write_run, write_store

QUIET: dict[str, Any] = {
    "run_delay_ns": 1_000_000,
    "threads": 2,
    "involuntary_switches": 3,
    "major_faults": 0,
    "cpu_ns": 1_000_000_000,
    "suspended_ns": 0,
}
MACHINE: dict[str, Any] = {"swapped_bytes": 0, "stolen_ns": 0}


def tell(run: Run, phase: str, passes: int = 3, **counts: Any) -> None:
    """Has the last passes of a run tell quiet counts, but for these of one phase or the whole pass."""
    events: list[Any] = events_of(run)
    timed = [e for e in events if e["event"] == "iteration" and not e["warmup"]]
    for i, event in enumerate(timed):
        told = {"prefill": {**QUIET}, "decode": {**QUIET}, "pass": {**QUIET, **MACHINE}}
        told[phase] |= counts if i >= len(timed) - passes else {}
        event["kernel"] = told
    rewrite(run, events)


def disturb(run: Run) -> None:
    tell(run, "decode", run_delay_ns=10**12)


def row_of(folder: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = melt.load(folder).runs.iloc[0].to_dict()
    return found


CASES = {
    "waited for a processor in prefill": ("waited", "prefill", {"run_delay_ns": 100_000_000}),
    "waited for a processor in decode": ("waited", "decode", {"run_delay_ns": 100_000_000}),
    "lost the processor again and again": ("waited", "pass", {"involuntary_switches": 5_000, "threads": 1}),
    "the host of the virtual machine was busy": ("waited", "pass", {"stolen_ns": 100_000_000}),
    "slept": ("suspended", "pass", {"suspended_ns": 20_000_000_000}),
    "read pages again": ("paged", "pass", {"major_faults": 20_000}),
    "others worked beside it": ("background_load", "pass", {"busy_ns": 3_000_000_000}),
}


@pytest.mark.parametrize(("cause", "phase", "counts"), CASES.values(), ids=list(CASES))
def test_what_the_kernel_counted_says_by_what_a_run_was_disturbed(
    tmp_path: Path, cause: str, phase: str, counts: dict[str, int]
) -> None:
    run = write_run(tmp_path, MAMBA, 128)
    tell(run, phase, **counts)
    assert row_of(tmp_path)["disturbed"] == cause
    tell(run, phase)
    quiet = row_of(tmp_path)
    assert (quiet["disturbed"], quiet["not_judged"]) == ("", "")


def test_one_bad_pass_of_many_does_not_disturb_a_median(tmp_path: Path) -> None:
    run = write_run(tmp_path, MAMBA, 128, recipe=Recipe(iterations=9))
    tell(run, "decode", passes=2, run_delay_ns=10**12)
    assert row_of(tmp_path)["disturbed"] == ""
    tell(run, "decode", passes=3, run_delay_ns=10**12)
    assert row_of(tmp_path)["disturbed"] == "waited"


def test_a_pause_between_tokens_is_a_stall(tmp_path: Path) -> None:
    run = write_run(tmp_path, MAMBA, 128)
    events: list[Any] = events_of(run)
    late_ns = 0
    for event in events:
        if event["event"] == "iteration" and not event["warmup"]:
            stamps = [t + late_ns for t in event["token_t_ns"]]
            event["prefill"] |= {t: event["prefill"][t] + late_ns for t in ("t_start_ns", "t_end_ns")}
            pause_ns = (stamps[-1] - stamps[0]) // 3
            event["token_t_ns"] = [*stamps[:10], *(t + pause_ns for t in stamps[10:])]
            late_ns += pause_ns
    rewrite(run, events)
    row = row_of(tmp_path)
    assert row["disturbed"] == "stalled"
    assert row["stall_ratio"] == pytest.approx(4 / 3, rel=0.06)


def test_what_was_not_told_is_not_judged_and_excludes_nothing(tmp_path: Path) -> None:
    write_run(tmp_path, MAMBA, 128)
    row = row_of(tmp_path)
    assert row["disturbed"] == ""
    assert row["not_judged"] == "waited in prefill,waited in decode,suspended,paged"
    assert np.isnan(row["waited_decode_share"])


def test_threads_that_wait_for_each_other_are_not_disturbed(tmp_path: Path) -> None:
    run = write_run(tmp_path, MAMBA, 128, recipe=Recipe(cell={"threads": 8}))
    disturb(run)
    row = row_of(tmp_path)
    assert row["disturbed"] == ""
    assert "waited in decode" in row["not_judged"]


@pytest.mark.parametrize(("workload", "disturbed"), [("fixed", "throttled"), ("sustained", "")])
def test_throttling_disturbs_what_does_not_look_for_it(tmp_path: Path, workload: str, disturbed: str) -> None:
    cell = {"workload": workload, "sustained_s": 60.0 if workload == "sustained" else 0.0}
    flag = Flag(name="throttled", evidence="the firmware says so")
    write_run(tmp_path, MAMBA, 128, recipe=Recipe(flags=(flag,), cell=cell))
    row = row_of(tmp_path)
    assert (row["flags"], row["disturbed"]) == ("throttled", disturbed)


def test_a_disturbed_session_is_in_no_median(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, MAMBA, 128, session) for session in range(4)]
    before = melt.load(tmp_path)
    longest = int(before.runs.sort_values("itl_max_s")["session"].iloc[-1])
    disturb(runs[longest])
    after = melt.load(tmp_path)
    [cell] = after.cells.to_dict("records")
    assert (cell["n_sessions"], cell["n_clean"], cell["flags"]) == (4, 3, "waited")
    others = before.runs[before.runs["session"] != longest]
    assert cell["ttft_s"] == others["ttft_s"].median()
    assert cell["itl_max_s"] == others["itl_max_s"].max()
    assert len(after.runs) == 4


def test_where_all_were_disturbed_the_table_has_numbers_and_the_curve_none(tmp_path: Path) -> None:
    for session in range(3):
        disturb(write_run(tmp_path, MAMBA, 128, session))
        write_run(tmp_path, MAMBA, 512, session)
    results = melt.load(tmp_path)
    cells = results.cells.set_index("prompt_tokens")
    assert (cells.loc[128, "n_clean"], cells.loc[512, "n_clean"]) == (0, 3)
    assert cells.loc[128, "ttft_s"] == results.runs.query("prompt_tokens == 128")["ttft_s"].median()
    [curve] = curves(results.runs, results.cells)
    assert list(curve.measured("ttft_s")) == [512]
    assert len(curve.disturbed) == 3


def test_too_few_clean_rounds_settle_nothing_and_the_page_says_so_first(tmp_path: Path) -> None:
    runs = write_store(tmp_path / "r", models=(SMOLLM, MAMBA), contexts=(512, 4096), sessions=6)
    assert verdicts(tmp_path / "r") == {"better"}
    for run in runs:
        if run.manifest.session == 3 and run.manifest.cell.model == MAMBA.ref:
            disturb(run)
    assert verdicts(tmp_path / "r") == {"not settled"}
    page = write_report(melt.load(tmp_path / "r"), tmp_path / "page").read_text()
    top = page[page.index("<main>") :]
    assert top.index("2 of 24 sessions disturbed: waited (2)") < top.index('id="conditions"')
    assert "2 of 4 cells therefore have fewer than 6 undisturbed sessions" in top
    assert "What to do: Close other programs" in top
    assert "× faster" not in top


def test_a_step_that_helps_against_several_causes_is_told_once() -> None:
    runs = pd.DataFrame({"status": ["ok"], "disturbed": ["waited,background_load,stalled"]})
    told = advice(runs, pd.DataFrame({"n_sessions": [1], "n_clean": [0]}))
    assert told is not None
    assert told.to_do.startswith("Close other programs; give the runner fewer threads. Then")


def test_a_page_of_nothing_but_disturbed_runs_can_be_written(tmp_path: Path) -> None:
    for run in write_store(tmp_path / "r", models=(SMOLLM, MAMBA), contexts=(128, 512), sessions=2):
        disturb(run)
    page = write_report(melt.load(tmp_path / "r"), tmp_path / "page").read_text()
    assert "8 of 8 sessions disturbed" in page


def verdicts(folder: Path) -> set[str]:
    results = melt.load(folder)
    [(challenger, reference)] = pairs(curves(results.runs, results.cells))
    found = claim(challenger, reference, "ttft_s", results.manifests)
    assert found
    return {found.rounds.verdict("lower")}
