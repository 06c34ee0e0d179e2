"""How much memory an ONNX model will need under melt's engine for ONNX Runtime."""

from melt.models.buffers import Context, MemoryPrediction, kv_bytes_per_token, state_bytes
from melt.models.info import ModelInfo

_FLOAT_BYTES = 4


def predict_onnx_memory(info: ModelInfo, context: Context) -> MemoryPrediction:
    """The memory of ``info`` with room for the tokens of ``context``, read in chunks of its ``ubatch``.

    Caches are in the graph's own types and hold exactly that many tokens. Recurrent state is kept twice: one goes in
    while the next comes out. Not in it are the copies of the weights that ONNX Runtime packs for its products.
    """
    n_ctx, ubatch = context.n_ctx, context.ubatch
    if info.cache_tokens or info.chunk_tokens:  # fixed shapes: a cache is kept twice too, and is full from the start
        n_ctx, ubatch = 2 * info.cache_tokens, info.chunk_tokens
    return MemoryPrediction(
        weights_bytes=info.weights_bytes,
        kv_bytes=n_ctx * kv_bytes_per_token(info),
        state_bytes=2 * state_bytes(info),
        compute_bytes=(info.chunk_tokens or min(ubatch, n_ctx)) * _layer_floats(info) * _FLOAT_BYTES,
        output_bytes=info.vocab_size * _FLOAT_BYTES,
    )


def _layer_floats(info: ModelInfo) -> int:
    """Floats that ONNX Runtime holds for one token, as measured over the families of the zoo in chunks of 512.

    It keeps what the first call of a length has taken, and from the second on a block laid out for that length.
    """
    recurrent = info.widest_product if info.n_recurrent_layers else 0
    return 8 * info.d_model + 17 * (info.d_ff or (0 if recurrent else info.widest_product)) // 2 + 11 * recurrent
