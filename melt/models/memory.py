"""How much memory a model will need, before it runs.

The weights, the attention cache and the recurrent state follow llama.cpp's own layout and agree
with what it logs. The compute buffer is an estimate: the widest moment of its graph, as measured
over the families in the zoo (within a few percent there). The runner itself is not counted.
"""

from dataclasses import asdict, dataclass

from melt.errors import ModelError
from melt.models.gguf.architectures import architecture
from melt.models.gguf.types import TENSOR_TYPES_BY_NAME
from melt.models.info import ModelInfo
from melt.models.shapes.zoo import suggest

CELL_ALIGNMENT = 256
_FLOAT_BYTES = 4
_KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")


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


def why_unpredictable(info: ModelInfo) -> str:
    """Why the memory of ``info`` cannot be predicted; empty where it can."""
    if info.format == "onnx":
        return ""
    reason = architecture(info.arch).unpredicted
    return f"the memory of {info.arch} cannot be predicted: {reason}" if reason else ""


def predict_memory(
    info: ModelInfo,
    n_ctx: int,
    type_k: str = "f16",
    type_v: str = "f16",
    ubatch: int = 512,
    *,
    flash_attn: bool = True,
    swa_full: bool = False,
    n_outputs: int | None = None,
) -> MemoryPrediction:
    """Predict the memory of ``info`` with room for ``n_ctx`` tokens.

    Args:
        info: the model.
        n_ctx: tokens of context, prompt and generation together.
        type_k: type of the K cache, as llama.cpp spells it.
        type_v: type of the V cache.
        ubatch: tokens computed at once in prefill.
        flash_attn: llama.cpp turns it on by itself where it can.
        swa_full: keep the whole context even in layers with a window (llama.cpp's default for
            library users; its own tools turn it off, and so does melt).
        n_outputs: most tokens of a batch whose logits are kept room for; None is all of them.

    Raises:
        ModelError: ``why_unpredictable`` has a reason, or a cache has no such type.
    """
    if reason := why_unpredictable(info):
        raise ModelError(f"{info.name}: {reason}", "Measure it, and read what was used.")
    if info.format == "onnx":
        from melt.models.onnx.memory import predict_onnx_memory

        return predict_onnx_memory(info, n_ctx, ubatch)
    n_ctx = padded_context(n_ctx)
    ubatch = min(ubatch, n_ctx)
    return MemoryPrediction(
        weights_bytes=info.weights_bytes,
        kv_bytes=kv_bytes(info, n_ctx, type_k, type_v, ubatch, swa_full=swa_full),
        state_bytes=state_bytes(info),
        compute_bytes=_compute_bytes(info, n_ctx, ubatch, n_outputs or ubatch, flash_attn),
        output_bytes=info.vocab_size * _FLOAT_BYTES,
    )


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


def _compute_bytes(info: ModelInfo, n_ctx: int, ubatch: int, n_outputs: int, flash_attn: bool) -> int:
    """The widest moment of the graph: the logits, or inside a layer."""
    d = info.d_model
    logits = min(n_outputs, ubatch) * (info.vocab_size + 2 * d)
    return max(logits, ubatch * _layer_floats(info, n_ctx, flash_attn)) * _FLOAT_BYTES


def _layer_floats(info: ModelInfo, n_ctx: int, flash_attn: bool) -> int:
    """Floats alive at once for one token, inside the widest kind of layer."""
    mask = (n_ctx // 2 if flash_attn else n_ctx) if info.n_attention_layers else 0
    return mask + max(
        *_feed_forward_floats(info), *_attention_floats(info, n_ctx, flash_attn), *_recurrent_floats(info)
    )


def _feed_forward_floats(info: ModelInfo) -> list[int]:
    d, used, width = info.d_model, info.n_experts_used, info.d_ff_expert
    return [4 * d + 3 * info.d_ff, used * (d + 2 * width), 3 * (d + used * width)]


def _attention_floats(info: ModelInfo, n_ctx: int, flash_attn: bool) -> list[int]:
    if not info.n_attention_layers:
        return []
    layout = info.kv_layout
    latent = 2 * info.n_heads * layout.head_dim_k if layout.is_latent else 0
    if flash_attn:
        return [latent + info.n_heads * layout.head_dim_v] if latent else []
    return [latent + info.n_heads * n_ctx + 11 * info.d_model // 2]


def _recurrent_floats(info: ModelInfo) -> list[int]:
    d, inner = info.d_model, info.d_inner
    convolved = inner + 2 * info.n_groups * info.d_state
    if info.arch.startswith(("rwkv", "arwkv")):
        return [19 * d]
    if info.n_groups and architecture(info.arch).recurrent == "by interval":  # gated delta nets
        return [3 * (d + convolved)]
    if info.n_groups:
        return [2 * d + 3 * (inner + convolved)]
    return [2 * d + 11 * inner // 2] if inner else []
