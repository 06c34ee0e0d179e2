"""How much memory a model will need, before it runs: by the law of its format."""

from melt.errors import ModelError
from melt.models.buffers import (
    Context,
    MemoryPrediction,
    kv_bytes,
    kv_bytes_per_token,
    padded_context,
    state_bytes,
)
from melt.models.formats import FORMATS
from melt.models.info import ModelInfo

__all__ = [
    "MemoryPrediction",
    "kv_bytes",
    "kv_bytes_per_token",
    "padded_context",
    "predict_memory",
    "state_bytes",
    "why_unpredictable",
]


def why_unpredictable(info: ModelInfo) -> str:
    """Why the memory of ``info`` cannot be predicted; empty where it can."""
    return FORMATS[info.format].why_unpredictable(info)


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
    context = Context(n_ctx, type_k, type_v, ubatch, flash_attn, swa_full, n_outputs)
    return FORMATS[info.format].predict_memory(info, context)
