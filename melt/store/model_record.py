"""A model as its runs keep it."""

from melt.models.info import ModelInfo
from melt.store.manifest import ModelRecord

_SHAPE = (
    *("n_layers", "d_model", "n_heads", "n_kv_heads", "vocab_size", "d_state", "embedding_bytes"),
    *("n_experts", "n_experts_used"),
)


def model_record(model: ModelInfo) -> ModelRecord:
    """The model as a run keeps it: no path of this host."""
    shape = {k: v for k in _SHAPE if isinstance(v := getattr(model, k, None), int)}
    return ModelRecord(
        ref=model.ref,
        name=model.short_name,
        sha256=model.sha256,
        file_bytes=model.file_bytes,
        family=model.family,
        arch=model.arch,
        quant=model.quant,
        synthetic=model.synthetic,
        n_params=model.n_params,
        context_trained=model.context_trained or None,
        source=model.revision,
        shape=shape,
    )
