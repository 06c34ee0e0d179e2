"""The conformance suite: every flavour of the runner as a program of its own, jobs in, protocol 1 out."""

import json
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from melt.drivers.runner import runner_path
from melt.models.gguf.synth import synthesise
from melt.models.shapes.zoo import find_shape, scaled_down
from melt.runner import python_runner
from melt.spec.events import Done, Failed, Hello, Iteration, ModelLoaded, UnknownLine
from tests.runner.running import Ran, job


@pytest.mark.every_flavour
def test_a_good_job_follows_the_grammar(program: list[str], tmp_path: Path, model: Path) -> None:
    ran = Ran(program, tmp_path, job(model, threads=2))
    assert ran.code == 0
    assert [e.event for e in ran.events] == ["hello", "model", "iteration", "iteration", "iteration", "done"]
    hello, loaded = ran.one(Hello), ran.one(ModelLoaded)
    assert hello.clock.name == "CLOCK_BOOTTIME"
    assert loaded.effective_accelerator == "cpu"
    warm, first, second = (e for e in ran.events if isinstance(e, Iteration))
    assert (warm.warmup, first.warmup, second.warmup) == (True, False, False)
    assert first.prefill.tokens == 40
    assert len(first.token_t_ns) == len(first.tokens) == 5
    assert first.tokens == second.tokens


def test_stamps_are_in_order_on_one_clock(program: list[str], tmp_path: Path, model: Path) -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    ran = Ran(program, tmp_path, job(model))
    after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    loaded = ran.one(ModelLoaded)
    stamps = [before, ran.one(Hello).clock.t_ns, loaded.t_start_ns, loaded.t_end_ns]
    for e in ran.events:
        if isinstance(e, Iteration):
            stamps += [e.prefill.t_start_ns, e.prefill.t_end_ns, *e.token_t_ns]
    assert stamps == sorted(stamps)
    assert len(set(stamps)) == len(stamps)
    assert stamps[-1] < after


def test_measured_memory_holds_what_the_engine_allocated(
    program: list[str], tmp_path: Path, models: dict[str, Path]
) -> None:
    ran = Ran(program, tmp_path, job(models["hybrid"]))
    loaded = ran.one(ModelLoaded)
    kinds = {b.kind for b in loaded.buffers}
    assert kinds == {"weights", "kv", "state", "compute", "output"}
    last = [e for e in ran.events if isinstance(e, Iteration)][-1]
    memory = {k: v or 0 for k, v in last.memory.model_dump().items()}
    assert memory["peak_rss_bytes"] >= memory["rss_bytes"] > loaded.base_rss_bytes > 0
    assert 0 < memory["pss_bytes"] <= memory["rss_bytes"]


@pytest.mark.parametrize("of_llamacpp", ["python", "native"])
def test_weights_are_mapped_or_read_whole_as_asked(
    of_llamacpp: str, program_of: Callable[[str], list[str]], tmp_path: Path, tiny_model: Path
) -> None:
    for mode, mapped in (("mmap", True), ("read", False)):
        ran = Ran(program_of(of_llamacpp), tmp_path, job(tiny_model, load_mode=mode))
        weights = [b.device for b in ran.one(ModelLoaded).buffers if b.kind == "weights"]
        assert weights
        assert any(device.endswith("_Mapped") for device in weights) == mapped


def test_sustained_repeats_for_the_seconds_asked(program: list[str], tmp_path: Path, model: Path) -> None:
    ran = Ran(program, tmp_path, job(model, workload={"kind": "sustained", "seconds": 2.0}, threads=1))
    timed = [e for e in ran.events if isinstance(e, Iteration) and not e.warmup]
    assert len(timed) > 2
    assert 1.8 <= (timed[-1].token_t_ns[-1] - timed[0].prefill.t_start_ns) / 1e9 < 8.0


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"threads": 0}, "bad_job", "threads"),  # and whatever else job.json refuses: test_jobs.py
        ({"engine": "magic"}, "engine", "llama.cpp"),
        ({"accelerator": "gpu"}, "accelerator", "CPU"),
        ({"model": "/nowhere/x.gguf"}, "model_load", "x.gguf"),
        ({"cpu_mask": 2**63}, "cpu_mask", "cannot pin"),
    ],
)
def test_a_bad_job_is_one_clear_error(
    program: list[str], tmp_path: Path, model: Path, changes: dict[str, Any], kind: str, said: str
) -> None:
    ran = Ran(program, tmp_path, {**job(model), **changes})
    assert ran.code == 1
    failed = ran.one(Failed)
    assert failed.kind == kind
    assert said in failed.message
    assert ran.one(Done).status == "error"
    assert "Traceback" not in ran.stderr


def test_a_file_that_is_no_job_is_one_clear_error(program: list[str], tmp_path: Path) -> None:
    ran = Ran(program, tmp_path, "{")
    assert (ran.code, ran.one(Done).status) == (1, "error")
    assert "Traceback" not in ran.stderr


def poisoned(model: Path, tmp_path: Path) -> Path:
    """A copy of a model whose last weights are no numbers, which poisons the logits."""
    bad = tmp_path / "nan.gguf"
    if model.is_dir():
        shutil.copytree(model, bad)
        data = bad / "model.onnx.data"  # it ends with the last norm
        data.write_bytes(data.read_bytes()[:-512] + b"\x00\x00\xc0\x7f" * 128)
        return bad
    data_bytes = bytearray(model.read_bytes())
    # Every Q8_0 block starts with a half-precision scale.
    data_bytes[-2048:] = b"\x00\x7e" * 1024
    data_bytes[-200_000:-198_000] = b"\x00\x7e" * 1000
    bad.write_bytes(data_bytes)
    return bad


def test_a_model_with_nan_weights_is_an_error_not_a_number(program: list[str], tmp_path: Path, model: Path) -> None:
    ran = Ran(program, tmp_path, job(poisoned(model, tmp_path)))
    assert ran.one(Failed).kind == "nan_logits"


def test_a_model_without_vocabulary_is_one_clear_error(program: list[str], tmp_path: Path, model: Path) -> None:
    none = tmp_path / "none.gguf"
    if model.is_dir():
        shutil.copytree(model, none)
        config = none / "genai_config.json"
        config.write_text(config.read_text().replace('"vocab_size": 512', '"vocab_size": 0'))
    else:
        synthesise(replace(scaled_down(find_shape("smollm2-135m")), vocab=0), "F16", none)
    ran = Ran(program, tmp_path, job(none))
    assert (ran.code, ran.one(Failed).kind) == (1, "model_load")
    assert "vocabulary" in ran.one(Failed).message


def test_the_stream_holds_only_events(program: list[str], tmp_path: Path, model: Path) -> None:
    assert not [e for e in Ran(program, tmp_path, job(model)).events if isinstance(e, UnknownLine)]


@pytest.mark.every_flavour
def test_the_runner_ends_when_its_host_is_gone(program: list[str], tmp_path: Path, model: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job(model, workload={"kind": "sustained", "seconds": 600})))
    argv = [*program, "run", str(path), "--watch-stdin"]
    runner = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert runner.stdin is not None
    assert runner.stdout is not None
    while '"iteration"' not in runner.stdout.readline():
        pass
    runner.stdin.close()
    assert runner.wait(timeout=20) == 3
    runner.stdout.close()


@pytest.mark.parametrize("words", [["--watch-stdin", "x30"], ["--watch-stdin", "1e12"], ["--watch"], ["3", "4"]])
def test_a_wrong_word_after_the_job_is_wrong_usage(program: list[str], words: list[str]) -> None:
    done = subprocess.run([*program, "run", "job.json", *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_reader_that_has_gone_ends_the_run_with_3(program: list[str], tmp_path: Path, model: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job(model, workload={"kind": "sustained", "seconds": 600})))
    runner = subprocess.Popen([*program, "run", str(path)], stdout=subprocess.PIPE)
    assert runner.stdout is not None
    runner.stdout.readline()
    runner.stdout.close()
    assert runner.wait(20) == 3


def test_a_silent_host_ends_the_run(program: list[str], tmp_path: Path, model: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job(model, workload={"kind": "sustained", "seconds": 600})))
    words = [*program, "run", str(path), "--watch-stdin", "3"]
    runner = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert runner.stdin is not None
    for _ in range(8):  # a heartbeat keeps it alive beyond its patience
        time.sleep(0.5)
        runner.stdin.write(b"\n")
        runner.stdin.flush()
        assert runner.poll() is None
    assert runner.wait(timeout=20) == 3
    runner.stdin.close()


def test_wrong_usage_exits_2(program: list[str], tmp_path: Path) -> None:
    done = subprocess.run([*program, "dance"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_the_zipapp_is_the_same_bytes_each_time() -> None:
    assert python_runner() == python_runner()
    names = zipfile.ZipFile(runner_path()).namelist()
    assert {"__main__.py", "job.json", "sampler.py", "workload.py"} <= set(names)


def test_prompt_tokens_are_the_published_generator(runner_path: None) -> None:
    from workload import prompt_tokens  # type: ignore[import-not-found,unused-ignore]

    # splitmix64 from seed 0, as in the reference implementation's first outputs.
    whole = prompt_tokens(3, 2**64, 0)
    assert whole == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert max(prompt_tokens(1000, 100, 7)) < 100
    assert prompt_tokens(5, 1000, 1) != prompt_tokens(5, 1000, 2)


LOG = Path(__file__).parent.parent / "data" / "llamacpp-log" / "smollm2-135m.txt"


def test_buffers_are_read_from_the_engines_log(runner_path: None) -> None:
    from llamacpp_log import buffers  # type: ignore[import-not-found,unused-ignore]

    found = {(b["device"], b["kind"]): b["bytes"] for b in buffers(LOG.read_text().splitlines())}
    assert found[("CPU_Mapped", "weights")] == round(92.10 * 2**20)
    assert found[("CPU", "kv")] == round(16.88 * 2**20)
    assert found[("CPU", "compute")] == round(98.25 * 2**20)
    gpu = [
        "load_tensors:      Vulkan0 model buffer size =    71.58 MiB",
        "x:    Vulkan0 compute buffer size =  10.00 MiB",
    ]
    assert [b["device"] for b in buffers(gpu)] == ["Vulkan0", "Vulkan0"]
