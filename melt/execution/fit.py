"""Whether a cell fits: in its device's memory by prediction, and in the context its model was trained for."""

from melt.models.info import ModelInfo
from melt.models.memory import predict_memory, why_unpredictable
from melt.spec.cell import Cell
from melt.store.manifest import Prediction


def predicted(cell: Cell, model: ModelInfo) -> Prediction | None:
    """The memory that a run of the cell needs, by the architecture's formulas; None where there are none."""
    if why_unpredictable(model):
        return None
    tokens = cell.prompt_tokens + cell.gen_tokens
    fused = cell.flash_attn != "off"  # what "auto" comes to wherever the engine has it
    memory = predict_memory(model, tokens, cell.type_k, cell.type_v, cell.ubatch, flash_attn=fused, n_outputs=1)
    return Prediction(**{key: getattr(memory, key) for key in Prediction.model_fields})


def does_not_fit(needs: Prediction | None, available_bytes: int | None, fraction: float) -> str:
    """Why a run would run out of memory, by prediction; empty where it fits or where it cannot be known."""
    if needs is None or available_bytes is None or needs.total_bytes <= available_bytes * fraction:
        return ""
    available, allowed = available_bytes / 2**20, available_bytes * fraction / 2**20
    share = f"{fraction:.0%} of the {available:.0f} MiB available is {allowed:.0f} MiB"
    return f"needs {needs.total_bytes / 2**20:.0f} MiB by prediction, and {share}"


def unpredicted(model: ModelInfo) -> str:
    """That a run may run out of memory, as nothing tells beforehand what it needs; empty where something does."""
    reason = why_unpredictable(model)
    return f"{reason}; it is run all the same" if reason else ""


def beyond_training(cell: Cell, model: ModelInfo) -> str:
    """That the context is longer than the model was trained for.

    Empty where it is not, or the model says nothing of it, or has no positions.
    """
    tokens = cell.prompt_tokens + cell.gen_tokens
    if model.family == "ssm" or not 0 < model.context_trained < tokens:
        return ""
    return f"{tokens} tokens; trained for {model.context_trained}: the speed is right, the text would not be"
