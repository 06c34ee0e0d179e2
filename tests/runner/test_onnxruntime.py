"""The engine for ONNX Runtime: its tokens, its memory, its operators, and what it refuses."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto

from melt.drivers.runner import runner_path
from melt.models import inspect, predict_memory
from melt.models.onnx.graph import Precision
from melt.models.onnx.synth import synthesise_onnx
from melt.models.shapes.zoo import Shape, find_shape, scaled_down
from melt.spec.events import Failed, Hello, Iteration, ModelLoaded, Ops, Warned
from tests.models.onnx_reference import Reference
from tests.runner.conftest import ONNX, Program
from tests.runner.running import Ran, job
from tests.runner.test_native import CATEGORIES

FAMILIES = ("smollm2-135m", "qwen2.5-0.5b", "mamba2-130m", "granite-4.0-h-350m", "falcon-h1-0.5b")
PROMPT, GEN = 40, 5


@pytest.fixture
def runner(program_of: Program) -> list[str]:
    return program_of(ONNX)


def tiny(name: str) -> Shape:
    return scaled_down(find_shape(name))


def prompt_of(vocab: int) -> list[int]:
    """splitmix64 from seed 0, as every runner makes it."""
    state, out, mask = 0, [], 2**64 - 1
    for _ in range(PROMPT):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        out.append((z ^ (z >> 31)) % vocab)
    return out


def greedy_tokens(shape: Shape, folder: Path) -> list[int]:
    """What the published equations go on with."""
    reference = Reference(shape, folder)
    for token in prompt_of(shape.vocab):
        logits = reference.step(token)
    tokens = [int(logits.argmax())]
    while len(tokens) < GEN:
        tokens.append(int(reference.step(tokens[-1]).argmax()))
    return tokens


def tokens_of(ran: Ran) -> set[tuple[int, ...]]:
    return {e.tokens for e in ran.events if isinstance(e, Iteration) and not e.warmup}


@pytest.mark.parametrize("ubatch", [7, 512])
@pytest.mark.parametrize("name", FAMILIES)
def test_its_tokens_are_those_of_the_published_equations(
    runner: list[str], tmp_path: Path, name: str, ubatch: int
) -> None:
    """Whatever the chunks: caches and states go on from one to the next, and from one pass to the next."""
    folder = synthesise_onnx(tiny(name), "fp32", tmp_path / "m")
    ran = Ran(runner, tmp_path, {**job(folder), "ubatch": ubatch})
    assert tokens_of(ran) == {tuple(greedy_tokens(tiny(name), folder))}


def changed(folder: Path, change: Callable[[onnx.ModelProto], object], config: dict[str, Any] | None = None) -> Path:
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    change(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    path = folder / "genai_config.json"
    told = json.loads(path.read_text())
    told["model"]["decoder"]["inputs"] |= (config or {}).get("inputs", {})
    path.write_text(json.dumps(told))
    return folder


def with_all_logits(model: onnx.ModelProto) -> None:
    """As onnxruntime-genai's builder gives them by default: of every position."""
    last = next(n for n in model.graph.node if n.name == "/model/last_token/Gather")
    for node in model.graph.node:
        node.input[:] = [last.input[0] if i == last.output[0] else i for i in node.input]
    model.graph.node.remove(last)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "sequence_length"


def with_positions(model: onnx.ModelProto) -> None:
    """The angles by an input of its own; the graph takes it in without using it otherwise."""
    ids = onnx.helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["batch_size", "sequence_length"])
    model.graph.input.append(ids)
    attention = [n for n in model.graph.node if n.op_type == "GroupQueryAttention"]
    for node in attention:
        node.input.append("position_ids")


@pytest.mark.parametrize("ubatch", [16, 512])
def test_a_graph_as_the_builder_writes_it_gives_the_same_tokens(runner: list[str], tmp_path: Path, ubatch: int) -> None:
    folder = synthesise_onnx(tiny("tinyllama-1.1b"), "fp32", tmp_path / "m")
    expected = tuple(greedy_tokens(tiny("tinyllama-1.1b"), folder))
    changed(folder, with_all_logits)
    assert tokens_of(Ran(runner, tmp_path, {**job(folder), "ubatch": ubatch})) == {expected}
    changed(folder, with_positions, {"inputs": {"position_ids": "position_ids"}})
    assert tokens_of(Ran(runner, tmp_path, {**job(folder), "ubatch": ubatch})) == {expected}


def test_another_reader_of_such_folders_gives_the_same_tokens(
    runner: list[str], tmp_path: Path, onnx_models: dict[str, Path]
) -> None:
    """onnxruntime-genai, whose format it is."""
    import onnxruntime_genai as genai

    folder = onnx_models["transformer"]
    model = genai.Model(str(folder))
    params = genai.GeneratorParams(model)
    params.set_search_options(max_length=PROMPT + GEN, do_sample=False)
    generator = genai.Generator(model, params)
    generator.append_tokens(prompt_of(512))
    while not generator.is_done():
        generator.generate_next_token()
    theirs = tuple(int(token) for token in generator.get_sequence(0)[PROMPT:])
    assert len(theirs) == GEN
    assert tokens_of(Ran(runner, tmp_path, job(folder))) == {theirs}


@pytest.mark.parametrize("precision", ["int4", "fp16"])
@pytest.mark.parametrize("name", ["smollm2-135m", "granite-4.0-h-350m"])
def test_other_precisions_run(runner: list[str], tmp_path: Path, name: str, precision: Precision) -> None:
    folder = synthesise_onnx(tiny(name), precision, tmp_path / "m")
    loaded = Ran(runner, tmp_path, job(folder)).one(ModelLoaded)
    caches = {b.kind: b.bytes for b in loaded.buffers}
    info = inspect(folder)
    assert caches["kv"] == predict_memory(info, PROMPT + GEN).kv_bytes
    assert caches.get("state", 0) == predict_memory(info, PROMPT + GEN).state_bytes


def test_says_what_it_is_and_where_it_computes(runner: list[str], tmp_path: Path, onnx_models: dict[str, Path]) -> None:
    ran = Ran(runner, tmp_path, job(onnx_models["hybrid"]))
    hello, loaded = ran.one(Hello), ran.one(ModelLoaded)
    assert (hello.runner, hello.engine) == ("melt-runner-python", "onnxruntime")
    assert re.fullmatch(r"\d+\.\d+\.\d+", hello.engine_version)
    assert re.fullmatch(r"[0-9a-f]{7,40}", hello.engine_build["commit"])
    assert ("CPU", "cpu") in [(a.name, a.kind) for a in hello.accelerators]
    assert (loaded.effective_accelerator, loaded.effective_device) == ("cpu", "CPU")
    assert (loaded.n_layers, loaded.n_heads, loaded.n_kv_heads, loaded.n_ctx) == (4, 4, 2, PROMPT + GEN)
    assert not [e for e in ran.events if isinstance(e, Warned)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2-135m", "mamba2-130m"])
def test_memory_is_explained_and_predicted_at_full_size(runner: list[str], tmp_path: Path, name: str) -> None:
    folder = synthesise_onnx(find_shape(name), "int4", tmp_path / "m")
    given = job(folder)
    given |= {"iterations": 1, "warmups": 0, "workload": {**given["workload"], "prompt_tokens": 600, "gen_tokens": 4}}
    ran = Ran(runner, tmp_path, given)
    loaded = ran.one(ModelLoaded)
    buffers = sum(b.bytes for b in loaded.buffers)
    predicted = predict_memory(inspect(folder), 604)
    peak = max(e.memory.peak_rss_bytes or 0 for e in ran.events if isinstance(e, Iteration))
    assert predicted.total_bytes == pytest.approx(buffers, rel=0.10)
    assert peak == pytest.approx(buffers + loaded.base_rss_bytes + loaded.tables_bytes, rel=0.07)


def test_the_operator_pass_names_every_kind_of_work(
    runner: list[str], tmp_path: Path, onnx_models: dict[str, Path]
) -> None:
    wanted = {
        "transformer": {"attention", "gemm", "norm", "embedding", "output", "elementwise"},
        "ssm": {"scan", "conv", "gemm", "norm", "embedding", "output", "elementwise", "copy"},
        "hybrid": {"attention", "scan", "conv", "gemm", "norm", "embedding", "output"},
    }
    for kind, expected in wanted.items():
        ran = Ran(runner, tmp_path, {**job(onnx_models[kind]), "profile_ops": True, "ubatch": 16})
        assert [e.event for e in ran.events][-3:] == ["ops", "ops", "done"]
        for ops, tokens in zip((e for e in ran.events if isinstance(e, Ops)), (PROMPT, GEN), strict=True):
            assert expected <= {r.category for r in ops.rows} <= CATEGORIES - {"other"}
            assert {r.device for r in ops.rows} == {"CPU"}
            assert (ops.context, ops.tokens) == (PROMPT, tokens)
            assert 0 < sum(r.total_ns for r in ops.rows) <= (ops.wall_ns or 0)
            calls = 3 if tokens == PROMPT else GEN  # 40 tokens in chunks of 16
            assert sum(r.count for r in ops.rows if r.category == "output") == calls


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"accelerator": "npu"}, "placement", "ReduceSum"),
    ({"accelerator": "npu", "device": "CoreML"}, "accelerator", "CoreML"),
    ({"accelerator": "gpu"}, "accelerator", "CUDA"),
    ({"device": "Xnnpack"}, "accelerator", "Xnnpack"),
    ({"type_k": "q8_0"}, "bad_job", "type_k"),
    ({"flash_attn": "on"}, "bad_job", "flash_attn"),
    ({"load_mode": "read"}, "bad_job", "load_mode: must be mmap"),
    ({"workload": {"prompt_tokens": 40_000, "gen_tokens": 5}}, "context", "32768"),
]


@pytest.mark.parametrize(("changes", "kind", "said"), REFUSED)
def test_what_the_engine_cannot_do_is_one_clear_error(
    runner: list[str], tmp_path: Path, onnx_models: dict[str, Path], changes: dict[str, Any], kind: str, said: str
) -> None:
    failed = Ran(runner, tmp_path, {**job(onnx_models["transformer"]), **changes}).one(Failed)
    assert failed.kind == kind
    assert said in failed.message


def without(model: onnx.ModelProto, name: str) -> None:
    for found in (model.graph.input, model.graph.output):
        for value in [v for v in found if v.name == name]:
            found.remove(value)


def typed(model: onnx.ModelProto, name: str, type_: int) -> None:
    next(v for v in (*model.graph.input, *model.graph.output) if v.name == name).type.tensor_type.elem_type = type_


BROKEN: dict[str, tuple[Callable[[onnx.ModelProto], object], str]] = {
    "no cache goes in": (lambda m: without(m, "past_key_values.1.key"), "past_key_values.1.key"),
    "no cache comes out": (lambda m: without(m, "present.1.key"), "present.1.key"),
    "a newer opset": (lambda m: setattr(m.opset_import[0], "version", 99), "opset"),
    "tokens that are floats": (lambda m: typed(m, "input_ids", TensorProto.FLOAT), "input_ids"),
    "an unknown operator": (lambda m: setattr(m.graph.node[9], "op_type", "Nonsense"), "Nonsense"),
    "weights elsewhere": (
        lambda m: setattr(
            next(e for t in m.graph.initializer for e in t.external_data if e.key == "location"), "value", "../x"
        ),
        "escapes",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_graph_is_one_clear_error(
    runner: list[str], tmp_path: Path, onnx_models: dict[str, Path], name: str
) -> None:
    change, said = BROKEN[name]
    folder = tmp_path / "broken"
    shutil.copytree(onnx_models["transformer"], folder)
    ran = Ran(runner, tmp_path, job(changed(folder, change)))
    assert ran.one(Failed).kind == "model_load"
    assert said in ran.one(Failed).message
    assert "Traceback" not in ran.stderr


def apart(folder: Path, where: Path) -> dict[str, Path]:
    """A model's files as a driver places them: each in a folder of its own, under another name."""
    where.mkdir(exist_ok=True)
    placed = {}
    for n, file in enumerate(sorted(folder.iterdir())):
        placed[file.name] = where / f"{n:04x}-{file.name}"
        shutil.copy(file, placed[file.name])
    return placed


def test_files_that_lie_apart_are_brought_together(
    tmp_path: Path, runner: list[str], onnx_models: dict[str, Path]
) -> None:
    placed = apart(onnx_models["hybrid"], tmp_path / "device")
    config = placed.pop("genai_config.json")
    (tmp_path / "melt-model.killed").mkdir()  # what a runner left that was killed
    words = [w for name, place in placed.items() for w in ("--beside", name, str(place))]
    ran = Ran([*runner, "run", *words], tmp_path, {**job(onnx_models["hybrid"]), "model": str(config)}, command=False)
    assert ran.code == 0
    assert tokens_of(ran) == tokens_of(Ran(runner, tmp_path, job(onnx_models["hybrid"])))
    assert not list(tmp_path.glob("melt-model.*"))


@pytest.mark.parametrize("name", ["../escaped", "/escaped", ".", "a/../../escaped"])
def test_no_name_leaves_the_folder(tmp_path: Path, runner: list[str], onnx_models: dict[str, Path], name: str) -> None:
    config = apart(onnx_models["hybrid"], tmp_path / "device")["genai_config.json"]
    words = ["--beside", name, str(config)]
    ran = Ran([*runner, "run", *words], tmp_path, {**job(onnx_models["hybrid"]), "model": str(config)}, command=False)
    assert ran.one(Failed).kind == "bad_job"
    assert not list(tmp_path.rglob("escaped"))


def test_what_is_there_is_told_by_info() -> None:
    done = subprocess.run([sys.executable, str(runner_path()), "info"], capture_output=True, text=True, check=True)
    assert {"llama.cpp", "onnxruntime"} <= set(json.loads(done.stdout)["engines"])


def test_where_nodes_lie_is_held_against_what_was_asked(runner_path: None) -> None:
    from job import parse_job  # type: ignore[import-not-found,unused-ignore]
    from onnx_placement import effective_accelerator, fallback  # type: ignore[import-not-found,unused-ignore]

    asked = parse_job({**job("m"), "engine": "onnxruntime", "accelerator": "gpu"})
    whole = {"CUDA": Counter(MatMulNBits=10, Add=5)}
    mostly = {"CUDA": Counter(MatMulNBits=9, Add=5), "CPU": Counter(MatMulNBits=1, Gather=3)}
    hardly = {"CUDA": Counter(Add=90), "CPU": Counter(MatMulNBits=10)}
    found = [effective_accelerator(p, asked, "CUDA") for p in (whole, mostly, hardly, {})]
    assert found == ["gpu", "gpu", "cpu", None]
    assert fallback(whole, "CUDA") == ""
    on_cpu = parse_job({**job("m"), "engine": "onnxruntime"})
    assert effective_accelerator({}, on_cpu, "CPU") == "cpu"
    assert fallback(mostly, "CUDA") == "asked for CUDA: 4 nodes on CPU (Gather 3, MatMulNBits 1)"
