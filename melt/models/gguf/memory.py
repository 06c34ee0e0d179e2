"""How much memory a GGUF model will need under llama.cpp.

The weights, the attention cache and the recurrent state follow llama.cpp's own layout and agree with what it logs. The
compute buffer is an estimate: the widest moment of its graph, as measured over the families in the zoo (within a few
percent there). The runner itself is not counted.
"""

from melt.models.buffers import Context, MemoryPrediction, kv_bytes, padded_context, state_bytes
from melt.models.gguf.architectures import architecture
from melt.models.info import ModelInfo

_FLOAT_BYTES = 4


def predict_llama_memory(info: ModelInfo, context: Context) -> MemoryPrediction:
    """The memory of ``info`` with room for the tokens of ``context``."""
    n_ctx = padded_context(context.n_ctx)
    ubatch = min(context.ubatch, n_ctx)
    return MemoryPrediction(
        weights_bytes=info.weights_bytes,
        kv_bytes=kv_bytes(info, n_ctx, context.type_k, context.type_v, ubatch, swa_full=context.swa_full),
        state_bytes=state_bytes(info),
        compute_bytes=_compute_bytes(info, n_ctx, ubatch, context.n_outputs or ubatch, context.flash_attn),
        output_bytes=info.vocab_size * _FLOAT_BYTES,
    )


def why_unpredictable(info: ModelInfo) -> str:
    """Why there is no law for the model's architecture; empty where there is one."""
    reason = architecture(info.arch).unpredicted
    return f"the memory of {info.arch} cannot be predicted: {reason}" if reason else ""


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
    row = architecture(info.arch)
    if row.rwkv:
        return [19 * d]
    if info.n_groups and row.recurrent == "by interval":  # gated delta nets
        return [3 * (d + convolved)]
    if info.n_groups:
        return [2 * d + 3 * (inner + convolved)]
    return [2 * d + 11 * inner // 2] if inner else []
