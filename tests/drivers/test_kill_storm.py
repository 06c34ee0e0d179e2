"""Two melts on one store and one cache, killed at any moment: nothing is lost, doubled, or of another model.

When each is killed follows from ``--seed``.
"""

import collections
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

import melt
from melt.spec.plan import to_yaml
from melt.store.store import Store
from tests.doubles.paced.fixture import paced
from tests.drivers.boards import Box, a_profile, box
from tests.drivers.conftest import enrol_all, ssh_profile_of
from tests.support.cli import MELT
from tests.support.plans import a_plan
from tests.support.processes import running
from tests.support.waiting import wait_until

__all__ = ["box", "paced"]
pytestmark = [pytest.mark.root, pytest.mark.long(part="faults"), pytest.mark.timeout(3600)]

KILLS = 300
LONGEST_S = 12.0  # a start takes some seconds of it, and longer where the runner before it is waited for
SESSIONS = 120
QUICK = {"backends": ("paced",), "options": {"base_ms": 40.0, "token_us": 0.0, "decode_ms": 5.0}, "warmups": 0}


def start(plan: Path, results: Path, temporary: Path) -> "subprocess.Popen[bytes]":
    temporary.mkdir(exist_ok=True)
    return subprocess.Popen(
        [*MELT, "run", str(plan), "--results", str(results), "--no-report"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(temporary)},
        start_new_session=True,
    )


def kill(process: "subprocess.Popen[bytes]") -> bool:
    """Whether it was still at work."""
    was = process.poll() is None
    if was:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return was


def test_melts_that_are_killed_lose_and_double_nothing(
    box: Box, tmp_path: Path, tiny_models: dict[str, Path], paced: Path, seed: int
) -> None:
    choices, results, plans = random.Random(seed), tmp_path / "results", []
    for i in range(2):
        board = box()
        enrol_all(ssh_profile_of(board))
        profile = a_profile(board, tmp_path / f"board{i}.yaml", driver="ssh")
        plan = a_plan(profile, tiny_models["transformer"], tiny_models["ssm"], sessions=SESSIONS, **QUICK)
        plans.append(tmp_path / f"plan{i}.yaml")
        plans[-1].write_text(to_yaml(plan))

    kills = 0
    while kills < KILLS:
        melts = [
            (start(plan, results, tmp_path / f"tmp{i}"), choices.uniform(0.0, LONGEST_S))
            for i, plan in enumerate(plans)
        ]
        began = time.monotonic()
        for process, after_s in sorted(melts, key=lambda one: one[1]):
            time.sleep(max(0.0, began + after_s - time.monotonic()))
            kills += kill(process)
        if all(process.returncode == 0 for process, _ in melts):
            break  # all is measured
    done = [start(plan, results, tmp_path / f"tmp{i}") for i, plan in enumerate(plans)]
    said = [process.communicate()[1].decode() for process in done]
    assert [process.returncode for process in done] == [0, 0], said

    runs, damaged = Store(results).runs()
    assert not damaged
    assert not list(results.glob(".partial-*"))
    counted = collections.Counter((r.manifest.cell_id, r.manifest.session) for r in runs if r.manifest.status == "ok")
    assert len(counted) == 4 * SESSIONS, f"after {kills} kills"
    assert set(counted.values()) == {1}
    loaded = melt.load(results)
    assert loaded.runs["counted"].sum() == 4 * SESSIONS
    assert "another_model" not in set(loaded.runs["error_kind"].dropna())
    shas = {r.manifest.cell.model: r.manifest.model.sha256 for r in runs if r.manifest.model}
    assert len(shas) == len(set(shas.values())) == 2
    wait_until(lambda: not running(lambda p: p.program is not None and p.program.is_relative_to(tmp_path)))
    assert kills > KILLS / 2, "the sessions were over before the kills were"
