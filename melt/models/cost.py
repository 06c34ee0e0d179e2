"""What a model must compute and read: the laws behind time estimates and the roofline."""

from melt.models.buffers import kv_bytes, kv_bytes_per_token, state_bytes
from melt.models.info import ModelInfo


def flops_prefill(info: ModelInfo, tokens: int) -> int:
    """Floating-point operations to process a prompt of ``tokens`` and give one token's logits."""
    logits = 2 * info.d_model * info.vocab_size
    return 2 * _matrix_params(info) * tokens + _attention_flops(info, tokens) + _scan_flops(info) * tokens + logits


def decode_bytes_per_token(info: ModelInfo, context: int, type_k: str = "f16", type_v: str = "f16") -> int:
    """Bytes that generating one token moves with ``context`` tokens before it.

    The weights are read once (of an untied embedding table only a row, of experts those that are used), the attention
    cache is read (of windowed layers, the window), the recurrent state is read and written.
    """
    weights = info.active_weights_bytes - (0 if info.tied_embedding else info.embedding_bytes)
    return weights + _kv_read_bytes(info, context, type_k, type_v) + 2 * state_bytes(info)


def _matrix_params(info: ModelInfo) -> int:
    tables = 1 if info.tied_embedding else 2
    return max(info.n_params_active - tables * info.vocab_size * info.d_model, 0)


def _attention_flops(info: ModelInfo, tokens: int) -> int:
    """Causal attention: scores and weighted sum over half the square, or over the window."""
    layout = info.kv_layout
    total = 0
    for layer, heads in enumerate(layout.heads_by_layer):
        if heads:
            seen = min(tokens, 2 * layout.window) if layout.windowed_by_layer[layer] else tokens
            total += info.n_heads * sum(layout.head_dims(layer)) * tokens * seen
    return total


def _scan_flops(info: ModelInfo) -> int:
    """One token's state updates and convolutions, over all recurrent layers."""
    per_layer = 9 * info.ssm_state_elements + 2 * info.conv_state_elements
    return info.n_recurrent_layers * per_layer


def _kv_read_bytes(info: ModelInfo, context: int, type_k: str, type_v: str) -> int:
    if not info.kv_layout.window:
        return context * kv_bytes_per_token(info, type_k, type_v)
    # Whole cells: close enough, and right about which layers stop growing.
    return min(kv_bytes(info, context, type_k, type_v, ubatch=0), context * kv_bytes_per_token(info, type_k, type_v))
