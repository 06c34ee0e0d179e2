"""What a GGUF file is, as a ModelInfo: read from its header alone."""

import re
from collections import Counter
from pathlib import Path

from melt.errors import ModelError
from melt.models.gguf.architectures import architecture
from melt.models.gguf.experts import active_part
from melt.models.gguf.header import Header, SkippedArray, read_header
from melt.models.gguf.layers import layer_layout
from melt.models.gguf.metadata import Metadata
from melt.models.gguf.types import FILE_TYPES, TENSOR_TYPES_BY_NAME
from melt.models.info import ModelInfo

_ARCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MAX_NAME_CHARACTERS = 200


def inspect_file(path: Path, ref: str = "") -> ModelInfo:
    """The ModelInfo of the GGUF file at ``path``; ``sha256`` is left empty.

    Raises:
        ModelError: the file is missing, damaged, cut short, or describes no model.
    """
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
        short_name=Path(path).stem or ref,
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
