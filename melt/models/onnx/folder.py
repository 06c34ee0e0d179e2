"""Reads the graph of an ONNX model folder, and finds what is wrong with it before any device is touched.

Everything in a folder is untrusted. No weights are read: only the graph, and the sizes of the files beside it.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from melt.errors import ModelError
from melt.models.onnx.config import CONFIG, DOWNLOAD, REBUILD, Decoder, FolderConfig, read_config

if TYPE_CHECKING:
    import onnx
    from google.protobuf.message import Message

PARTS = ("key", "value", "conv", "recurrent")
_MAX_GRAPH_BYTES = 2**31 - 1  # protobuf's own limit
_LONGEST_NAME = 200


@dataclass(frozen=True)
class StateTensor:
    """An input of the graph that carries what was computed before: the layer, and which part of its state."""

    layer: int
    part: str  # one of PARTS
    name: str
    dims: tuple[int | str, ...]
    element_bytes: int

    @property
    def is_fixed(self) -> bool:
        """Whether every length is a number."""
        return all(isinstance(d, int) for d in self.dims)

    @property
    def elements(self) -> int:
        """Numbers in it, lengths that vary counted as one."""
        return math.prod(d for d in self.dims if isinstance(d, int))


@dataclass(frozen=True)
class Folder:
    """A model folder that was read and found sound."""

    path: Path
    config: FolderConfig
    graphs: "dict[str, onnx.ModelProto]"  # by the names of their files
    files: tuple[str, ...]  # what a run needs, by name in the folder: the configuration, the graph, its weights
    state: tuple[StateTensor, ...]

    @property
    def model(self) -> "onnx.ModelProto":
        """The graph that makes tokens."""
        return self.graphs[self.config.model.decoder.filename]

    @property
    def prompt_model(self) -> "onnx.ModelProto":
        """The graph that reads the prompt; for most models the same."""
        return self.graphs[self.config.model.decoder.graphs[-1]]


def read_folder(path: Path) -> Folder:
    """The folder's configuration, graph and state.

    Raises:
        ModelError: a file is missing, damaged or reaches outside the folder, or the graph is no decoder with its
            state in and out.
    """
    config = read_config(path)
    graphs = {name: _read_graph(path / name) for name in config.model.decoder.graphs}
    weights = dict.fromkeys(f for name, model in graphs.items() for f in _external_files(model, path / name))
    found = [state_tensors(config, model, path / name) for name, model in graphs.items()]
    for name, state in zip(graphs, found, strict=True):
        if state != found[0]:
            raise ModelError(f"{path / name}: takes another state than {next(iter(graphs))} does", REBUILD)
    _check_tokens(config.model.decoder, graphs, path)
    return Folder(path, config, graphs, (CONFIG, *graphs, *weights), found[0])


def _check_tokens(decoder: Decoder, graphs: "dict[str, onnx.ModelProto]", path: Path) -> None:
    """Raises ModelError where a graph's tokens are no rows, or the one that makes tokens takes several at once."""
    for name, model in graphs.items():
        given = next(i for i in model.graph.input if i.name == decoder.inputs.input_ids)
        dims = [d.dim_value or d.dim_param or "?" for d in given.type.tensor_type.shape.dim]
        fits = len(dims) == 2 and (isinstance(dims[0], str) or dims[0] == 1)
        if not fits or (name == decoder.filename and isinstance(dims[1], int) and dims[1] != 1):
            wanted = "[batch, 1]" if name == decoder.filename else "[batch, tokens]"
            raise ModelError(f"{path / name}: input {given.name!r} has the shape {dims}, and not {wanted}", REBUILD)


def _read_graph(path: Path) -> "onnx.ModelProto":
    import onnx
    from google.protobuf.message import DecodeError

    try:
        if path.stat().st_size > _MAX_GRAPH_BYTES:
            raise ModelError(f"{path}: larger than 2 GiB", "Keep the weights in a file beside the graph.")
        model = onnx.ModelProto()
        model.ParseFromString(path.read_bytes())
    except OSError as e:
        raise ModelError(f"{path}: {e.strerror}", DOWNLOAD) from e
    except DecodeError as e:
        raise ModelError(f"{path}: is no ONNX graph, or is damaged", DOWNLOAD) from e
    if not model.graph.node:
        raise ModelError(f"{path}: is no ONNX graph, or an empty one", DOWNLOAD)
    if not _is_text(model):
        raise ModelError(f"{path}: names in its graph are not UTF-8, so it is damaged", DOWNLOAD)
    known = onnx.defs.onnx_opset_version()
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset > known:
        raise ModelError(
            f"{path}: written for ONNX opset {opset}, and the installed onnx knows up to {known}",
            "Upgrade onnx and onnxruntime, or export the model for an older opset.",
        )
    return model


def _is_text(message: "Message") -> bool:
    """Whether all its strings are: one that is not UTF-8 is given out as bytes."""
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        for one in value if field.is_repeated else (value,):
            if isinstance(one, bytes) or (field.type == field.TYPE_MESSAGE and not _is_text(one)):
                return False
    return True


def _external_files(model: "onnx.ModelProto", path: Path) -> tuple[str, ...]:
    """The names of the files that hold weights, each checked to be there, inside the folder and long enough."""
    found: dict[str, int] = {}
    for tensor in model.graph.initializer:
        extent = _extent(tensor, path)
        if extent is None:
            continue
        location, end = extent
        if location not in found:
            found[location] = _size_of(path, location, tensor.name)
        if end > found[location]:
            raise ModelError(
                f"{path.parent / location}: {found[location]} bytes, and {_short(tensor.name)} ends at {end}",
                f"The file is cut short. {DOWNLOAD}",
            )
    return tuple(found)


def _size_of(path: Path, location: str, tensor: str) -> int:
    inside, file = PurePosixPath(location), path.parent / location
    escapes = not location or "\\" in location or "\0" in location or inside.is_absolute() or ".." in inside.parts
    try:
        if escapes or not file.resolve().is_relative_to(path.parent.resolve()):
            where = _short(location)
            raise ModelError(f"{path}: the weights of {_short(tensor)} lie outside its folder, in {where}", DOWNLOAD)
        return file.stat().st_size
    except OSError as e:
        raise ModelError(
            f"{file}: {e.strerror}, and {_short(tensor)} has its weights there",
            "The graph and its data files belong together: copy the whole folder.",
        ) from e


def _extent(tensor: "onnx.TensorProto", path: Path) -> tuple[str, int] | None:
    """The file of a tensor's bytes and where in it they end; None where the graph itself holds them."""
    if tensor.data_location != tensor.EXTERNAL:
        return None
    told = {entry.key: entry.value for entry in tensor.external_data}
    wanted = size_bytes(tensor.data_type, tensor.dims)
    try:
        offset, length = int(told.get("offset", 0)), int(told.get("length", wanted))
    except ValueError:
        offset = length = -1
    if min(offset, length, *tensor.dims, 0) < 0 or length != wanted:
        raise ModelError(f"{path}: the place of {_short(tensor.name)} in its file does not fit its shape", DOWNLOAD)
    return told.get("location", ""), offset + length


def size_bytes(data_type: int, dims: Iterable[int]) -> int:
    """Bytes of a tensor."""
    return -(-math.prod(dims) * _bits(data_type) // 8)


def _bits(data_type: int) -> int:
    """Bits of one element; 0 for a type that has no fixed size, or that nobody knows."""
    from onnx import TensorProto, helper

    if data_type in (TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1):
        return 4
    try:
        return 0 if data_type == TensorProto.STRING else int(helper.tensor_dtype_to_np_dtype(data_type).itemsize) * 8
    except (KeyError, TypeError):
        return 0


def state_tensors(config: FolderConfig, model: "onnx.ModelProto", path: Path) -> tuple[StateTensor, ...]:
    """The caches and states that go in and out; ``path`` names the graph in errors.

    Raises:
        ModelError: one of them is missing or has another shape, or an input is one that nobody would fill.
    """
    weights = {t.name for t in model.graph.initializer}
    inputs = {i.name: i for i in model.graph.input if i.name not in weights}
    outputs = {o.name for o in model.graph.output}
    decoder = config.model.decoder
    found = [t for part in PARTS for t in _state_of(part, decoder, inputs, outputs, path)]
    _check_shapes(found, decoder, path)
    _check_others({n: i for n, i in inputs.items() if n not in {t.name for t in found}}, decoder, path)
    if decoder.outputs.logits not in outputs:
        raise ModelError(f"{path}: has no output {decoder.outputs.logits!r} for the logits", REBUILD)
    grows = any(t.part == "key" and not t.is_fixed for t in found)
    if grows and not config.search.past_present_share_buffer:
        raise ModelError(
            f"{path.parent / CONFIG}: search.past_present_share_buffer is not true: every token would copy the cache",
            "Build the model with GroupQueryAttention, as onnxruntime-genai's builder does for int4.",
        )
    return tuple(found)


def _state_of(
    part: str, decoder: Decoder, inputs: dict[str, "onnx.ValueInfoProto"], outputs: set[str], path: Path
) -> list[StateTensor]:
    past = getattr(decoder.inputs, f"past_{part}_names")
    present = getattr(decoder.outputs, f"present_{part}_names")
    if not past:
        return []
    names = {layer: _of_layer(past, layer) for layer in range(decoder.num_hidden_layers)}
    found = []
    for layer, name in names.items():
        if name not in inputs:
            continue  # a hybrid has it in some layers only
        out = _of_layer(present, layer)
        if out not in outputs:
            raise ModelError(f"{path}: {name!r} goes in, and no {out or f'present {part}'!r} comes out", REBUILD)
        tensor = inputs[name].type.tensor_type
        dims = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in tensor.shape.dim)
        found.append(StateTensor(layer, part, name, dims, _bits(tensor.elem_type) // 8))
    if not found:
        raise ModelError(f"{path}: has no input {names[0]!r}, which {CONFIG} names", REBUILD)
    return found


def _of_layer(pattern: str, layer: int) -> str:
    return pattern.replace("%d", str(layer))


def _check_shapes(found: list[StateTensor], decoder: Decoder, path: Path) -> None:
    cache = (decoder.num_key_value_heads, decoder.head_size)
    for t in found:
        if t.part in ("key", "value"):
            fits = len(t.dims) == 4 and (t.dims[1], t.dims[3]) == cache
            wanted = f"[batch, {cache[0]}, length, {cache[1]}], as {CONFIG} says"
        else:
            rank = 3 if t.part == "conv" else 4
            fits = len(t.dims) == rank and all(isinstance(d, int) and d > 0 for d in t.dims[1:])
            wanted = f"{rank} dimensions, fixed but for the batch"
        if not fits or t.element_bytes not in (1, 2, 4):
            raise ModelError(f"{path}: input {t.name!r} has the shape {list(t.dims)}, and not {wanted}", REBUILD)
    keys, values = ({t.layer for t in found if t.part == part} for part in ("key", "value"))
    for layer in sorted(keys ^ values):
        there, lacking = ("key", "value") if layer in keys else ("value", "key")
        raise ModelError(f"{path}: layer {layer} has a {there} cache as input and no {lacking} cache", REBUILD)


def _check_others(inputs: dict[str, "onnx.ValueInfoProto"], decoder: Decoder, path: Path) -> None:
    from onnx import TensorProto

    tokens = decoder.inputs.input_ids
    if tokens not in inputs:
        raise ModelError(f"{path}: has no input {tokens or 'input_ids'!r} for the tokens", REBUILD)
    for name, value in inputs.items():
        if name not in (tokens, decoder.inputs.attention_mask, decoder.inputs.position_ids):
            raise ModelError(
                f"{path}: input {_short(name)} is none that melt can fill", f"{CONFIG} names caches and states."
            )
        if value.type.tensor_type.elem_type not in (TensorProto.INT64, TensorProto.INT32):
            raise ModelError(f"{path}: input {_short(name)} does not take integers", REBUILD)


def _short(name: str) -> str:
    return repr(name[:_LONGEST_NAME])
