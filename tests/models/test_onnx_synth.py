import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from melt.errors import ModelError
from melt.models.formats import inspect
from melt.models.gguf.synth import design
from melt.models.onnx.graph import Precision
from melt.models.onnx.layers import ARCHITECTURES
from melt.models.onnx.synth import describe_onnx, synthesise_onnx
from melt.models.shapes.zoo import Shape, find_shape, load_zoo, scaled_down
from tests.models.onnx_reference import Reference

FAMILIES = ("smollm2-135m", "tinyllama-1.1b", "qwen2.5-0.5b", "mamba2-130m", "granite-4.0-h-350m", "falcon-h1-0.5b")
TOKENS = [3, 141, 59, 26, 5, 358, 97, 9, 323, 84]
# How far a graph's arithmetic is from that of 64-bit floats: 4-bit products also round activations to 8 bits.
TOLERANCE = {"fp32": 2e-5, "fp16": 2e-2, "int4": 6e-2}
GROWING: tuple[Precision, ...] = ("int4", "fp16", "fp32")  # test_onnx_static_shapes.py has the other
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


@pytest.fixture(params=FAMILIES)
def tiny_shape(request: pytest.FixtureRequest) -> Shape:
    return scaled_down(load_zoo()[request.param])


def logits_of(folder: Path, pieces: list[list[int]]) -> list[Any]:
    """The last logits after each piece of a prompt, the state handed on from one to the next."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    state: dict[str, Any] = {}
    for given in session.get_inputs():
        if given.name.startswith("past"):
            dims = [d if isinstance(d, int) else {"batch_size": 1}.get(d, 0) for d in given.shape]
            state[given.name] = np.zeros(dims, _TYPES[given.type])
    out, total = [], 0
    for piece in pieces:
        total += len(piece)
        feeds = {"input_ids": np.array([piece]), **state}
        if any(i.name == "attention_mask" for i in session.get_inputs()):
            feeds["attention_mask"] = np.ones((1, total), np.int64)
        found = dict(zip(names, session.run(None, feeds), strict=True))
        state = {name: found[re.sub(r"^past(_key_values)?\.", "present.", name)] for name in state}
        out.append(found["logits"][0, 0])
    return out


@pytest.mark.parametrize("precision", GROWING)
def test_the_graph_computes_the_published_equations(tiny_shape: Shape, precision: Precision, tmp_path: Path) -> None:
    folder = synthesise_onnx(tiny_shape, precision, tmp_path / "m")
    reference = Reference(tiny_shape, folder)
    expected = [reference.step(token) for token in TOKENS]
    ends = (6, 7, 8, 10)  # a chunk, two single tokens, and a chunk that goes on
    pieces = [TOKENS[a:b] for a, b in zip((0, *ends), ends, strict=False)]
    for end, logits in zip(ends, logits_of(folder, pieces), strict=True):
        error = np.abs(logits - expected[end - 1]).max() / np.abs(expected[end - 1]).max()
        assert error < TOLERANCE[precision], (end, error)
    assert not np.allclose(expected[5], expected[9])


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    shape = scaled_down(load_zoo()["granite-4.0-h-350m"])
    folders = [synthesise_onnx(shape, "int4", tmp_path / str(n), seed=seed) for n, seed in enumerate((3, 3, 4))]
    first, again, other = ([(f / name).read_bytes() for name in ("model.onnx", "model.onnx.data")] for f in folders)
    assert first == again
    assert first[1] != other[1]
    # Pinned: folders made on different days and machines must hold the same weights.
    usual = synthesise_onnx(scaled_down(load_zoo()["mamba2-130m"]), "int4", tmp_path / "usual") / "model.onnx.data"
    assert hashlib.sha256(usual.read_bytes()).hexdigest() == PINNED


PINNED = "99912dd2fb390c18082df0c589907ad96fa83da18934d0b48cc25e5273f075e9"


def test_shapes_have_as_many_parameters_as_their_ggufs() -> None:
    zoo = load_zoo()
    for shape in (s for s in zoo.values() if s.arch in ARCHITECTURES):
        info = describe_onnx(shape, "int4", f"synth:{shape.name}@onnx-int4")
        expected = sum(t.elements for t in design(shape, "F16").header.tensors if t.name != "rope_freqs.weight")
        assert info.n_params == expected, shape.name
        assert (info.quant, info.synthetic, info.d_ff) == ("int4", True, shape.ff)


def test_weights_are_sane_and_a_tied_matrix_is_stored_once(tmp_path: Path) -> None:
    for precision in GROWING:
        folder = synthesise_onnx(scaled_down(load_zoo()["smollm2-135m"]), precision, tmp_path / precision)
        reference = Reference(scaled_down(load_zoo()["smollm2-135m"]), folder)
        for values in (reference.matrix("model.layers.0.mlp.down_proj"), reference.vocabulary()):
            assert 0.008 < values.std() < 0.08, precision
            assert abs(values.mean()) < 0.004
            assert len(np.unique(values)) > 200
        tensors = onnx.load(folder / "model.onnx", load_external_data=False).graph.initializer
        extents = {(e["offset"], e["length"]) for t in tensors if (e := {x.key: x.value for x in t.external_data})}
        assert sum(int(length) for _, length in extents) <= (folder / "model.onnx.data").stat().st_size


def test_what_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="rwkv7") as caught:
        synthesise_onnx(find_shape("rwkv7-0.1b"), "int4", tmp_path / "m")
    assert all(arch in caught.value.hint for arch in ARCHITECTURES)
    shape = scaled_down(load_zoo()["smollm2-135m"])
    with pytest.raises(ModelError, match="seed"):
        synthesise_onnx(shape, "int4", tmp_path / "m", seed=-1)
    with pytest.raises(ModelError, match="blocks of 32"):
        synthesise_onnx(replace(shape, d_model=250), "int4", tmp_path / "m")
    (tmp_path / "there").mkdir()
    with pytest.raises(ModelError, match="exists"):
        synthesise_onnx(shape, "int4", tmp_path / "there")

    def fail(done: int, total: int) -> None:
        if done > total // 2:
            raise OSError(28, "No space left on device")

    with pytest.raises(ModelError, match="No space left"):
        synthesise_onnx(shape, "int4", tmp_path / "m", progress=fail)
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


def test_the_config_is_onnxruntime_genais_and_the_graph_says_that_it_is_synthetic(tmp_path: Path) -> None:
    shape = scaled_down(load_zoo()["granite-4.0-h-350m"])
    folder = synthesise_onnx(shape, "int4", tmp_path / "m", seed=5)
    config = json.loads((folder / "genai_config.json").read_text())
    decoder = config["model"]["decoder"]
    assert (decoder["hidden_size"], decoder["num_hidden_layers"], config["model"]["vocab_size"]) == (256, 4, 512)
    assert decoder["inputs"]["past_recurrent_names"] == "past.%d.recurrent"
    assert set(config) == {"model", "search"}  # it reads no folder with a key of anybody else's
    told = {e.key: e.value for e in onnx.load(folder / "model.onnx", load_external_data=False).metadata_props}
    assert (told["melt.synthetic"], told["melt.synthetic.seed"]) == (shape.name, "5")
    assert inspect(folder).context_trained == shape.context


@pytest.mark.slow
def test_a_model_of_a_billion_needs_little_memory(tmp_path: Path) -> None:
    script = (
        "import re, sys; from pathlib import Path\n"
        "from melt.models import find_shape\n"
        "from melt.models.onnx.synth import synthesise_onnx\n"
        "calls = []\n"
        "out = Path(sys.argv[1])\n"
        "synthesise_onnx(find_shape('llama-3.2-1b'), 'int4', out, progress=lambda d, t: calls.append((d, t)))\n"
        "assert calls == sorted(calls) and calls[-1][0] == calls[-1][1] and len(calls) > 50\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])\n"
    )
    out = tmp_path / "1b"
    done = subprocess.run([sys.executable, "-c", script, str(out)], capture_output=True, text=True, check=True)
    assert 600e6 < (out / "model.onnx.data").stat().st_size < 900e6
    assert int(done.stdout) * 1024 < 300e6
