"""Memory: what was measured, what the engine explains of it, and what was predicted."""

import math
from dataclasses import dataclass

import numpy as np

from melt.analysis.run_record import RunRecord
from melt.analysis.stats import median
from melt.analysis.telemetry import Telemetry, Values, finite, largest, within
from melt.spec.events import BUFFER_KINDS
from melt.spec.metrics import CostLaw, Metric, Words
from melt.telemetry.source import Memory, Source

METRICS = (
    Metric(
        "peak_rss_bytes",
        "bytes",
        "peak resident set of the runner's process",
        title="peak memory",
        better="lower",
        words=Words("smaller", "larger"),
        shown=("summary", "cells", "runs", "sentence", "card", "crossover"),
        figure="memory",
        plain="The largest resident memory of the process that runs the model.",
        law=CostLaw(with_attention=1.0, without=1.0),
    ),
    Metric(
        "peak_pss_bytes",
        "bytes",
        "largest proportional set of the runner's process that was sampled",
        title="peak proportional memory",
        short="peak PSS",
        better="lower",
    ),
    Metric(
        "available_drop_bytes",
        "bytes",
        "device-wide available memory when idle less its trough",
        title="drop of available memory",
        better="lower",
    ),
    Metric(
        "gpu_memory_rise_bytes",
        "bytes",
        "memory of the GPU, all processes: its peak less what it was when idle",
        title="rise of GPU memory",
    ),
    Metric(
        "weights_bytes",
        "bytes",
        "the engine's weight buffers less repacked_bytes",
        title="weights",
        shown=("memory parts",),
    ),
    Metric(
        "repacked_bytes",
        "bytes",
        "second copy of weights, repacked for the processor (buffers named *_REPACK)",
        title="repacked weights",
        short="repacked",
        shown=("memory parts",),
    ),
    Metric("kv_bytes", "bytes", "the engine's KV cache", title="KV cache", shown=("memory parts",)),
    Metric(
        "state_bytes",
        "bytes",
        "the engine's recurrent and convolution state",
        title="recurrent state",
        shown=("memory parts",),
    ),
    Metric("compute_bytes", "bytes", "the engine's compute buffers", title="compute buffers", shown=("memory parts",)),
    Metric("output_bytes", "bytes", "the engine's output buffers", title="output buffers", shown=("memory parts",)),
    Metric("explained_memory_bytes", "bytes", "sum of the engine's buffers: the six above", title="explained memory"),
    Metric(
        "runtime_baseline_bytes",
        "bytes",
        "resident set of the runner just before it loaded the model",
        title="runtime baseline",
        short="runtime",
        shown=("memory parts",),
    ),
    Metric(
        "tables_bytes",
        "bytes",
        "what loading took beyond the engine's buffers: the vocabulary's tables and the like",
        title="vocabulary tables",
        short="vocabulary",
        shown=("memory parts",),
    ),
    Metric(
        "unexplained_memory_bytes",
        "bytes",
        "peak less explained, and less baseline and tables where known",
        title="unexplained memory",
    ),
    Metric(
        "predicted_memory_bytes",
        "bytes",
        "engine buffers predicted from the architecture's formulas; no repacked copy",
        title="predicted memory",
        shown=("cells",),
    ),
)
SETTLED_WITHIN = 0.01  # a high-water mark that rose by more between two samples may have risen since
BUFFERS = tuple(f"{kind}_bytes" for kind in (*BUFFER_KINDS, "repacked"))
REPACKED_DEVICE = "_REPACK"  # ends the name of the device that holds llama.cpp's second copy of weights


@dataclass(frozen=True)
class SampledMemory:
    """What the sampler saw of memory, in bytes."""

    peak_rss_bytes: float = math.nan
    peak_pss_bytes: float = math.nan
    runtime_baseline_bytes: float = math.nan
    available_drop_bytes: float = math.nan
    gpu_memory_rise_bytes: float = math.nan


def sampled_memory(telemetry: Telemetry) -> SampledMemory:
    """What the sampler saw of a run's memory."""

    def of_process(*memory: Memory) -> list[Values]:
        return telemetry.values(telemetry.sources("memory_bytes", "process", memory), telemetry.run)

    return SampledMemory(
        peak_rss_bytes=_settled(finite(of_process("peak_rss"))),
        peak_pss_bytes=largest(of_process("pss")),
        runtime_baseline_bytes=_before_loading(telemetry),
        available_drop_bytes=_available_drop(telemetry),
        gpu_memory_rise_bytes=_gpu_rise(telemetry),
    )


def only_before_loading(source: Source) -> bool:
    """Whether only the time before the model was loaded matters of a source: the bulk of it need not be parsed."""
    return source.site == "process" and source.memory == "rss"


def superseded(source: Source, rec: RunRecord) -> bool:
    """Whether the runner's own reading is used instead of a source."""
    return source.memory == "peak_rss" and any(p.memory.peak_rss_bytes is not None for p in rec.passes)


def of_run(rec: RunRecord, sampled: SampledMemory) -> dict[str, float]:
    """The memory metrics of a run."""
    peaks = [p.memory.peak_rss_bytes for p in rec.passes if p.memory.peak_rss_bytes is not None]
    shares = [p.memory.pss_bytes for p in rec.passes if p.memory.pss_bytes is not None]
    peak = float(max(peaks)) if peaks else sampled.peak_rss_bytes
    buffers = _buffers(rec)
    explained = sum(buffers.values())
    tables = rec.loaded.tables_bytes if rec.loaded and rec.loaded.tables_bytes is not None else math.nan
    predicted = rec.manifest.prediction
    return {
        "peak_rss_bytes": peak,
        "peak_pss_bytes": float(np.fmax(sampled.peak_pss_bytes, max(shares, default=math.nan))),
        "available_drop_bytes": sampled.available_drop_bytes,
        "gpu_memory_rise_bytes": sampled.gpu_memory_rise_bytes,
        **buffers,
        "explained_memory_bytes": explained,
        "runtime_baseline_bytes": sampled.runtime_baseline_bytes,
        "tables_bytes": float(tables),
        "unexplained_memory_bytes": peak - explained - np.nansum([sampled.runtime_baseline_bytes, tables]),
        "predicted_memory_bytes": float(predicted.total_bytes) if predicted else math.nan,
    }


def _buffers(rec: RunRecord) -> dict[str, float]:
    """The engine's buffers by kind; a kind that it does not have is 0 where it said which it has, else NaN."""
    listed = rec.loaded.buffers if rec.loaded else ()
    sums = dict.fromkeys(BUFFERS, 0.0 if listed else math.nan)
    for buffer in listed:
        is_copy = buffer.kind == "weights" and buffer.device.endswith(REPACKED_DEVICE)
        sums["repacked_bytes" if is_copy else f"{buffer.kind}_bytes"] += buffer.bytes
    return sums


def _settled(high_water: Values) -> float:
    """The last of a high-water mark, where the one before it was nearly the same: else it may have risen unread."""
    if len(high_water) < 2 or high_water[-1] > high_water[-2] * (1 + SETTLED_WITHIN):
        return math.nan
    return float(high_water[-1])


def _before_loading(telemetry: Telemetry) -> float:
    """The runner's resident set before it loaded the model: its own reading, else the last sample before."""
    loaded = telemetry.rec.loaded
    if loaded is None:
        return math.nan
    if loaded.base_rss_bytes is not None:
        return float(loaded.base_rss_bytes)
    resident = telemetry.sources("memory_bytes", "process", ("rss", "peak_rss"))[:1]
    before = finite(telemetry.values(resident, (0, loaded.t_start_ns)))
    return float(before[-1]) if before.size else math.nan


def _available_drop(telemetry: Telemetry) -> float:
    """Median of the device's available memory while idle less the smallest while running."""
    for source in telemetry.sources("memory_bytes", "system", ("available",))[:1]:
        one = telemetry.by_name[source.name]
        before, during = finite([within(one, telemetry.idle)]), finite([within(one, telemetry.run)])
        if before.size and during.size:
            return float(np.median(before) - during.min())
    return math.nan


def _gpu_rise(telemetry: Telemetry) -> float:
    """The most that the GPU's driver had given out while running less the median while idle."""
    for source in telemetry.sources("memory_bytes", "gpu", ("allocated",))[:1]:
        one = telemetry.by_name[source.name]
        return largest([within(one, telemetry.run)]) - median(within(one, telemetry.idle))
    return math.nan
