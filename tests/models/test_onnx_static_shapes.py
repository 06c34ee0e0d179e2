"""Graphs with fixed shapes of 8-bit weights and 16-bit activations, on the CPU and on the emulated Hexagon."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import onnxruntime_qnn
import pytest

from melt.errors import ModelError
from melt.models.formats import inspect
from melt.models.gguf.synth import design
from melt.models.onnx.synth import Lengths, describe_onnx, synthesise_onnx
from melt.models.shapes.zoo import Shape, load_zoo, scaled_down
from tests.models.onnx_reference import Reference
from tests.models.test_onnx_synth import FAMILIES

LENGTHS = Lengths(chunk_tokens=8, context_tokens=32)
TOKENS = [int(t) for t in np.random.default_rng(3).integers(0, 512, 27)]
READ = 21  # by three calls, the first of which is filled up in front; the others one by one
# How far rounded logits may be from those of 64-bit floats, as root of the mean square over the whole row.
TOLERANCE = {"CPU": 0.002, "QNN": 0.03}


def session(path: Path, provider: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if provider == "QNN":
        if not [d for d in onnxruntime.get_ep_devices() if d.ep_name == "QNN"]:
            onnxruntime.register_execution_provider_library("QNN", onnxruntime_qnn.get_library_path())
        devices = [d for d in onnxruntime.get_ep_devices() if d.ep_name == "QNN"]
        told = {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), "offload_graph_io_quantization": "0"}
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.add_provider_for_devices(devices, told)
    return onnxruntime.InferenceSession(path, options)


class Roller:
    """A folder's two graphs, call by call, with the caches handed on."""

    def __init__(self, folder: Path, provider: str) -> None:
        self.by_tokens = {8: session(folder / "prefill.onnx", provider), 1: session(folder / "decode.onnx", provider)}
        past = [i for i in self.by_tokens[1].get_inputs() if i.name.startswith("past")]
        self.state = {i.name: np.full(i.shape, 2**15, np.uint16) for i in past}
        self.end = 0

    def __call__(self, tokens: list[int]) -> Any:
        """The logits after one token, or after a chunk that may lack some in front."""
        count = 1 if len(tokens) == 1 else 8
        ran, self.end = self.by_tokens[count], self.end + len(tokens)
        shapes = {i.name: i.shape for i in ran.get_inputs()}
        seen = shapes["attention_mask"][1]
        ids = [0] * (count - len(tokens)) + tokens
        fed = {"input_ids": np.array([ids], np.int32), **self.state}
        fed["attention_mask"] = (np.arange(seen) >= seen - self.end).astype(np.int32)[None]
        if "position_ids" in shapes:
            fed["position_ids"] = np.maximum(0, np.arange(self.end - count, self.end)).astype(np.int32)[None]
        found = dict(zip((o.name for o in ran.get_outputs()), ran.run(None, fed), strict=True))
        self.state = {name: found[re.sub(r"^past(_key_values)?\.", "present.", name)] for name in self.state}
        return found["logits"][0, 0]


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shape, Path]:
    shape = scaled_down(load_zoo()[request.param])
    return shape, synthesise_onnx(shape, "w8a16", tmp_path_factory.mktemp("fixed") / "m", lengths=LENGTHS)


@pytest.mark.parametrize("provider", ["CPU", "QNN"])
def test_the_graphs_compute_the_published_equations(made: tuple[Shape, Path], provider: str) -> None:
    """On the emulated processor no node may go elsewhere: the session would not open."""
    shape, folder = made
    reference, roll = Reference(shape, folder), Roller(folder, provider)
    expected = [reference.step(token) for token in TOKENS]
    pieces = [TOKENS[:5], TOKENS[5:13], TOKENS[13:READ], *([t] for t in TOKENS[READ:])]
    end = 0
    for piece in pieces:
        logits, end = roll(piece), end + len(piece)
        error = np.sqrt(((logits - expected[end - 1]) ** 2).mean() / (expected[end - 1] ** 2).mean())
        assert error < TOLERANCE[provider], (end, error)
    assert not np.allclose(expected[5], expected[9])


def test_what_it_will_be_is_known_beforehand(made: tuple[Shape, Path]) -> None:
    shape, folder = made
    found, told = inspect(folder), describe_onnx(shape, "w8a16", "synth:it@onnx-w8a16")
    assert (found.chunk_tokens, found.cache_tokens) == (8, 32 * bool(shape.heads))
    assert (told.n_params, told.quant, told.tied_embedding, told.d_ff) == (
        found.n_params,
        "w8a16",
        shape.tied,
        shape.ff,
    )
    assert found.kv_element_bytes == 2 * bool(shape.heads)


def test_shapes_have_as_many_parameters_as_their_ggufs() -> None:
    for name in ("smollm2-135m", "mamba2-130m", "granite-4.0-h-350m"):
        shape = load_zoo()[name]
        expected = sum(t.elements for t in design(shape, "F16").header.tensors if t.name != "rope_freqs.weight")
        assert describe_onnx(shape, "w8a16", f"synth:{name}@onnx-w8a16").n_params == expected


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    shape = scaled_down(load_zoo()["granite-4.0-h-350m"])
    folders = [synthesise_onnx(shape, "w8a16", tmp_path / str(n), seed=3, lengths=LENGTHS) for n in range(2)]
    first, again = ({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in f.iterdir()} for f in folders)
    assert first == again
    assert set(first) == {"genai_config.json", "prefill.onnx", "decode.onnx", "model.onnx.data"}


def test_a_model_too_large_to_be_run_here_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("melt.models.onnx.calibrate.os.sysconf", lambda name: {"SC_PAGE_SIZE": 4096}.get(name, 1000))
    with pytest.raises(ModelError, match="of memory; this machine has 0") as caught:
        synthesise_onnx(load_zoo()["smollm2-135m"], "w8a16", tmp_path / "m")
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("filename", "said"),
    [("../prefill.onnx", "not the name of a file beside it"), ("lost.onnx", "lost.onnx"), ("other.onnx", "state")],
)
def test_a_second_graph_that_does_not_belong_is_a_clear_error(tmp_path: Path, filename: str, said: str) -> None:
    shape = scaled_down(load_zoo()["mamba2-130m"])
    folder = synthesise_onnx(shape, "w8a16", tmp_path / "m", lengths=LENGTHS)
    other = synthesise_onnx(replace(shape, d_state=32), "w8a16", tmp_path / "n", lengths=LENGTHS)
    (other / "prefill.onnx").rename(folder / "other.onnx")
    path = folder / "genai_config.json"
    path.write_text(path.read_text().replace('"filename": "prefill.onnx"', f'"filename": "{filename}"'))
    with pytest.raises(ModelError, match=re.escape(said)):
        inspect(folder)


def test_no_operator_is_one_of_microsofts(made: tuple[Shape, Path]) -> None:
    for name in ("prefill.onnx", "decode.onnx"):
        model = onnx.load(made[1] / name, load_external_data=False)
        assert {o.domain for o in model.opset_import} == {""}
        onnx.checker.check_model(str(made[1] / name))
