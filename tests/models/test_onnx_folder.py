"""ONNX model folders: what they are read as, and everything that can be wrong with one."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.errors import ModelError
from melt.models import ModelCache, inspect, peek, predict_memory, resolve
from melt.models.onnx.folder import read_folder
from melt.models.onnx.synth import synthesise_onnx
from melt.models.shapes.zoo import load_zoo, scaled_down

Change = Callable[[Path], object]


@pytest.fixture(scope="session")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesise_onnx(scaled_down(load_zoo()["granite-4.0-h-350m"]), "int4", tmp_path_factory.mktemp("m") / "m")


def edited(change: Callable[[onnx.ModelProto], object]) -> Change:
    def on(folder: Path) -> None:
        path = folder / "model.onnx"
        model = onnx.load(path, load_external_data=False)
        change(model)
        path.write_bytes(model.SerializeToString())

    return on


def configured(change: Callable[[dict[str, Any]], object]) -> Change:
    def on(folder: Path) -> None:
        path = folder / "genai_config.json"
        config = json.loads(path.read_text())
        change(config)
        path.write_text(json.dumps(config))

    return on


def decoder(**changes: Any) -> Change:
    return configured(lambda c: c["model"]["decoder"].update(changes))


def without_input(model: onnx.ModelProto, name: str) -> None:
    del model.graph.input[[i.name for i in model.graph.input].index(name)]


def without_output(model: onnx.ModelProto, name: str) -> None:
    del model.graph.output[[o.name for o in model.graph.output].index(name)]


def with_dim(model: onnx.ModelProto, name: str, axis: int, value: int) -> None:
    tensor = next(i for i in model.graph.input if i.name == name).type.tensor_type
    tensor.shape.dim[axis].dim_value = value


def with_rank_1(model: onnx.ModelProto, name: str) -> None:
    del next(i for i in model.graph.input if i.name == name).type.tensor_type.shape.dim[1:]


def without_dim(model: onnx.ModelProto, name: str, axis: int) -> None:
    next(i for i in model.graph.input if i.name == name).type.tensor_type.shape.dim[axis].ClearField("dim_value")


def external(model: onnx.ModelProto, key: str, value: str) -> None:
    tensor = next(t for t in model.graph.initializer if t.external_data)
    next(e for e in tensor.external_data if e.key == key).value = value


def opset(model: onnx.ModelProto, version: int) -> None:
    model.opset_import[0].version = version


def renamed_input(model: onnx.ModelProto, name: str, to: str) -> None:
    next(i for i in model.graph.input if i.name == name).name = to


def linked_outside(folder: Path) -> None:
    data = folder / "model.onnx.data"
    data.rename(folder.parent / "elsewhere")
    data.symlink_to(folder.parent / "elsewhere")


def not_utf8(folder: Path) -> None:
    graph = folder / "model.onnx"
    graph.write_bytes(graph.read_bytes().replace(b"/mlp/", b"\x80mlp/"))


BROKEN: dict[str, tuple[Change, str]] = {
    "no config": (lambda f: (f / "genai_config.json").unlink(), "no genai_config.json"),
    "config is no JSON": (lambda f: (f / "genai_config.json").write_text("{"), "JSON"),
    "config nests": (lambda f: (f / "genai_config.json").write_text("[" * 100_000), "JSON"),
    "config lacks the decoder": (configured(lambda c: c["model"].pop("decoder")), "model.decoder"),
    "layers are words": (decoder(num_hidden_layers="x"), "num_hidden_layers"),
    "the graph is outside": (decoder(filename="../m.onnx"), "filename"),
    "the graph's name has a NUL": (decoder(filename="a\0b"), "filename"),
    "no graph": (lambda f: (f / "model.onnx").unlink(), "model.onnx"),
    "the graph is no graph": (lambda f: (f / "model.onnx").write_bytes(b"\xff" * 999), "no ONNX graph"),
    "the graph is empty": (lambda f: (f / "model.onnx").write_bytes(b""), "no ONNX graph"),
    "names that are no text": (not_utf8, "not UTF-8"),
    "opset too new": (edited(lambda m: opset(m, 9999)), "opset 9999"),
    "no weights": (lambda f: (f / "model.onnx.data").unlink(), "model.onnx.data"),
    "weights cut short": (lambda f: (f / "model.onnx.data").write_bytes(b"x" * 99), "ends at"),
    "weights above the folder": (edited(lambda m: external(m, "location", "../model.onnx.data")), "outside its folder"),
    "weights by an absolute path": (edited(lambda m: external(m, "location", "/etc/passwd")), "outside its folder"),
    "weights by a link outside": (linked_outside, "outside its folder"),
    "weights by a NUL": (edited(lambda m: external(m, "location", "a\0b")), "outside its folder"),
    "an offset that is no number": (edited(lambda m: external(m, "offset", "x")), "does not fit"),
    "an offset below zero": (edited(lambda m: external(m, "offset", "-4096")), "does not fit"),
    "a length that is not the shape's": (edited(lambda m: external(m, "length", "12")), "does not fit"),
    "a key cache is missing": (edited(lambda m: without_input(m, "past_key_values.1.key")), "layer 1 has a value"),
    "no key cache comes out": (edited(lambda m: without_output(m, "present.1.key")), "present.1.key"),
    "a state does not come out": (edited(lambda m: without_output(m, "present.0.recurrent")), "present.0.recurrent"),
    "no layer has its state": (
        configured(lambda c: c["model"]["decoder"]["inputs"].update(past_conv_names="conv.%d")),
        "conv.0",
    ),
    "a cache of another shape": (edited(lambda m: with_dim(m, "past_key_values.1.key", 1, 7)), "past_key_values.1.key"),
    "a state of no fixed shape": (
        edited(lambda m: without_dim(m, "past.0.recurrent", 1)),
        "fixed but for the batch",
    ),
    "an unknown input": (edited(lambda m: renamed_input(m, "attention_mask", "pixels")), "pixels"),
    "no tokens": (edited(lambda m: without_input(m, "input_ids")), "input_ids"),
    "several tokens where one is made": (
        edited(lambda m: with_dim(m, "input_ids", 1, 16)),
        r"16\], and not \[batch, 1\]",
    ),
    "several rows of tokens": (edited(lambda m: with_dim(m, "input_ids", 0, 2)), r"and not \[batch, 1\]"),
    "tokens in no row": (edited(lambda m: with_rank_1(m, "input_ids")), r"and not \[batch, 1\]"),
    "no logits": (edited(lambda m: without_output(m, "logits")), "logits"),
    "a cache that is copied": (configured(lambda c: c["search"].clear()), "share_buffer"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_with_a_folder_is_said(name: str, hybrid: Path, tmp_path: Path) -> None:
    change, said = BROKEN[name]
    folder = tmp_path / "copy"
    shutil.copytree(hybrid, folder)
    change(folder)
    with pytest.raises(ModelError, match=said) as caught:
        inspect(folder)
    assert caught.value.hint
    assert str(folder) in caught.value.message


@given(cut=st.integers(0, 40_000), junk=st.binary(max_size=64), at=st.integers(0, 40_000))
def test_no_damage_to_the_graph_raises_anything_else(
    hybrid: Path, tmp_path: Path, cut: int, junk: bytes, at: int
) -> None:
    folder = tmp_path / "damaged"
    if not folder.exists():
        shutil.copytree(hybrid, folder)
    graph = bytearray((hybrid / "model.onnx").read_bytes())
    graph[at : at + len(junk)] = junk
    (folder / "model.onnx").write_bytes(graph[: cut or None])
    with contextlib.suppress(ModelError):
        inspect(folder)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda x: st.lists(x, max_size=2) | st.dictionaries(st.text(max_size=5), x, max_size=2),
    ),
    where=st.sampled_from(["model", "search", "type", "vocab_size", "decoder", "filename", "inputs", "head_size"]),
)
def test_no_value_in_a_config_raises_anything_else(hybrid: Path, tmp_path: Path, value: Any, where: str) -> None:
    folder = tmp_path / "odd"
    if not folder.exists():
        shutil.copytree(hybrid, folder)
    config = json.loads((hybrid / "genai_config.json").read_text())
    parents = {"type": ("model",), "vocab_size": ("model",), "decoder": ("model",)}
    at = config
    for key in parents.get(where, () if where in ("model", "search") else ("model", "decoder")):
        at = at[key]
    at[where] = value
    (folder / "genai_config.json").write_text(json.dumps(config))
    with contextlib.suppress(ModelError):
        inspect(folder)


def test_a_folder_is_read_as_what_it_is(hybrid: Path) -> None:
    info = inspect(hybrid)
    assert (info.format, info.family, info.arch, info.quant) == ("onnx", "hybrid", "granitehybrid", "int4")
    assert (info.n_attention_layers, info.n_recurrent_layers) == (2, 2)
    assert (info.n_heads, info.n_kv_heads, info.head_dim) == (4, 2, 64)
    assert (info.d_inner, info.d_state, info.d_conv, info.d_ff) == (512, 64, 4, 512)
    assert (info.conv_state_elements, info.ssm_state_elements) == (3 * (512 + 2 * 64), 512 * 64)
    assert info.kv_element_bytes == info.state_element_bytes == 4
    assert info.tied_embedding
    assert info.file_bytes == sum(f.stat().st_size for f in hybrid.iterdir())


def test_other_files_in_the_folder_are_left_there(hybrid: Path, tmp_path: Path, cache: ModelCache) -> None:
    folder = tmp_path / "phi-3.5"
    shutil.copytree(hybrid, folder)
    before = resolve(str(folder), cache)
    (folder / "tokenizer.json").write_text("{}")
    assert read_folder(folder).files == ("genai_config.json", "model.onnx", "model.onnx.data")
    after = resolve(str(folder), cache)
    assert after.sha256 == before.sha256
    assert [f.name for f in after.files] == ["genai_config.json", "model.onnx", "model.onnx.data"]


def test_a_synthetic_reference_is_made_once_and_made_again_when_damaged(cache: ModelCache) -> None:
    ref = "synth:smollm2-135m@onnx-int4"
    foreseen = peek(ref, cache)
    made = resolve(ref, cache)
    assert foreseen is not None
    assert (foreseen.path, foreseen.file_bytes) == ("", made.file_bytes)
    assert foreseen.bytes_by_type == made.bytes_by_type
    assert predict_memory(foreseen, 512) == predict_memory(made, 512)
    data = Path(made.path) / "model.onnx.data"
    stamp = data.stat().st_mtime_ns
    assert resolve(ref, cache).sha256 == made.sha256
    assert data.stat().st_mtime_ns == stamp
    data.write_bytes(b"x")
    assert resolve(ref, cache).sha256 == made.sha256
    assert data.stat().st_size > 1000
    assert cache.prune(0)
    assert not Path(made.path).exists()


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("synth:smollm2-135m@int4", "onnx-int4"),
        ("synth:smollm2-135m@onnx-int5", "onnx-int4"),
        ("synth:rwkv7-0.1b@onnx-int4", "Q4_0"),
    ],
)
def test_a_wrong_reference_says_what_to_write(ref: str, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        peek(ref)
    assert said in caught.value.hint


def test_memory_holds_the_graphs_own_cache_and_the_state_twice(hybrid: Path) -> None:
    info = inspect(hybrid)
    predicted = predict_memory(info, n_ctx=100)
    assert predicted.kv_bytes == 100 * 2 * (2 * 2 * 64) * 4
    assert predicted.state_bytes == 2 * 2 * (3 * 640 + 512 * 64) * 4
    assert predicted.weights_bytes == info.weights_bytes
