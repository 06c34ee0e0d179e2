"""Writes an ONNX model folder of an exact published shape with random weights.

The graph lies in ``model.onnx``, the weights beside it in ``model.onnx.data``, and ``genai_config.json`` tells the
names of inputs and outputs, as in the folders of onnxruntime-genai's model builder. Weights are written a few
megabytes at a time.
"""

import json
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from melt.errors import ModelError
from melt.models.gguf_header import align
from melt.models.info import ModelInfo
from melt.models.onnx_config import CONFIG, FolderConfig
from melt.models.onnx_folder import Folder, state_tensors
from melt.models.onnx_graph import IR_VERSION, MICROSOFT, OPSET, Graph, Precision, Weight
from melt.models.onnx_info import CONTEXT_TRAINED, SYNTHETIC, info_from_folder
from melt.models.onnx_layers import build, positions
from melt.models.synth import Progress, check_room, check_seed
from melt.models.zoo import Shape

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

GENERATOR_VERSION = 1
GRAPH, DATA = "model.onnx", "model.onnx.data"
_ALIGNMENT = 4096  # so that a mapped file's tensors begin at pages
_CHUNK_BYTES = 8 * 2**20
_NUMPY_TYPES = {"FLOAT": "<f4", "FLOAT16": "<f2", "UINT8": "u1"}


def synthesise_onnx(
    shape: Shape, precision: Precision, out: Path, seed: int = 0, progress: Progress | None = None
) -> Path:
    """Write the synthetic model folder ``out``; the same shape, precision and seed give the same bytes.

    The folder appears under its name only when it is complete.

    Raises:
        ModelError: there is no such graph, the folder exists, or the disk is full.
    """
    check_seed(seed)
    if out.exists():
        raise ModelError(f"{out}: exists", "Name another folder, or remove this one.")
    graph = build(shape, precision)
    offsets, file_bytes = _lay_out(graph.weights)
    model = _model(graph, offsets, shape, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    check_room(out, file_bytes)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        (partial / CONFIG).write_bytes(_config_text(shape))
        (partial / GRAPH).write_bytes(model.SerializeToString(deterministic=True))
        with (partial / DATA).open("wb") as file:
            _write(file, graph.weights, offsets, file_bytes, seed, progress or (lambda done, total: None))
        partial.chmod(0o755)
        partial.rename(out)
    except OSError as error:
        raise ModelError(f"{out}: cannot be written ({error.strerror})", "Free some space.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def describe_onnx(shape: Shape, precision: Precision, ref: str) -> ModelInfo:
    """What the folder of ``shape`` will be, without making it; its path is empty."""
    graph = build(shape, precision)
    offsets, file_bytes = _lay_out(graph.weights)
    model, text = _model(graph, offsets, shape, 0), _config_text(shape)
    checked = FolderConfig.model_validate_json(text)
    folder = Folder(Path(), checked, model, (CONFIG, GRAPH, DATA), state_tensors(checked, model, Path(GRAPH)))
    file_bytes += len(text) + len(model.SerializeToString(deterministic=True))
    return replace(info_from_folder(folder, ref, file_bytes), path="")


def _config_text(shape: Shape) -> bytes:
    return (json.dumps(config(shape), indent=1) + "\n").encode()


def config(shape: Shape) -> dict[str, Any]:
    """What ``genai_config.json`` says: onnxruntime-genai's keys and no others, which it would refuse."""
    inputs, outputs = {"input_ids": "input_ids"}, {"logits": "logits"}
    if any(shape.kv_heads_by_layer):
        inputs |= {"attention_mask": "attention_mask", "past_key_names": "past_key_values.%d.key"}
        inputs["past_value_names"] = "past_key_values.%d.value"
        outputs |= {"present_key_names": "present.%d.key", "present_value_names": "present.%d.value"}
    if shape.d_state:
        inputs |= {"past_conv_names": "past.%d.conv", "past_recurrent_names": "past.%d.recurrent"}
        outputs |= {"present_conv_names": "present.%d.conv", "present_recurrent_names": "present.%d.recurrent"}
    decoder = {
        "filename": GRAPH,
        "head_size": shape.head_dim,
        "hidden_size": shape.d_model,
        "inputs": inputs,
        "outputs": outputs,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
    }
    model = {
        "type": shape.arch,
        "vocab_size": shape.vocab,
        "context_length": positions(shape),
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
        "decoder": decoder,
    }
    search = {"max_length": positions(shape), "past_present_share_buffer": True}
    return {"model": model, "search": search}


def _lay_out(weights: list[Weight]) -> tuple[dict[str, int], int]:
    offsets: dict[str, int] = {}
    end = 0
    for weight in weights:
        if weight.same_as:
            offsets[weight.name] = offsets[weight.same_as]
            continue
        offsets[weight.name] = end = align(end, _ALIGNMENT)
        end += weight.size_bytes
    return offsets, end


def _model(graph: Graph, offsets: dict[str, int], shape: Shape, seed: int) -> "onnx.ModelProto":
    from onnx import helper

    tensors = [_external(weight, offsets[weight.name]) for weight in graph.weights]
    initializers = [*graph.constants.values(), *tensors]
    made = helper.make_graph(graph.nodes, "decoder", graph.inputs, graph.outputs, initializers)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION, producer_name="melt")
    told = {
        SYNTHETIC: shape.name,
        CONTEXT_TRAINED: shape.context,
        "melt.synthetic.seed": seed,
        "melt.synthetic.generator": GENERATOR_VERSION,
    }
    helper.set_model_props(model, {key: str(value) for key, value in told.items()})
    return model


def _external(weight: Weight, offset: int) -> "onnx.TensorProto":
    from onnx import TensorProto

    tensor = TensorProto(name=weight.name, data_type=getattr(TensorProto, weight.type), dims=weight.dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", DATA), ("offset", offset), ("length", weight.size_bytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _write(
    file: BinaryIO, weights: list[Weight], offsets: dict[str, int], file_bytes: int, seed: int, progress: Progress
) -> None:
    for weight in weights:
        if weight.same_as:
            continue
        file.write(bytes(offsets[weight.name] - file.tell()))
        for chunk in _chunks(weight, seed):
            file.write(chunk)
            progress(file.tell(), file_bytes)


def _chunks(weight: Weight, seed: int) -> Iterator[memoryview]:
    """The weight's data, a few megabytes at a time."""
    import numpy as np

    if weight.fill in ("random", "scale"):
        yield from _random_chunks(weight, seed)
        return
    if weight.fill in ("cos", "sin"):
        values = _angles(weight)
    elif weight.fill == "decay":
        values = -np.arange(1, weight.elements + 1, dtype=np.float64)
    else:
        values = np.full(weight.elements, weight.fill)
    yield np.ascontiguousarray(values.astype(_NUMPY_TYPES[weight.type])).reshape(-1).view(np.uint8).data


def _random_chunks(weight: Weight, seed: int) -> Iterator[memoryview]:
    import numpy as np

    # The raw stream of a bit generator is one that NumPy promises never to change.
    stream = np.random.SFC64([seed, zlib.crc32(weight.name.encode())])
    left_bytes = weight.size_bytes
    while left_bytes:
        size_bytes = min(left_bytes, _CHUNK_BYTES)
        raw = stream.random_raw(-(-size_bytes // 8)).view(np.uint8)[:size_bytes]
        _shape_numbers(raw, weight)
        yield raw.data
        left_bytes -= size_bytes


def _shape_numbers(raw: "NDArray[np.uint8]", weight: Weight) -> None:
    """Makes random bytes sane numbers, so that weights have a spread of about 0.02 as trained ones do."""
    if weight.type == "FLOAT":
        # Random sign, and an exponent of -6 (or of -8 for the scale of 4-bit numbers, whose own spread is 4.6): its
        # lowest bit is the top bit of byte 2.
        raw[3::4] = (raw[3::4] & 0x80) | (0x3B if weight.fill == "scale" else 0x3C)
        raw[2::4] |= 0x80
    elif weight.type == "FLOAT16":
        raw[1::2] = (raw[1::2] & 0x83) | (0x1C + (raw[1::2] & 0x0C))  # exponents -8 to -5


def _angles(weight: Weight) -> "NDArray[np.float64]":
    """cos or sin of position x theta^(-2i/d)."""
    import numpy as np

    rows, half = weight.dims
    frequencies = weight.theta ** (-np.arange(half) / half)
    angles = np.outer(np.arange(rows), frequencies)
    return np.asarray(np.cos(angles) if weight.fill == "cos" else np.sin(angles))
