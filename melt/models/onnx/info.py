"""What an ONNX model folder is, as a ModelInfo: from its configuration, its graph and the sizes of its files."""

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from melt.models.gguf.architectures import Family
from melt.models.gguf.layers import KvLayout
from melt.models.info import ModelInfo
from melt.models.onnx.config import Decoder
from melt.models.onnx.folder import Folder, StateTensor, read_folder, size_bytes

if TYPE_CHECKING:
    import onnx

# Operators with packed weights: the places of the matrix and of its scales among their inputs.
_PACKED = {"MatMulNBits": (1, 2), "GatherBlockQuantized": (0, 2)}
# Metadata of the graphs that melt writes.
SYNTHETIC, CONTEXT_TRAINED = "melt.synthetic", "melt.context_trained"
_MAX_NAME_CHARACTERS = 200
_ROUNDING = ("QuantizeLinear", "DequantizeLinear")
_LOOKUPS = ("Gather", "GatherBlockQuantized")
_QUANTS = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def inspect_folder(path: Path, ref: str = "") -> ModelInfo:
    """The ModelInfo of the ONNX model in a folder; ``sha256`` is left empty.

    Raises:
        ModelError: as ``read_folder``.
    """
    folder = read_folder(path)
    return info_from_folder(folder, ref or str(path), sum((path / name).stat().st_size for name in folder.files))


def info_from_folder(folder: Folder, ref: str, file_bytes: int) -> ModelInfo:
    """The ModelInfo of a folder that was read."""
    model, told = folder.config.model, {entry.key: entry.value for entry in folder.model.metadata_props}
    synthetic = told.get(SYNTHETIC, "")[:_MAX_NAME_CHARACTERS]
    decoder = model.decoder
    keys, conv, recurrent = ([t for t in folder.state if t.part == part] for part in ("key", "conv", "recurrent"))
    attending, recurring = {t.layer for t in keys}, {t.layer for t in (*conv, *recurrent)}
    heads = tuple(decoder.num_key_value_heads if i in attending else 0 for i in range(decoder.num_hidden_layers))
    weights = _weights(folder.model)
    info = ModelInfo(
        name=f"{synthetic} (synthetic: random weights)" if synthetic else folder.path.name,
        short_name=folder.path.name,
        ref=ref,
        path=str(folder.path),
        file_bytes=file_bytes,
        arch=model.type,
        family=_family(attending, recurring),
        quant=weights.quant,
        synthetic=bool(synthetic),
        n_params=weights.n_params,
        n_params_active=weights.n_params,
        n_layers=decoder.num_hidden_layers,
        d_model=decoder.hidden_size,
        n_heads=decoder.num_attention_heads,
        d_ff=weights.d_ff,
        vocab_size=model.vocab_size,
        context_trained=_count(told.get(CONTEXT_TRAINED, "")) or model.context_length,
        bytes_by_type=weights.bytes_by_type,
        weights_bytes=sum(weights.bytes_by_type.values()),
        active_weights_bytes=sum(weights.bytes_by_type.values()),
        embedding_bytes=weights.embedding_bytes,
        tied_embedding=weights.tied,
        kv_layout=KvLayout(heads, decoder.head_size, decoder.head_size, 0, (False,) * len(heads)),
        format="onnx",
        widest_product=weights.widest,
        chunk_tokens=_chunk(folder),
    )
    info = _with_caches(info, keys, decoder) if keys else info
    return _with_state(info, conv, recurrent) if recurring else info


def _with_caches(info: ModelInfo, keys: list[StateTensor], decoder: Decoder) -> ModelInfo:
    """With what the attending layers carry on."""
    return replace(
        info,
        n_attention_layers=len({t.layer for t in keys}),
        n_kv_heads=decoder.num_key_value_heads,
        head_dim=decoder.head_size,
        kv_element_bytes=max(t.element_bytes for t in keys),
        cache_tokens=max((d for t in keys if isinstance(d := t.dims[2], int)), default=0),
    )


def _with_state(info: ModelInfo, conv: list[StateTensor], recurrent: list[StateTensor]) -> ModelInfo:
    """With what the recurrent layers carry on."""
    heads, d_state, width = _dims(recurrent, (1, 2, 3))
    return replace(
        info,
        n_recurrent_layers=len({t.layer for t in (*conv, *recurrent)}),
        d_inner=heads * width,
        d_state=d_state,
        d_conv=_dims(conv, (2,))[0] + 1 if conv else 0,
        conv_state_elements=max((t.elements for t in conv), default=0),
        ssm_state_elements=max((t.elements for t in recurrent), default=0),
        state_element_bytes=max(t.element_bytes for t in (*conv, *recurrent)),
    )


def _chunk(folder: Folder) -> int:
    """Tokens of a call that reads the prompt; 0 where it takes any number."""
    tokens = folder.config.model.decoder.inputs.input_ids
    given = next(i for i in folder.prompt_model.graph.input if i.name == tokens).type.tensor_type.shape.dim
    return given[1].dim_value if len(given) == 2 else 0


def _count(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _dims(tensors: list[StateTensor], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The fixed lengths of the first tensor; zeros where there is none."""
    first = tensors[0].dims if tensors else (0,) * 4
    return tuple(d if isinstance(d := first[axis], int) else 0 for axis in axes)


def _family(attending: set[int], recurring: set[int]) -> Family:
    if recurring:
        return "hybrid" if attending else "ssm"
    return "transformer"


@dataclass(frozen=True)
class _Weights:
    bytes_by_type: dict[str, int]
    n_params: int
    quant: str
    d_ff: int
    widest: int
    embedding_bytes: int
    tied: bool


def _weights(model: "onnx.ModelProto") -> _Weights:
    """Sizes by type, each byte of a file once: a tied matrix is two tensors of the same bytes."""
    bits, scales = _packed(model)
    rounded = _rounded(model)
    place = {t.name: _place(t) for t in model.graph.initializer}
    unique = {place[t.name]: t for t in reversed(model.graph.initializer)}.values()
    sizes: Counter[str] = Counter()
    n_params = 0
    for t in unique:
        size = size_bytes(t.data_type, t.dims)
        sizes[_kind(t, bits)] += size
        if t.name in bits:
            n_params += size * 8 // bits[t.name]
        elif t.name in rounded or (
            t.dims and t.name not in scales and t.data_type in _FLOATS and not t.name.endswith(_ANGLES)
        ):
            n_params += math.prod(t.dims)
    stored = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    tables = {t.name for t in model.graph.initializer if len(t.dims) == 2 and not t.name.endswith(_ANGLES)}
    read = [(n.op_type, [stored.get(i, i) for i in n.input]) for n in model.graph.node if n.op_type not in _ROUNDING]
    embedding = next((i[0] for op, i in read if op in _LOOKUPS and i[0] in tables), "")
    others = {place[i] for op, inputs in read if op not in _LOOKUPS for i in inputs if i in place}
    matrices = {kind for kind in sizes if kind.startswith("int") and bits} - {"int32", "int64"} or set(sizes)
    largest = max(matrices, key=lambda kind: sizes[kind], default="unknown")
    activations = _activation_bits(model) if largest == "int8" else 0
    table = next((t for t in model.graph.initializer if t.name == embedding), None)
    widths = _widths(model, stored)
    return _Weights(
        bytes_by_type=dict(sizes.most_common()),
        n_params=n_params,
        quant=f"w8a{activations}" if activations else _QUANTS.get(largest, largest),
        d_ff=max((width for name, width in widths.items() if "/mlp/" in name and "down" not in name), default=0),
        widest=max(widths.values(), default=0),
        embedding_bytes=size_bytes(table.data_type, table.dims) if table is not None else 0,
        tied=place.get(embedding) in others,
    )


_ANGLES = ("cos_cache", "sin_cache")
_FLOATS = (1, 10, 16)  # TensorProto's FLOAT, FLOAT16, BFLOAT16


def _packed(model: "onnx.ModelProto") -> tuple[dict[str, int], set[str]]:
    """Bits of every packed matrix, by name, and the names of their scales."""
    bits, scales = {}, set()
    for node in model.graph.node:
        if node.op_type in _PACKED:
            matrix, scale = (node.input[i] for i in _PACKED[node.op_type])
            bits[matrix] = next((a.i for a in node.attribute if a.name == "bits" and a.i in (2, 4, 8)), 4)
            scales.add(scale)
    return bits, scales


def _place(tensor: "onnx.TensorProto") -> tuple[str, str]:
    """Where a tensor's bytes lie, which two tensors may share; its own name where the graph holds them."""
    told = {e.key: e.value for e in tensor.external_data}
    return (told.get("location", ""), told.get("offset", "0")) if told else ("", tensor.name)


def _kind(tensor: "onnx.TensorProto", bits: dict[str, int]) -> str:
    from onnx import TensorProto

    return f"int{bits[tensor.name]}" if tensor.name in bits else TensorProto.DataType.Name(tensor.data_type).lower()


def _rounded(model: "onnx.ModelProto") -> set[str]:
    """Parameters that are kept as integers of one scale; tables of angles and masks are none."""
    kept = {n.input[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    is_helper = re.compile(r"^/|(cos|sin)_cache$").search
    return {t.name for t in model.graph.initializer if t.name in kept and not is_helper(t.name)}


def _activation_bits(model: "onnx.ModelProto") -> int:
    """Of what lies between operators; 0 where it is not rounded."""
    types = {t.name: t.data_type for t in model.graph.initializer}
    zeros = [types.get(n.input[2]) for n in model.graph.node if n.op_type == "QuantizeLinear" and len(n.input) > 2]
    kind = max(set(zeros), key=zeros.count, default=None)
    return size_bytes(kind, ()) * 8 if kind else 0


def _widths(model: "onnx.ModelProto", stored: dict[str, str]) -> dict[str, int]:
    """What each product with a weight matrix gives, by the node's name; the vocabulary's apart."""
    dims = {t.name: t.dims for t in model.graph.initializer}
    widths = {}
    for node in model.graph.node:
        if node.op_type == "MatMulNBits":
            widths[node.name] = next((a.i for a in node.attribute if a.name == "N"), 0)
        elif node.op_type == "MatMul" and len(node.input) == 2:
            of_matrix = dims.get(stored.get(node.input[1], node.input[1]), ())
            widths |= {node.name: of_matrix[1]} if len(of_matrix) == 2 else {}
    return {name: width for name, width in widths.items() if "lm_head" not in name}
