"""The paced runner: it takes the time that it is told, and a box draws what it seems to use."""

import json
import os
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import melt
from melt.execution.plan import run
from melt.spec.events import Iteration
from tests.doubles.paced.fixture import paced
from tests.support.cli import melt_cli
from tests.support.plans import a_plan, last, timed

__all__ = ["paced"]
pytestmark = pytest.mark.doubles


def passes(folder: Path, model: Path, options: dict[str, Any], **more: Any) -> list[Iteration]:
    """The timed iterations of a run on this machine."""
    plan = a_plan("local", model, backends=("paced",), warmups=0, **{"iterations": 1, "options": options, **more})
    made = last(run(plan, folder))
    assert made.manifest.status == "ok", made.manifest.error
    return timed(made)


def prefill_ms(one: Iteration) -> float:
    return (one.prefill.t_end_ns - one.prefill.t_start_ns) * 1e-6


def decode_ms(one: Iteration) -> list[float]:
    return [(b - a) * 1e-6 for a, b in zip(one.token_t_ns, one.token_t_ns[1:], strict=False)]


@pytest.mark.parametrize("context", [100, 1000])
def test_paces_are_met(context: int, paced: Path, tmp_path: Path, tiny_model: Path) -> None:
    law = {"base_ms": 20.0, "token_us": 100.0, "square_ns": 50.0, "decode_ms": 4.0}
    found = passes(tmp_path, tiny_model, law, context=(context,), gen=(100,), iterations=5)
    prefills_ms, decodes_ms = map(prefill_ms, found), map(decode_ms, found)
    # Medians: a machine with other work wakes a process late now and then.
    assert statistics.median(prefills_ms) == pytest.approx(20 + 0.1 * context + 50e-6 * context**2, abs=0.2)
    means_ms, medians_ms = zip(*((statistics.mean(d), statistics.median(d)) for d in decodes_ms), strict=True)
    assert statistics.median(medians_ms) == pytest.approx(4.0, abs=0.1)
    assert statistics.median(means_ms) == pytest.approx(4.0, rel=0.01)


def test_the_noise_has_its_deviation_and_comes_again_with_its_seed(
    paced: Path, tmp_path: Path, tiny_model: Path
) -> None:
    noisy = {"decode_ms": 4.0, "noise": 0.1}
    once, again, other = (
        decode_ms(passes(tmp_path / name, tiny_model, {**noisy, "seed": seed}, gen=(400,))[0])
        for name, seed in (("once", 1), ("again", 1), ("other", 2))
    )
    # Quantiles, which a few late wakes do not move; the bounds are four standard errors and more.
    low, middle, high = (statistics.quantiles(once, n=1000)[round(1000 * q) - 1] for q in (0.1587, 0.5, 0.8413))
    assert middle == pytest.approx(4.0, rel=0.03)
    assert (high - low) / 2 == pytest.approx(0.4, rel=0.25)
    assert statistics.median(abs(a - b) for a, b in zip(once, again, strict=True)) < 0.1
    assert statistics.median(abs(a - b) for a, b in zip(once, other, strict=True)) > 0.2


def test_sessions_differ_by_their_own_noise(paced: Path, tmp_path: Path, tiny_model: Path) -> None:
    options = {"decode_ms": 4.0, "session_noise": 0.2}
    plan = a_plan("local", tiny_model, backends=("paced",), options=options, sessions=3, gen=(20,), iterations=1)
    run(plan, tmp_path / "once")
    run(plan, tmp_path / "again")
    once, again = (
        melt.load(tmp_path / name).runs.set_index("session")["tpot_s"].sort_index() for name in ("once", "again")
    )
    assert once.std() > 0.0002
    assert once.to_list() == pytest.approx(again.to_list(), abs=0.0002)


def test_it_slows_by_steps_and_by_a_trend(paced: Path, tmp_path: Path, tiny_model: Path) -> None:
    options = {"base_ms": 0.0, "token_us": 0.0, "decode_ms": 5.0, "steps": "0.5:2,1.0:1.5", "trend": 10.0}
    [found] = passes(tmp_path, tiny_model, options, gen=(180,))
    begun = found.prefill.t_start_ns
    stamps = [(t - begun) * 1e-9 for t in found.token_t_ns[:-1]]
    steps = [1.0 if t < 0.5 else 2.0 if t < 1.0 else 3.0 for t in stamps]
    expected = [5.0 * step * (1 + 10 * t / 60) for step, t in zip(steps, stamps, strict=True)]
    apart = [abs(a - b) for a, b in zip(decode_ms(found), expected, strict=True)]
    assert statistics.median(apart) < 0.2
    assert stamps[-1] > 1.5


def test_what_slows_it_may_count_from_a_time_before_it_began(paced: Path, tmp_path: Path, tiny_model: Path) -> None:
    options = {"decode_ms": 5.0, "steps": "30:2", "since_s": time.time() - 30}
    [found] = passes(tmp_path, tiny_model, options, gen=(20,))
    assert statistics.median(decode_ms(found)) == pytest.approx(10.0, abs=0.3)


def test_it_waits_without_a_processor(paced: Path, tmp_path: Path, tiny_model: Path) -> None:
    workload = {"prompt_tokens": 100, "gen_tokens": 200}
    job = {"protocol": 1, "job_id": "j", "engine": "llama.cpp", "model": str(tiny_model), "threads": 1}
    (tmp_path / "job.json").write_text(json.dumps({**job, "workload": workload, "iterations": 1, "warmups": 0}))
    names = ("base_ms", "token_us", "square_ns", "load_ms", "noise", "session_noise", "trend", "since_s")
    paces = {**dict.fromkeys((*names, "prefill_cores", "decode_cores"), 0), "decode_ms": 10, "steps": [], "stream": 1}
    env = {"PACED": json.dumps(paces)}
    with subprocess.Popen([paced, "run", tmp_path / "job.json"], env=env, stdout=subprocess.DEVNULL) as process:
        began = time.monotonic()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert time.monotonic() - began > 1.9
    assert used.ru_utime + used.ru_stime < 0.1


def test_a_command_line_has_it_and_its_runs_are_like_any_others(
    paced: Path, tmp_path: Path, tiny_models: dict[str, Path]
) -> None:
    words = ["run", "--device", "local", "--backend", "paced", "--context", "64", "--gen", "8", "--sessions", "1"]
    words += [word for model in tiny_models.values() for word in ("--model", str(model))]
    words += ["--set", "options={decode_ms: [2, 3], prefill_cores: 1}", "--set", "idle_s=0.2", "--no-report"]
    words += ["--set", "extra_time={share: 0}"]
    done = melt_cli(*words, "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    runs = melt.load(tmp_path).runs
    assert len(runs) == 6
    assert set(runs["family"]) == {"transformer", "ssm", "hybrid"}
    doubts = {flag for flags in runs["flags"] for flag in flags.split(",") if flag}
    assert doubts <= {"background_load", "busy_when_idle"}
    assert runs["n_unknown_lines"].sum() == 0
