"""What a model is, read from its header alone."""

import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from melt.errors import ModelError
from melt.models.gguf.architectures import Family, architecture
from melt.models.gguf.experts import active_part
from melt.models.gguf.header import Header, SkippedArray, read_header
from melt.models.gguf.layers import KvLayout, layer_layout
from melt.models.gguf.metadata import Metadata
from melt.models.gguf.types import FILE_TYPES, TENSOR_TYPES_BY_NAME

Format = Literal["gguf", "onnx"]

_ARCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MAX_NAME_CHARACTERS = 200


@dataclass(frozen=True)
class ModelFile:
    """One file of a model that is a folder; ``name`` is its path in there."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class ModelInfo:
    """A model's identity, shape and size; zero where an architecture has no such thing.

    ``sha256`` is empty until the file has been hashed, ``path`` until there is a file.
    ``context_trained`` is zero when the file does not say. ``kv_layout`` and the two ``*_state_elements`` (of one
    recurrent layer) are what memory is predicted from. What is *active* is what one token goes through: of a mixture
    of experts those that are used, of any other model everything. Of an architecture that melt does not know, the
    family is ``unknown`` and no layer is counted as attending or recurrent.
    """

    name: str
    ref: str
    path: str
    revision: str
    sha256: str
    file_bytes: int
    arch: str
    family: Family
    quant: str
    synthetic: bool
    n_params: int
    n_params_active: int
    n_experts: int
    n_experts_used: int
    n_layers: int
    n_attention_layers: int
    n_recurrent_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    d_ff_expert: int
    d_inner: int
    d_state: int
    d_conv: int
    n_groups: int
    vocab_size: int
    context_trained: int
    bytes_by_type: dict[str, int]
    weights_bytes: int
    active_weights_bytes: int
    embedding_bytes: int
    tied_embedding: bool
    conv_state_elements: int
    ssm_state_elements: int
    kv_layout: KvLayout
    format: Format = "gguf"
    # Of an ONNX graph, whose types are its own; zero where the engine chooses the cache's type.
    kv_element_bytes: int = 0
    state_element_bytes: int = 4
    widest_product: int = 0  # the widest output of a layer's products, in an ONNX graph
    # Of an ONNX graph with fixed shapes: tokens of a call that reads the prompt, and those that the cache holds.
    chunk_tokens: int = 0
    cache_tokens: int = 0
    files: tuple[ModelFile, ...] = ()  # of a model that is a folder

    def to_dict(self) -> dict[str, Any]:
        """Plain values that ``json.dumps`` takes."""
        return asdict(self)


def inspect(path: Path, ref: str = "") -> ModelInfo:
    """The ModelInfo of the GGUF file or the ONNX folder at ``path``; ``sha256`` and ``files`` are left empty.

    Raises:
        ModelError: the file is missing, damaged, cut short, or describes no model.
    """
    if path.is_dir():
        from melt.models.onnx.info import inspect_folder

        return inspect_folder(path, ref)
    header = read_header(path)
    return info_from_header(header, path=str(path), ref=ref or str(path), file_bytes=path.stat().st_size)


def info_from_header(header: Header, path: str = "", ref: str = "", file_bytes: int = 0) -> ModelInfo:
    """The ModelInfo that a header gives; ``path`` and ``ref`` only label it."""
    label = path or ref
    general = Metadata(header.metadata, "", label)
    arch = general.text("general.architecture")
    if not _ARCH.fullmatch(arch):
        raise ModelError(f"{label}: it does not say its architecture", "It may be an adapter or a projector.")
    meta = Metadata(header.metadata, f"{arch}.", label)
    layers = layer_layout(arch, meta)
    embedding = next((t for t in header.tensors if t.name == "token_embd.weight"), None)
    bytes_by_type: Counter[str] = Counter()
    for tensor in header.tensors:
        bytes_by_type[tensor.type.name] += tensor.size_bytes
    active = active_part(header.tensors, meta)
    return ModelInfo(
        name=general.text("general.name")[:_MAX_NAME_CHARACTERS] or Path(path).stem or ref,
        ref=ref,
        path=path,
        revision="",
        sha256="",
        file_bytes=file_bytes,
        arch=arch,
        family=architecture(arch).family,
        quant=_quant(general, bytes_by_type),
        synthetic="melt.synthetic" in header.metadata,
        n_params=sum(t.elements for t in header.tensors),
        n_params_active=active.n_params,
        n_experts=active.n_experts,
        n_experts_used=active.n_experts_used,
        n_layers=layers.n_layers,
        n_attention_layers=layers.n_attention,
        n_recurrent_layers=layers.n_recurrent,
        d_model=meta.count("embedding_length"),
        n_heads=layers.n_heads,
        n_kv_heads=max(layers.kv.heads_by_layer, default=0),
        head_dim=layers.kv.head_dim_k,
        d_ff=max(meta.counts("feed_forward_length", layers.n_layers), default=0),
        d_ff_expert=active.expert_width,
        d_inner=meta.count("ssm.inner_size"),
        d_state=meta.count("ssm.state_size") or meta.count("wkv.head_size") or meta.count("kda.head_dim"),
        d_conv=meta.count("ssm.conv_kernel") or meta.count("shortconv.l_cache"),
        n_groups=meta.count("ssm.group_count"),
        vocab_size=_vocab_size(header, meta, embedding.dims[-1] if embedding else 0),
        context_trained=meta.count("context_length"),
        bytes_by_type=dict(bytes_by_type.most_common()),
        weights_bytes=sum(bytes_by_type.values()),
        active_weights_bytes=active.weights_bytes,
        embedding_bytes=embedding.size_bytes if embedding else 0,
        tied_embedding=not any(t.name == "output.weight" for t in header.tensors),
        conv_state_elements=layers.conv_state_elements,
        ssm_state_elements=layers.ssm_state_elements,
        kv_layout=layers.kv,
    )


def _quant(general: Metadata, bytes_by_type: Counter[str]) -> str:
    """The recipe's name; failing that, the type that most bytes of matrices have."""
    file_type = general.count("general.file_type", default=-1)
    if file_type in FILE_TYPES:
        return FILE_TYPES[file_type]
    for name, _bytes in bytes_by_type.most_common():
        if TENSOR_TYPES_BY_NAME[name].block_elements > 1 or len(bytes_by_type) == 1:
            return name
    return next((name for name, _ in bytes_by_type.most_common()), "unknown")


def _vocab_size(header: Header, meta: Metadata, embedding_rows: int) -> int:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, SkippedArray):
        return tokens.length
    if isinstance(tokens, tuple):
        return len(tokens)
    return meta.count("vocab_size") or embedding_rows
