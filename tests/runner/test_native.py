"""What only the native runner does, and what it must have in common with the Python one."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from melt.models.gguf.synth import synthesise
from melt.models.shapes.zoo import find_shape, scaled_down
from melt.spec.events import Failed, Hello, Iteration, ModelLoaded, Ops
from melt.telemetry import linux
from melt.telemetry.source import Inventory
from melt.toolchain.source import PACKAGE, VERSION
from tests.runner.conftest import NATIVE, SMOKE
from tests.runner.running import Ran, job

CATEGORIES = {"attention", "gemm", "scan", "conv", "norm", "elementwise", "copy", "embedding", "output", "other"}
Program = Callable[[str], list[str]]


@pytest.fixture
def native(native_flavour: str, program_of: Program) -> list[str]:
    """A native build."""
    return program_of(native_flavour)


@pytest.mark.parametrize("kind", ["transformer", "ssm", "hybrid"])
def test_greedy_tokens_are_those_of_the_python_runner(
    program_of: Program, tmp_path: Path, tiny_models: dict[str, Path], kind: str
) -> None:
    tokens: dict[str, list[tuple[int, ...]]] = {"python": [], "native": []}
    for seed in (0, 7, 2**64 - 1):
        given = job(tiny_models[kind], workload={"seed": seed})
        for flavour, said in tokens.items():
            said += [e.tokens for e in Ran(program_of(flavour), tmp_path, given).events if isinstance(e, Iteration)]
    assert tokens["python"] == tokens["native"]
    assert len(set(tokens["python"])) > 1  # a prompt of another seed is answered otherwise


@pytest.mark.parametrize("kind", ["transformer", "ssm", "hybrid"])
@pytest.mark.parametrize(
    "flavours",
    [
        pytest.param(("python", "native", *SMOKE), id="gate"),
        pytest.param(("python", *NATIVE), id="all", marks=pytest.mark.long(part="conformance")),
    ],
)
def test_every_flavour_explains_the_same_memory(
    program_of: Program, tmp_path: Path, tiny_models: dict[str, Path], kind: str, flavours: tuple[str, ...]
) -> None:
    explained, beside_weights = {}, {}
    for flavour in flavours:
        loaded = Ran(program_of(flavour), tmp_path, job(tiny_models[kind])).one(ModelLoaded)
        explained[flavour] = sum(b.bytes for b in loaded.buffers)
        beside_weights[flavour] = sum(b.bytes for b in loaded.buffers if b.kind != "weights")
        assert loaded.tables_bytes is not None
        assert loaded.family == kind  # by the engine's own word
    assert max(beside_weights.values()) <= 1.05 * min(beside_weights.values()), beside_weights
    # Whether weights are repacked is the processor's choice, so with them only like processors agree.
    of_this_processor = [explained[f] for f in ("python", "native", "static-x86_64")]
    assert max(of_this_processor) <= 1.05 * min(of_this_processor), explained


@pytest.mark.every_flavour
def test_says_what_it_is(native: list[str], tmp_path: Path, tiny_model: Path) -> None:
    hello = Ran(native, tmp_path, job(tiny_model)).one(Hello)
    assert hello.runner == "melt-runner-native"
    assert hello.engine == "llama.cpp"
    assert set(hello.engine_build) == {"commit", "compiler", "target"}
    assert [a.kind for a in hello.accelerators] == ["cpu"]
    if hello.engine_build["target"] != "host":  # which has the commit that the installed package was given
        assert hello.engine_build["commit"] == f"{PACKAGE}-{VERSION}"


@pytest.mark.parametrize(
    ("kind", "prefill", "decode"),
    [
        ("transformer", {"attention", "gemm", "norm", "embedding", "output"}, {"attention", "gemm"}),
        ("ssm", {"scan", "conv", "gemm", "norm", "embedding", "output"}, {"scan", "conv", "gemm"}),
        ("hybrid", {"attention", "scan", "conv", "gemm", "output"}, {"attention", "scan", "output"}),
        ("scaled", {"attention", "scan", "conv", "gemm", "output"}, {"attention", "scan", "output"}),
    ],
)
def test_the_operator_pass_names_every_kind_of_work(
    native: list[str], tmp_path: Path, tiny_models: dict[str, Path], kind: str, prefill: set[str], decode: set[str]
) -> None:
    if kind == "scaled":  # its logits are scaled after the product with the vocabulary
        synthesise(scaled_down(find_shape("granite-4.0-h-350m")), "Q8_0", tmp_path / "scaled.gguf")
    model = tiny_models.get(kind, tmp_path / "scaled.gguf")
    ran = Ran(native, tmp_path, {**job(model), "profile_ops": True})
    assert [e.event for e in ran.events][-3:] == ["ops", "ops", "done"]
    passes = {str(e.phase): e for e in ran.events if isinstance(e, Ops)}
    for phase, expected in (("prefill", prefill), ("decode", decode)):
        found = {r.category for r in passes[phase].rows}
        assert expected <= found <= CATEGORIES - {"other"}
        assert {r.device for r in passes[phase].rows} == {"CPU"}
        assert 0 < sum(r.total_ns for r in passes[phase].rows) <= (passes[phase].wall_ns or 0)
    assert (passes["prefill"].tokens, passes["decode"].tokens) == (40, 5)
    if kind == "transformer":
        # One matrix product a token for the vocabulary; without a recurrent layer nothing scans.
        output = [r for r in passes["decode"].rows if r.category == "output"]
        assert [r.count for r in output] == [5]
        assert "scan" not in {r.category for r in passes["prefill"].rows}


def test_the_operator_pass_comes_after_the_timed_iterations(
    native_program: list[str], tmp_path: Path, tiny_model: Path
) -> None:
    with_pass = Ran(native_program, tmp_path, {**job(tiny_model), "profile_ops": True})
    without = Ran(native_program, tmp_path, job(tiny_model))
    plain = [e.event for e in without.events]
    assert [e.event for e in with_pass.events] == [*plain[:-1], "ops", "ops", "done"]
    # The pass has a context of its own, made after the timed one is gone: no memory is counted twice.
    assert with_pass.one(ModelLoaded).buffers == without.one(ModelLoaded).buffers


def test_without_flash_attention_scores_are_attention_too(
    native_program: list[str], tmp_path: Path, tiny_model: Path
) -> None:
    ran = Ran(native_program, tmp_path, {**job(tiny_model), "profile_ops": True, "flash_attn": "off"})
    rows = next(e for e in ran.events if isinstance(e, Ops)).rows
    assert {"MUL_MAT", "SOFT_MAX"} <= {r.op for r in rows if r.category == "attention"}


@pytest.mark.parametrize("broken", [{"kv_heads": 3}, {"head_dim": 63}])
def test_a_failed_assertion_of_the_engine_is_one_error_event(
    native: list[str], tmp_path: Path, broken: dict[str, Any]
) -> None:
    """Models whose header loads and whose graph cannot be: the first fails while it is built, the other in threads."""
    shape = replace(scaled_down(find_shape("smollm2-135m")), **broken)
    synthesise(shape, "F16", tmp_path / "broken.gguf")
    ran = Ran(native, tmp_path, job(tmp_path / "broken.gguf", threads=2))
    assert ran.code == 1
    failed = ran.one(Failed)
    assert failed.kind == "engine_abort"
    assert "GGML_ASSERT" in failed.message
    assert ran.events[-1].event == "done"


def test_a_setting_that_the_engine_refuses_is_an_error_event(
    native_program: list[str], tmp_path: Path, tiny_model: Path
) -> None:
    ran = Ran(native_program, tmp_path, {**job(tiny_model), "type_v": "q4_0", "flash_attn": "off"})
    assert ran.code == 1
    assert [e.event for e in ran.events][-2:] == ["error", "done"]


def test_more_memory_than_there_is_is_an_error_event(native: list[str], tmp_path: Path, tiny_model: Path) -> None:
    given = job(tiny_model, workload={})
    given["workload"] |= {"prompt_tokens": 10_000_000}
    ran = Ran(["prlimit", f"--as={2 * 2**30}", *native], tmp_path, given)  # on every machine, and none is brought down
    assert ran.code == 1
    assert [e.event for e in ran.events][-2:] == ["error", "done"]


@pytest.mark.parametrize("cut", [0, 3, 40, 4000, -100_000])
def test_a_cut_off_model_is_one_clear_error(native: list[str], tmp_path: Path, tiny_model: Path, cut: int) -> None:
    part = tmp_path / "part.gguf"
    part.write_bytes(tiny_model.read_bytes()[: cut or None] if cut else b"")
    ran = Ran(native, tmp_path, job(part))
    assert ran.code == 1
    assert [e.event for e in ran.events] == ["hello", "error", "done"]


def info(program: list[str], *words: str) -> dict[str, Any]:
    done = subprocess.run([*program, "info", *words], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_info_tells_the_same_of_this_machine_as_the_python_runner(program_of: Program, native: list[str]) -> None:
    globs = ["/proc/cpuinfo", "/etc/os-release", "/sys/devices/system/cpu/cpu[0-9]*/topology/core_id"]
    globs += ["uname:machine", "sysconf:SC_PAGE_SIZE", "sysconf:none", "other:x", "/none/*"]
    found = {r["path"]: r for r in info(native, *globs)["files"]}
    wanted = {r["path"]: r for r in info(program_of("python"), *globs)["files"]}
    assert found.keys() == wanted.keys()
    different = {"/proc/cpuinfo"}  # it holds the clock of the moment
    if any("qemu" in word for word in native):
        different.add("uname:machine")
    for path in wanted.keys() - different:
        assert found[path] == wanted[path]


def test_facts_come_out_of_its_info(native: list[str]) -> None:
    told = info(native, *linux.inventory_globs())
    facts = linux.facts(Inventory.model_validate({"entries": told["files"]}), {"engines": told["engines"]})
    assert facts.machine == told["machine"]
    assert facts.logical_cores
    assert facts.ram_bytes
    assert facts.engines["llama.cpp"]
    assert told["llama.cpp"]["accelerators"][0]["kind"] == "cpu"


def test_info_reads_under_a_root_and_nothing_that_could_block(native_program: list[str], tmp_path: Path) -> None:
    import os

    zone = tmp_path / "odd[1]" / "sys" / "zone"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("40000\n")
    os.mkfifo(zone / "pipe")
    files = info(native_program, "--root", str(tmp_path / "odd[1]"), "/sys/*/*")["files"]
    assert files == [{"path": "/sys/zone/temp", "text": "40000\n"}]


def test_the_devices_peaks_are_measured(native_program: list[str]) -> None:
    done = subprocess.run([*native_program, "probe-peak", "2"], capture_output=True, text=True, check=True)
    (peak,) = json.loads(done.stdout)["peaks"]
    assert (peak["device"], peak["kind"]) == ("CPU", "cpu")
    assert set(peak["matmul_flop_per_s"]) == {"f32", "f16", "q8_0", "q4_0"}
    assert set(peak["matvec_bytes_per_s"]) == {"f16", "q8_0", "q4_0"}
    assert 1e9 < min(peak["matmul_flop_per_s"].values()) < 1e14
    assert 1e8 < peak["read_bytes_per_s"] < 1e12


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "not JSON"),
        ("[]", "a JSON object"),
        ('{"probes": []}', "out"),
        ('{"out": "x", "probes": [3]}', "probes[0]"),
        ('{"out": "x", "probes": [{"name": "a"}]}', "probes[0]"),
        ('{"out": "x", "probes": [{"name": "a", "read": "/a", "exec": ["b"]}]}', "probes[0]"),
        ('{"out": "x", "period_ms": 0, "probes": []}', "period_ms"),
        ('{"out": "/nowhere/at/all", "probes": []}', "/nowhere/at/all"),
    ],
)
def test_a_bad_spec_is_one_clear_error(native_program: list[str], tmp_path: Path, spec: str, said: str) -> None:
    (tmp_path / "spec.json").write_text(spec)
    words = [*native_program, "sample", str(tmp_path / "spec.json")]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
