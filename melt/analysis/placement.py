"""Did a run compute where it was asked to? Whole, in part, or elsewhere."""

from melt.analysis.run_record import RunRecord
from melt.spec.events import ModelLoaded
from melt.store.manifest import Flag, ModelRecord

PARTIAL = 0.02  # of the weights, beside the embedding's: what a rounded log and an odd norm may leave on the processor


def placement_flags(rec: RunRecord) -> list[Flag]:
    """What was asked for is not what ran, or not all of it."""
    asked, ran = rec.manifest.cell.accelerator, rec.loaded.effective_accelerator if rec.loaded else None
    if rec.loaded is None and rec.hello is not None and asked not in {a.kind for a in rec.hello.accelerators}:
        seen = ", ".join(a.name for a in rec.hello.accelerators) or "none"
        return [Flag(name="accelerator_fallback", evidence=f"asked for {asked}; what the program saw: {seen}")]
    if rec.loaded is None or ran is None:
        return []
    if ran != asked:
        where = ", ".join(f"{b.kind} {b.bytes / 2**20:.1f} MiB on {b.device}" for b in rec.loaded.buffers)
        return [Flag(name="accelerator_fallback", evidence=f"asked for {asked}, ran on {ran}: {where}")]
    share = share_elsewhere(rec)
    if asked == "cpu" or share <= PARTIAL:
        return []
    evidence = f"{share:.0%} of the weights, the embedding's aside, are not on the {asked.upper()} that was asked for"
    return [Flag(name="partial_fallback", evidence=evidence)]


def share_elsewhere(rec: RunRecord) -> float:
    """The share of the weights that is not on the accelerator; 0 where the run does not tell.

    The host's own buffer tells nothing: it maps the file from the first of its weights to the last. So it is what the
    accelerator's buffers lack of the whole. Rows of the embedding are looked up by the host in every case.
    """
    loaded, model, prediction = rec.loaded, rec.manifest.model, rec.manifest.prediction
    if loaded is None or model is None or prediction is None or not prediction.weights_bytes:
        return 0.0
    there = sum(b.bytes for b in loaded.buffers if b.kind == "weights" and not _of_host(b.device))
    lacking = prediction.weights_bytes - _embedding_bytes(model, prediction.weights_bytes) - there
    return max(0.0, lacking / prediction.weights_bytes) if _tells(loaded) else 0.0


def _tells(loaded: ModelLoaded) -> bool:
    return any(b.kind == "weights" for b in loaded.buffers)


def _of_host(device: str) -> bool:
    """Whether a buffer lies in the host's memory, by the names that llama.cpp gives."""
    return device.startswith(("CPU", "AMX")) or device.endswith(("_Host", "_Mapped"))


def _embedding_bytes(model: ModelRecord, weights_bytes: int) -> float:
    """Of a run from before it was kept, at twice the width of a mean weight: embeddings are often wider."""
    known = model.shape.get("embedding_bytes")
    if known is not None:
        return known
    elements = model.shape.get("vocab_size", 0) * model.shape.get("d_model", 0)
    return 2 * elements * weights_bytes / max(1, model.n_params)
