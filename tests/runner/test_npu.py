"""The engine for ONNX Runtime on Qualcomm's NPU, as the x86-64 libraries of its package emulate it."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from melt.models.onnx.synth import Lengths, synthesise_onnx
from melt.models.shapes.zoo import find_shape, scaled_down
from melt.spec.events import Compiled, Failed, Hello, Iteration, ModelLoaded, Ops, Warned
from tests.runner.conftest import ONNX, Program
from tests.runner.running import Ran, job

NAMES = {"transformer": "smollm2-135m", "ssm": "mamba2-130m", "hybrid": "granite-4.0-h-350m"}


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny models of fixed shapes: chunks of 16 tokens, so that a prompt of 40 fills two and a half."""
    where = tmp_path_factory.mktemp("fixed")
    shapes = {kind: scaled_down(find_shape(name)) for kind, name in NAMES.items()}
    return {k: synthesise_onnx(s, "w8a16", where / k, lengths=Lengths(16, 64)) for k, s in shapes.items()}


@pytest.fixture
def runner(program_of: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("MELT_COMPILED", str(tmp_path / "compiled"))
    return program_of(ONNX)


def on_npu(folder: Path, **more: Any) -> dict[str, Any]:
    return {**job(folder), "accelerator": "npu", "iterations": 1, "warmups": 0, **more}


def tokens_of(ran: Ran) -> tuple[int, ...]:
    return tuple(next(e for e in ran.events if isinstance(e, Iteration) and not e.warmup).tokens)


@pytest.mark.parametrize("kind", NAMES)
def test_it_goes_on_with_the_cpus_tokens_and_says_that_it_is_emulated(
    runner: list[str], tmp_path: Path, fixed: dict[str, Path], kind: str
) -> None:
    ran = Ran(runner, tmp_path, on_npu(fixed[kind]))
    on_cpu = Ran(runner, tmp_path, job(fixed[kind]))
    assert tokens_of(ran) == tokens_of(on_cpu)
    loaded, host = ran.one(ModelLoaded), on_cpu.one(ModelLoaded)
    assert (loaded.effective_accelerator, loaded.effective_device) == ("npu", "QNN")
    assert "x86_64" in loaded.emulated
    assert host.emulated is None
    assert (loaded.cache_type, loaded.ubatch) == (host.cache_type, host.ubatch) == ("u16", 16)
    assert {("QNN", "npu"), ("CPU", "cpu")} <= {(a.name, a.kind) for a in ran.one(Hello).accelerators}
    assert ran.one(Hello).engine_build["qnn_provider"]
    assert "qnn_provider" not in on_cpu.one(Hello).engine_build  # two versions of it are no reason to part these
    assert not [e for e in ran.events if isinstance(e, Warned)]


def test_a_graph_is_compiled_once_and_the_time_of_it_is_no_part_of_loading(
    runner: list[str], tmp_path: Path, fixed: dict[str, Path]
) -> None:
    folder, left = tmp_path / "m", tmp_path / "compiled" / ".of-a-killed-run"
    shutil.copytree(fixed["ssm"], folder)
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    first, again = (Ran(runner, tmp_path, on_npu(folder, profile_ops=True)) for _ in range(2))
    made, found = ([e for e in ran.events if isinstance(e, Compiled)] for ran in (first, again))
    assert [(c.graph, c.cached) for c in made] == [("decode.onnx", False), ("prefill.onnx", False)]
    assert [(c.graph, c.cached, c.t_start_ns) for c in found] == [
        ("decode.onnx", True, None),
        ("prefill.onnx", True, None),
    ]
    stamps = [made[0].t_start_ns, made[0].t_end_ns, made[1].t_start_ns, made[1].t_end_ns]
    stamps.append(first.one(ModelLoaded).t_start_ns)
    assert stamps == sorted(s for s in stamps if s is not None)
    assert tokens_of(first) == tokens_of(again)
    assert {r.device for e in again.events if isinstance(e, Ops) for r in e.rows} == {"QNN"}
    assert [p.name for p in (tmp_path / "compiled").iterdir() if p.name.startswith(".")] == []
    # Other weights are another graph.
    data = folder / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-1] + b"\x55")
    assert not any(e.cached for e in Ran(runner, tmp_path, on_npu(folder)).events if isinstance(e, Compiled))


def cut_short(kept: Path, name: str) -> None:
    (kept / name).write_bytes((kept / name).read_bytes()[:-1])


def linked_to_nowhere(kept: Path) -> None:
    kept.rename(kept.with_name("away"))
    kept.symlink_to("nowhere")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a graph cut short": lambda kept: cut_short(kept, "compiled.onnx"),
    "no graph": lambda kept: (kept / "compiled.onnx").unlink(),
    "what it refers to cut short": lambda kept: cut_short(kept, "compiled_qnn.bin"),
    "nothing told of it": lambda kept: (kept / "placement.json").unlink(),
    "other JSON": lambda kept: (kept / "placement.json").write_text("[1]"),
    "words for numbers": lambda kept: (kept / "placement.json").write_text(
        json.dumps({**json.loads((kept / "placement.json").read_text()), "placed": {"QNN": {"Add": "x"}}})
    ),
    "a link to nowhere": linked_to_nowhere,
    "a file": lambda kept: kept.rename(kept.with_name("away")) and kept.write_text(""),
}


def test_a_damaged_compiled_graph_is_compiled_again(runner: list[str], tmp_path: Path, fixed: dict[str, Path]) -> None:
    compiled = tmp_path / "compiled"
    whole = tokens_of(Ran(runner, tmp_path, on_npu(fixed["ssm"])))
    names = sorted(p.name for p in compiled.iterdir())
    for damage in DAMAGES.values():
        damage(compiled / names[0])
        ran = Ran(runner, tmp_path, on_npu(fixed["ssm"]))
        assert sorted(e.cached for e in ran.events if isinstance(e, Compiled)) == [False, True]
        assert tokens_of(ran) == whole
        shutil.rmtree(compiled / "away", ignore_errors=True)
    assert sorted(p.name for p in compiled.iterdir()) == names
    assert all(e.cached for e in Ran(runner, tmp_path, on_npu(fixed["ssm"])).events if isinstance(e, Compiled))


def test_a_compile_whose_runner_has_gone_ends_and_leaves_nothing(
    runner: list[str], tmp_path: Path, fixed: dict[str, Path]
) -> None:
    made = tmp_path / "draft" / "made"
    made.mkdir(parents=True)
    given = json.dumps(on_npu(fixed["transformer"])) + "\n"
    argv = [*runner, "compile", str(fixed["transformer"] / "decode.onnx"), str(made)]
    gone = subprocess.run(argv, input=given, capture_output=True, text=True, timeout=60, check=False)
    assert (gone.returncode, gone.stdout) == (3, "")
    assert not made.parent.exists()


def with_erf(folder: Path, out: Path) -> Path:
    """The model with one operator more, which Hexagon does not take."""
    shutil.copytree(folder, out)
    for name in ("prefill.onnx", "decode.onnx"):
        model = onnx.load(out / name, load_external_data=False)
        at, head = next((i, n) for i, n in enumerate(model.graph.node) if n.name == "/lm_head/Gemm")
        model.graph.node.insert(at, helper.make_node("Erf", [head.input[0]], ["erf"], name="/lm_head/Erf"))
        model.graph.node[at + 1].input[0] = "erf"
        (out / name).write_bytes(model.SerializeToString())
    return out


def test_an_operator_that_it_does_not_take_is_named_with_shape_and_type(
    runner: list[str], tmp_path: Path, fixed: dict[str, Path]
) -> None:
    odd = with_erf(fixed["transformer"], tmp_path / "odd")
    failed = Ran(runner, tmp_path, on_npu(odd)).one(Failed)
    assert failed.kind == "placement"
    assert "Erf '/lm_head/Erf' of float[1, 256]" in failed.message
    assert not list((tmp_path / "compiled").iterdir())


def test_the_cpu_may_compute_it_where_that_is_allowed_and_every_node_is_told(
    runner: list[str], tmp_path: Path, fixed: dict[str, Path]
) -> None:
    odd = with_erf(fixed["transformer"], tmp_path / "odd")
    for _ in range(2):  # also where the compiled graph is there already
        ran = Ran(runner, tmp_path, on_npu(odd, cpu_fallback=True))
        assert ran.one(ModelLoaded).effective_accelerator == "npu"
        assert "CPU (Erf 2)" in ran.one(Warned).message
    growing = synthesise_onnx(scaled_down(find_shape("smollm2-135m")), "int4", tmp_path / "int4")
    ran = Ran(runner, tmp_path, on_npu(growing, cpu_fallback=True))
    assert ran.one(ModelLoaded).effective_accelerator == "cpu"


def test_a_cell_longer_than_the_cache_is_one_clear_error(
    runner: list[str], tmp_path: Path, fixed: dict[str, Path]
) -> None:
    longer = {"workload": {"prompt_tokens": 61, "gen_tokens": 5}}
    failed = Ran(runner, tmp_path, {**job(fixed["transformer"]), **longer}).one(Failed)
    assert failed.kind == "context"
    assert tokens_of(Ran(runner, tmp_path, {**job(fixed["ssm"]), **longer}))
