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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from melt.errors import ModelError
from melt.models.gguf.header import align
from melt.models.gguf.synth import Progress, check_room, check_seed
from melt.models.info import ModelInfo
from melt.models.onnx.calibrate import calibrate, check_memory
from melt.models.onnx.config import CONFIG, FolderConfig
from melt.models.onnx.folder import Folder, state_tensors
from melt.models.onnx.graph import IR_VERSION, MICROSOFT, OPSET, Graph, Precision, Weight
from melt.models.onnx.info import CONTEXT_TRAINED, SYNTHETIC, info_from_folder
from melt.models.onnx.layers import build, positions
from melt.models.onnx.qdq import OPSET as STATIC_OPSET
from melt.models.onnx.qdq import QuantisedGraph, Range, quantised
from melt.models.onnx.static_shapes import CHUNK_TOKENS, CONTEXT_TOKENS, build_static
from melt.models.shapes.zoo import Shape

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

GENERATOR_VERSION = 1
GRAPH, DATA = "model.onnx", "model.onnx.data"
PREFILL, DECODE = "prefill.onnx", "decode.onnx"  # of fixed shapes
_ALIGNMENT = 4096  # so that a mapped file's tensors begin at pages
_CHUNK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Lengths:
    """Of a model with fixed shapes: tokens of a call that reads the prompt, and tokens that the caches hold."""

    chunk_tokens: int = CHUNK_TOKENS
    context_tokens: int = CONTEXT_TOKENS


_NUMPY_TYPES = {"FLOAT": "<f4", "FLOAT16": "<f2", "UINT8": "u1", "INT8": "i1"}


def synthesise_onnx(
    shape: Shape,
    precision: Precision,
    out: Path,
    seed: int = 0,
    progress: Progress | None = None,
    lengths: Lengths = Lengths(),
) -> Path:
    """Write the synthetic model folder ``out``; the same shape, precision and seed give the same bytes.

    The folder appears under its name only when it is complete. ``lengths`` are those of a graph with fixed shapes.

    Raises:
        ModelError: there is no such graph, the folder exists, or the disk is full; or ranges are to be found, and
            ONNX Runtime is not installed.
    """
    check_seed(seed)
    if out.exists():
        raise ModelError(f"{out}: exists", "Name another folder, or remove this one.")
    graphs = _graphs(shape, precision, lengths)
    weights = next(iter(graphs.values())).weights
    offsets, file_bytes = _lay_out(weights)
    for graph in graphs.values():
        if isinstance(graph, QuantisedGraph):
            check_memory(graph, shape.name)
    out.parent.mkdir(parents=True, exist_ok=True)
    check_room(out, file_bytes)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        (partial / CONFIG).write_bytes(_config_text(shape, tuple(graphs), lengths))
        with (partial / DATA).open("wb") as file:
            _write(file, weights, offsets, file_bytes, seed, progress or (lambda done, total: None))
        _write_graphs(partial, graphs, offsets, shape, seed)
        partial.chmod(0o755)
        partial.rename(out)
    except OSError as error:
        raise ModelError(f"{out}: cannot be written ({error.strerror})", "Free some space.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _write_graphs(folder: Path, graphs: dict[str, Graph], offsets: dict[str, int], shape: Shape, seed: int) -> None:
    """With their ranges, which are found by the weights that are in the folder already."""
    ranges = _ranges(graphs, offsets, folder, shape)
    for name, graph in graphs.items():
        model = _model(graph, offsets, shape, seed, ranges)
        (folder / name).write_bytes(model.SerializeToString(deterministic=True))


def describe_onnx(shape: Shape, precision: Precision, ref: str) -> ModelInfo:
    """What the folder of ``shape`` will be, without making it; its path is empty."""
    folder = design_onnx(shape, precision)
    file_bytes = len(_config_text(shape, tuple(folder.graphs), Lengths()))
    file_bytes += sum(len(model.SerializeToString(deterministic=True)) for model in folder.graphs.values())
    file_bytes += _lay_out(next(iter(_graphs(shape, precision, Lengths()).values())).weights)[1]
    return replace(info_from_folder(folder, ref, file_bytes), path="")


def design_onnx(shape: Shape, precision: Precision) -> Folder:
    """The folder of ``shape`` as it would be read, ranges apart, which are found when it is made."""
    graphs = _graphs(shape, precision, Lengths())
    offsets = _lay_out(next(iter(graphs.values())).weights)[0]
    models = {name: _model(graph, offsets, shape, 0, {}) for name, graph in graphs.items()}
    checked = FolderConfig.model_validate_json(_config_text(shape, tuple(graphs), Lengths()))
    state = state_tensors(checked, models[checked.model.decoder.filename], Path(checked.model.decoder.filename))
    return Folder(Path(), checked, models, (CONFIG, *graphs, DATA), state)


def _graphs(shape: Shape, precision: Precision, lengths: Lengths) -> dict[str, Graph]:
    """The graphs by the names of their files."""
    if precision != "w8a16":
        return {GRAPH: build(shape, precision)}
    calls = {PREFILL: lengths.chunk_tokens, DECODE: 1}
    return {name: build_static(shape, tokens, lengths.context_tokens) for name, tokens in calls.items()}


def _ranges(graphs: dict[str, Graph], offsets: dict[str, int], folder: Path, shape: Shape) -> dict[str, Range]:
    found = [g for g in graphs.values() if isinstance(g, QuantisedGraph)]
    if not found:
        return {}
    prefill, decode = found
    return calibrate(prefill, decode, lambda graph: _initializers(graph, offsets), folder, shape.name)


def _config_text(shape: Shape, graphs: tuple[str, ...], lengths: Lengths) -> bytes:
    told = config(shape)
    if PREFILL in graphs:
        told = with_two_graphs(told, shape, lengths.context_tokens)
    return (json.dumps(told, indent=1) + "\n").encode()


def with_two_graphs(told: dict[str, Any], shape: Shape, context_tokens: int) -> dict[str, Any]:
    """The configuration of fixed shapes: a graph for the prompt and one for a token, by onnxruntime-genai's keys."""
    decoder, search = dict(told["model"]["decoder"]), dict(told["search"])
    inputs = {**decoder["inputs"], "attention_mask": "attention_mask"}
    if shape.rope_theta:
        inputs["position_ids"] = "position_ids"
    pipeline = [
        {"prompt-processor": {"filename": PREFILL, "run_on_token_gen": False}},
        {"token-generator": {"filename": DECODE, "run_on_prompt": False}},
    ]
    decoder |= {"filename": DECODE, "inputs": inputs, "pipeline": pipeline}
    search |= {"max_length": context_tokens, "past_present_share_buffer": False}
    return {"model": {**told["model"], "context_length": context_tokens, "decoder": decoder}, "search": search}


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


def _initializers(graph: Graph, offsets: dict[str, int]) -> "list[onnx.TensorProto]":
    return [*graph.constants.values(), *(_external(weight, offsets[weight.name]) for weight in graph.weights)]


def _model(
    graph: Graph, offsets: dict[str, int], shape: Shape, seed: int, ranges: dict[str, Range]
) -> "onnx.ModelProto":
    from onnx import helper

    is_static = isinstance(graph, QuantisedGraph)
    nodes = quantised(graph, ranges) if isinstance(graph, QuantisedGraph) else graph.nodes
    made = helper.make_graph(nodes, "decoder", graph.inputs, graph.outputs, _initializers(graph, offsets))
    own = [] if is_static else [helper.make_opsetid(MICROSOFT, 1)]
    opsets = [helper.make_opsetid("", STATIC_OPSET if is_static else OPSET), *own]
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
