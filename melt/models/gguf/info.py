"""What a GGUF file is, as a ModelInfo: read from its header alone."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from melt.errors import ModelError
from melt.models.gguf.architectures import architecture
from melt.models.gguf.experts import active_part
from melt.models.gguf.header import Header, SkippedArray
from melt.models.gguf.layers import LayerLayout, layer_layout
from melt.models.gguf.metadata import Metadata
from melt.models.gguf.split import read_model, stem_of
from melt.models.gguf.types import FILE_TYPES, TENSOR_TYPES_BY_NAME
from melt.models.info import ModelInfo

_ARCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MAX_NAME_CHARACTERS = 200


def inspect_file(path: Path, ref: str = "") -> ModelInfo:
    """The ModelInfo of the GGUF file at ``path``, or of the model of which it is the first; ``sha256`` is left empty.

    Raises:
        ModelError: a file is missing, damaged, cut short, or describes no model.
    """
    header, files = read_model(path)
    if not header.tensors:
        raise ModelError(f"{path}: it has no weights: a vocabulary alone", "Name the model's own file.")
    file_bytes = sum(file.stat().st_size for file in files)
    info = info_from_header(header, path=str(path), ref=ref or str(path), file_bytes=file_bytes)
    return replace(info, n_files=len(files))


def info_from_header(header: Header, path: str = "", ref: str = "", file_bytes: int = 0) -> ModelInfo:
    """The ModelInfo that a header gives; ``path`` and ``ref`` only label it."""
    label, file_stem = path or ref, stem_of(Path(path).name)
    general = Metadata(header.metadata, "", label)
    kind = general.text("general.type") or "model"
    if kind != "model":  # a LoRA's architecture is its model's
        hint = "Name the model's own file; an adapter is merged into it first: llama-export-lora."
        raise ModelError(f"{label}: says of itself that it is of type {kind[:_MAX_NAME_CHARACTERS]!r}, no model", hint)
    arch = general.text("general.architecture")
    if not _ARCH.fullmatch(arch):
        raise ModelError(f"{label}: it does not say its architecture", "It may be an adapter or a projector.")
    meta = Metadata(header.metadata, f"{arch}.", label)
    layers, active = layer_layout(arch, meta), active_part(header.tensors, meta)
    embedding = next((t for t in header.tensors if t.name == "token_embd.weight"), None)
    bytes_by_type = _bytes_by_type(header)
    info = ModelInfo(
        name=general.text("general.name")[:_MAX_NAME_CHARACTERS] or file_stem or ref,
        short_name=file_stem or ref,
        ref=ref,
        path=path,
        file_bytes=file_bytes,
        arch=arch,
        family=architecture(arch).family,
        quant=_quant(general, bytes_by_type),
        synthetic="melt.synthetic" in header.metadata,
        n_params=sum(t.elements for t in header.tensors),
        n_params_active=active.n_params,
        n_experts=active.n_experts,
        n_experts_used=active.n_experts_used,
        d_ff_expert=active.expert_width,
        n_layers=layers.n_layers,
        vocab_size=_vocab_size(header, meta, embedding.dims[-1] if embedding else 0),
        context_trained=meta.count("context_length"),
        bytes_by_type=bytes_by_type,
        weights_bytes=sum(bytes_by_type.values()),
        active_weights_bytes=active.weights_bytes,
        embedding_bytes=embedding.size_bytes if embedding else 0,
        tied_embedding=not any(t.name == "output.weight" for t in header.tensors),
        kv_layout=layers.kv,
    )
    return _with_layers(info, layers, meta)


def _with_layers(info: ModelInfo, layers: LayerLayout, meta: Metadata) -> ModelInfo:
    """With the widths of its layers, and what they carry on."""
    return replace(
        info,
        n_attention_layers=layers.n_attention,
        n_recurrent_layers=layers.n_recurrent,
        d_model=meta.count("embedding_length"),
        n_heads=layers.n_heads,
        n_kv_heads=max(layers.kv.heads_by_layer, default=0),
        head_dim=layers.kv.head_dim_k,
        d_ff=max(meta.counts("feed_forward_length", layers.n_layers), default=0),
        d_inner=meta.count("ssm.inner_size"),
        d_state=meta.count("ssm.state_size") or meta.count("wkv.head_size") or meta.count("kda.head_dim"),
        d_conv=meta.count("ssm.conv_kernel") or meta.count("shortconv.l_cache"),
        n_groups=meta.count("ssm.group_count"),
        conv_state_elements=layers.conv_state_elements,
        ssm_state_elements=layers.ssm_state_elements,
    )


def _bytes_by_type(header: Header) -> dict[str, int]:
    """The weights' bytes by the type of their elements, the most first."""
    found: Counter[str] = Counter()
    for tensor in header.tensors:
        found[tensor.type.name] += tensor.size_bytes
    return dict(found.most_common())


def _quant(general: Metadata, bytes_by_type: Mapping[str, int]) -> str:
    """The recipe's name; failing that, the type that most bytes of matrices have."""
    file_type = general.count("general.file_type", default=-1)
    if file_type in FILE_TYPES:
        return FILE_TYPES[file_type]
    for name in bytes_by_type:
        if TENSOR_TYPES_BY_NAME[name].block_elements > 1 or len(bytes_by_type) == 1:
            return name
    return next(iter(bytes_by_type), "unknown")


def _vocab_size(header: Header, meta: Metadata, embedding_rows: int) -> int:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, SkippedArray):
        return tokens.length
    if isinstance(tokens, tuple):
        return len(tokens)
    return meta.count("vocab_size") or embedding_rows
