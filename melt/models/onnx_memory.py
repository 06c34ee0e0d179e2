"""How much memory an ONNX model will need under melt's engine for ONNX Runtime."""

from melt.models.info import ModelInfo
from melt.models.memory import MemoryPrediction, kv_bytes_per_token, state_bytes

_FLOAT_BYTES = 4


def predict_onnx_memory(info: ModelInfo, n_ctx: int, ubatch: int) -> MemoryPrediction:
    """Predict the memory of ``info`` with room for ``n_ctx`` tokens, read in chunks of ``ubatch``.

    Caches are in the graph's own types and hold exactly ``n_ctx`` tokens. Recurrent state is kept twice: one goes in
    while the next comes out. Not in it are the copies of the weights that ONNX Runtime packs for its products.
    """
    return MemoryPrediction(
        weights_bytes=info.weights_bytes,
        kv_bytes=n_ctx * kv_bytes_per_token(info),
        state_bytes=2 * state_bytes(info),
        compute_bytes=min(ubatch, n_ctx) * _layer_floats(info) * _FLOAT_BYTES,
        output_bytes=info.vocab_size * _FLOAT_BYTES,
    )


def _layer_floats(info: ModelInfo) -> int:
    """Floats alive at once for one token: the stream, and the widest products of a layer."""
    return 2 * info.d_model + 3 * info.widest_product
