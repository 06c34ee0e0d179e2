"""What a model keeps in memory while it runs: the attention cache and the recurrent state, by its layout."""

from dataclasses import asdict, dataclass
from typing import get_args

from melt.errors import ModelError
from melt.models.gguf.types import TENSOR_TYPES_BY_NAME
from melt.models.info import ModelInfo
from melt.models.shapes.zoo import suggest
from melt.spec.cell import KvType

CELL_ALIGNMENT = 256
_KV_TYPES: tuple[str, ...] = get_args(KvType)


@dataclass(frozen=True)
class Context:
    """The settings of a context that its buffers depend on; see ``predict_memory``."""

    n_ctx: int
    type_k: str = "f16"
    type_v: str = "f16"
    ubatch: int = 512
    flash_attn: bool = True
    swa_full: bool = False
    n_outputs: int | None = None


@dataclass(frozen=True)
class MemoryPrediction:
    """Bytes by purpose."""

    weights_bytes: int
    kv_bytes: int
    state_bytes: int
    compute_bytes: int
    output_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        parts = (self.kv_bytes, self.state_bytes, self.compute_bytes, self.output_bytes)
        return self.weights_bytes + sum(parts)

    def to_dict(self) -> dict[str, int]:
        """Plain values that ``json.dumps`` takes."""
        return asdict(self) | {"total_bytes": self.total_bytes}


def padded_context(n_ctx: int) -> int:
    """The context llama.cpp really allots: a multiple of 256."""
    return -(-max(n_ctx, 1) // CELL_ALIGNMENT) * CELL_ALIGNMENT


def kv_bytes(
    info: ModelInfo, n_ctx: int, type_k: str = "f16", type_v: str = "f16", ubatch: int = 512, *, swa_full: bool = False
) -> int:
    """Bytes of the attention cache for ``n_ctx`` tokens."""
    n_ctx = padded_context(n_ctx)
    layout = info.kv_layout
    windowed_cells = n_ctx if swa_full else min(n_ctx, padded_context(layout.window + ubatch))
    return sum(
        (windowed_cells if layout.windowed_by_layer[layer] else n_ctx) * _layer_token_bytes(info, layer, type_k, type_v)
        for layer in range(info.n_layers)
    )


def kv_bytes_per_token(info: ModelInfo, type_k: str = "f16", type_v: str = "f16") -> int:
    """Bytes that one more token of context adds to the attention cache, while within any window."""
    return sum(_layer_token_bytes(info, layer, type_k, type_v) for layer in range(info.n_layers))


def state_bytes(info: ModelInfo) -> int:
    """Bytes of recurrent state, whatever the context; llama.cpp keeps it in 32-bit floats."""
    elements = info.conv_state_elements + info.ssm_state_elements
    return info.n_recurrent_layers * elements * info.state_element_bytes


def _layer_token_bytes(info: ModelInfo, layer: int, type_k: str, type_v: str) -> int:
    layout = info.kv_layout
    if info.kv_element_bytes:  # an ONNX graph's own type
        return info.kv_element_bytes * (layout.width_k(layer) + layout.width_v(layer))
    return _row_bytes(type_k, layout.width_k(layer)) + _row_bytes(type_v, layout.width_v(layer))


def _row_bytes(kv_type: str, elements: int) -> int:
    if kv_type.lower() not in _KV_TYPES:
        raise ModelError(f"{kv_type!r} is no type for the KV cache", suggest(kv_type.lower(), list(_KV_TYPES)))
    return TENSOR_TYPES_BY_NAME[kv_type.upper()].bytes_for(elements)
