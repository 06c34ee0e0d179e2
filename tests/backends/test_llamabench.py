"""A stock llama-bench, measured; what it does not measure stays absent."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import melt
from melt.execution.plan import run
from melt.report import write_report
from melt.spec.facts import DeviceFacts
from melt.spec.plan import Plan
from melt.toolchain.archives import add_program
from tests.doubles.llama_bench.archive import release_archive
from tests.support.plans import a_plan
from tests.support.processes import running
from tests.support.waiting import wait_until

PHONE = DeviceFacts(platform="android", machine="x86_64", logical_cores=8)
LONG = pytest.mark.long(part="llama-bench")


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with the real program, which takes two minutes to compile."""
    return release_archive(tmp_path_factory.mktemp("stock") / "llama-b1-bin-linux-x64.tar.gz")


def bench_plan(model: Path, **more: object) -> Plan:
    few = {"backends": ("llamabench",), "context": (64,), "gen": (16,), "idle_s": 0.2}
    return a_plan("local", model, **{**few, **more})


@LONG
def test_a_stock_llama_bench_is_measured(stock: Path, tiny_model: Path, tmp_path: Path) -> None:
    add_program(stock, "stock")
    outcome = run(bench_plan(tiny_model, backends=("llamabench", "llama.cpp"), gen=(6000,)), tmp_path / "r")
    assert outcome.complete, [r.manifest.error for r in outcome.made]
    runs = melt.load(tmp_path / "r").runs.set_index("backend")
    theirs, ours = dict(runs.loc["llamabench"]), dict(runs.loc["llama.cpp"])
    assert (theirs["runner"], theirs["n_iterations"], theirs["threads"]) == ("llama-bench", 2, 1)
    for speed in ("prefill_tok_per_s", "decode_tok_per_s"):
        assert 0.1 < theirs[speed] / ours[speed] < 10
    assert theirs["peak_rss_bytes"] > 1e6  # the sampler's, which is not llama-bench's affair
    for absent in ("ttft_s", "itl_p50_s", "load_s", "weights_bytes", "energy_decode_j"):
        assert math.isnan(theirs[absent]), absent
    rows = [json.loads(line) for line in _lines_of(outcome.made[0].folder, outcome.made[1].folder)]
    told = [r["row"] for r in rows if r["event"] == "repetitions"]
    assert [(t["n_prompt"], t["n_gen"], t["n_depth"]) for t in told] == [(64, 0, 0), (0, 6000, 64)]
    assert {"/" in t["model_filename"] for t in told} == {False}  # where a file lay is no part of results
    iterations = melt.load(tmp_path / "r").iterations
    assert len(iterations) == 4


def _lines_of(*folders: Path) -> list[str]:
    [path] = [f / "events.jsonl" for f in folders if "llama-bench" in (f / "events.jsonl").read_text()]
    return path.read_text().splitlines()


@LONG
def test_a_second_run_has_nothing_to_do(stock: Path, tiny_model: Path, tmp_path: Path) -> None:
    add_program(stock, "stock")
    assert len(run(bench_plan(tiny_model), tmp_path / "r").made) == 1
    assert run(bench_plan(tiny_model, runners=("stock",)), tmp_path / "r").already_there == 1


@LONG
def test_a_gpu_that_it_does_not_see_is_flagged(stock: Path, tiny_model: Path, tmp_path: Path) -> None:
    add_program(stock, "stock")
    run(bench_plan(tiny_model, accelerators=("gpu",)), tmp_path / "r")
    flags = melt.load(tmp_path / "r").flags.set_index("flag")
    assert flags.loc["accelerator_fallback", "evidence"] == "asked for gpu; what the program saw: CPU"


@LONG
def test_what_it_refuses_is_a_failed_run_with_its_words(stock: Path, tiny_model: Path, tmp_path: Path) -> None:
    add_program(stock, "stock")
    outcome = run(bench_plan(tiny_model, type_v=("q4_0",), flash_attn=("off",)), tmp_path / "r")
    [error] = [r.manifest.error for r in outcome.made]
    assert error is not None
    assert error.kind == "runner"
    assert "exit code 1" in error.message
    assert "failed to create context" in error.message


@LONG
def test_it_does_not_outlive_its_host(stock: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Its input ends with the host; llama-bench itself would not notice."""
    program = add_program(stock, "stock")
    code = (
        "import sys, melt; from melt.spec.plan import Plan\n"
        f"melt.run(Plan(devices=['local'], backends=['llamabench'], models=[{str(tiny_model)!r}], context=[64], "
        f"gen=[20000], threads=[1], iterations=1000, idle_s=0.1, memory_check=False), {str(tmp_path / 'r')!r})"
    )

    def at_work() -> bool:
        return bool(running(lambda p: p.program == program.path_of("llama-bench")))

    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as host:
        try:
            wait_until(at_work)
        finally:
            os.killpg(host.pid, signal.SIGKILL)
    wait_until(lambda: not at_work())


@LONG
def test_a_report_sets_engines_side_by_side(stock: Path, tiny_model: Path, tmp_path: Path) -> None:
    add_program(stock, "stock")
    run(bench_plan(tiny_model, backends=("llamabench", "llama.cpp"), context=(64, 128)), tmp_path / "r")
    page = write_report(melt.load(tmp_path / "r"), tmp_path / "out").read_text()
    assert "llama.cpp stock (backends CPU)" in page
    for heading in ("local · llama.cpp · cpu", "local · llamabench · cpu"):
        assert heading in page
