"""Every column of every frame, with its unit and meaning: the one table behind ``docs/results.md``.

``METRICS`` are the columns of ``runs`` that ``cells`` carries as medians over sessions, and the direction
in which each is better.
"""

from dataclasses import dataclass
from typing import Literal

FRAMES = ("runs", "iterations", "tokens", "samples", "ops", "rails", "flags", "cells")


@dataclass(frozen=True)
class Column:
    """One column: ``unit`` is empty for text and counts."""

    name: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class Metric(Column):
    """A number of a run that is collapsed over sessions; ``label`` is its short name for people."""

    better: Literal["lower", "higher", ""] = ""
    label: str = ""


IDENTITY = (
    Column("run_id", "", "the run: one fresh process"),
    Column("cell_id", "", "hash of the cell, the configuration that was measured"),
    Column("passport_id", "", "hash of what must be equal before two runs are pooled (device, software, model file)"),
    Column("conditions_id", "", "the same without the model: equal for models that may be compared"),
)

SETTINGS = (
    Column("device", "", "name of the device profile"),
    Column("backend", "", "engine"),
    Column("accelerator", "", "what was asked for: cpu, gpu or npu"),
    Column("runner", "", "program on the device: python or native (docs/runner.md)"),
    Column("effective_accelerator", "", "where at least half of the weights were"),
    Column("model", "", "reference of the model"),
    Column("model_name", "", "name of the model"),
    Column("family", "", "transformer, ssm or hybrid"),
    Column("arch", "", "architecture as the engine names it"),
    Column("quant", "", "quantisation of the weights"),
    Column("synthetic", "", "true where the weights are random numbers in the published shape"),
    Column("n_params", "parameters", "number of parameters"),
    Column("prompt_tokens", "tokens", "context length: tokens of the prompt, all in the cache when decoding starts"),
    Column("gen_tokens", "tokens", "tokens generated after the prompt"),
    Column("threads", "threads", "threads the engine used"),
    Column("cores", "", "the processors it ran on: all, a cluster by name, or a mask"),
    Column("power_mode", "", "the device's power mode by its own name, where it has any"),
    Column("batch", "tokens", "logical batch of the prefill"),
    Column("ubatch", "tokens", "physical batch of the prefill; the model's own where it has fixed it"),
    Column("flash_attn", "", "fused attention: auto, on or off"),
    Column("type_k", "", "element type of the key cache; in a model that has fixed it, of all that is carried on"),
    Column("type_v", "", "element type of the value cache; likewise"),
    Column("workload", "", "fixed or sustained"),
    Column("warmups", "", "passes before the timed ones that the plan asked for"),
    Column("iterations", "", "timed passes a session that the plan asked for"),
    Column("seed", "", "seed of the prompt's tokens"),
)

LATENCY = (
    Metric("ttft_s", "s", "from submitting the prompt to the first token being known", "lower", "Time to first token"),
    Metric("prefill_s", "s", "from submitting the prompt's first batch to the synchronised end of its last", "lower"),
    Metric("prefill_tok_per_s", "tokens/s", "prompt_tokens / prefill_s of the same row", "higher", "Prompt speed"),
    Metric("tpot_s", "s", "(last token - first token) / (generated tokens - 1)", "lower", "Time per token"),
    Metric("decode_tok_per_s", "tokens/s", "1 / tpot_s of the same row", "higher", "Generation speed"),
    Metric("itl_p50_s", "s", "median interval between tokens", "lower"),
    Metric("itl_p90_s", "s", "90th percentile of the intervals between tokens", "lower"),
    Metric("itl_p99_s", "s", "99th percentile of the intervals between tokens", "lower"),
    Metric("itl_max_s", "s", "longest interval between tokens", "lower"),
)

ENERGY = (
    Metric("energy_prefill_j", "J", "energy of the prefill, gross", "lower"),
    Metric("energy_decode_j", "J", "energy from the first to the last token, gross", "lower"),
    Metric("energy_prefill_net_j", "J", "energy of the prefill less idle power x time", "lower"),
    Metric("energy_decode_net_j", "J", "energy of the decode less idle power x time", "lower"),
    Metric(
        "energy_prefill_uncertainty_j", "J", "standard uncertainty of energy_prefill_j; NaN if no accuracy is stated"
    ),
    Metric("energy_decode_uncertainty_j", "J", "standard uncertainty of energy_decode_j; NaN if no accuracy is stated"),
    Metric("energy_prefill_method_uncertainty_j", "J", "the part of it that comes from reading and integrating"),
    Metric("energy_decode_method_uncertainty_j", "J", "the part of it that comes from reading and integrating"),
    Metric("energy_prefill_coverage", "0 to 1", "share of the prefill within one native period of a power sample"),
    Metric("energy_decode_coverage", "0 to 1", "share of the decode within one native period of a power sample"),
    Metric("prefill_j_per_token", "J/token", "energy_prefill_j / prompt tokens", "lower", "Energy per prompt token"),
    Metric("decode_j_per_token", "J/token", "energy_decode_j / (generated tokens - 1)", "lower", "Energy per token"),
    Metric("mean_power_w", "W", "mean power from the start of the prefill to the last token"),
)

# Speeds follow from the median time of their row: the median of speeds is another number where the count is even.
TIME_OF_SPEED = {"prefill_tok_per_s": "prefill_s", "decode_tok_per_s": "tpot_s"}

# Collapsed from iterations to a run by their median.
PER_ITERATION = LATENCY + ENERGY

MEMORY = (
    Metric("peak_rss_bytes", "bytes", "peak resident set of the runner's process", "lower", "Peak memory"),
    Metric("peak_pss_bytes", "bytes", "largest proportional set of the runner's process that was sampled", "lower"),
    Metric("available_drop_bytes", "bytes", "device-wide available memory when idle less its trough", "lower"),
    Metric("gpu_memory_rise_bytes", "bytes", "memory of the GPU, all processes: its peak less what it was when idle"),
    Metric("weights_bytes", "bytes", "the engine's weight buffers less repacked_bytes"),
    Metric("repacked_bytes", "bytes", "second copy of weights, repacked for the processor (buffers named *_REPACK)"),
    Metric("kv_bytes", "bytes", "the engine's KV cache"),
    Metric("state_bytes", "bytes", "the engine's recurrent and convolution state"),
    Metric("compute_bytes", "bytes", "the engine's compute buffers"),
    Metric("output_bytes", "bytes", "the engine's output buffers"),
    Metric("explained_memory_bytes", "bytes", "sum of the engine's buffers: the six above"),
    Metric("runtime_baseline_bytes", "bytes", "resident set of the runner just before it loaded the model"),
    Metric(
        "tables_bytes", "bytes", "what loading took beyond the engine's buffers: the vocabulary's tables and the like"
    ),
    Metric("unexplained_memory_bytes", "bytes", "peak less explained, and less baseline and tables where known"),
    Metric(
        "predicted_memory_bytes", "bytes", "engine buffers predicted from the architecture's formulas; no repacked copy"
    ),
)

PER_RUN = (
    Metric(
        "compile_s",
        "s",
        "compiling the model for its accelerator, in no other time; NaN where that was done before, or never is",
        "lower",
    ),
    Metric("load_s", "s", "loading the model, where it is compiled beforehand from what that made", "lower"),
    Metric("cold_ttft_s", "s", "load_s + the time to first token of the process's first full pass", "lower"),
    *PER_ITERATION,
    *MEMORY,
    Metric("idle_power_w", "W", "mean power of the idle baseline just before the run"),
    Metric("prompts_per_charge", "prompts", "battery capacity / (energy_prefill_j + energy_decode_j)", "higher"),
    Metric("max_temp_c", "°C", "hottest sample of any temperature sensor between loading and the last token"),
    Metric("start_temp_c", "°C", "temperature at the start of the session"),
    Metric("time_to_throttle_s", "s", "from the first timed prefill to where decode speed falls and stays down"),
    Metric("tokens_to_throttle", "tokens", "generated tokens until then"),
)
METRICS = {m.name: m for m in PER_RUN}

RUNS = (
    *IDENTITY,
    Column("session", "", "index of the session among those of its cell"),
    Column("attempt", "", "0, or how often the run was repeated after a transient device error"),
    Column("plan_name", "", "name of the plan"),
    Column("status", "", "ok, failed or skipped"),
    Column("error_kind", "", "short stable name of why it failed or was skipped"),
    Column("error_message", "", "the same in a sentence"),
    Column("flags", "", "reasons to doubt the run, sorted, joined by commas; evidence is in the flags frame"),
    Column("compiled", "", "cold where the run compiled its model, cached where it found that done; else NaN"),
    Column("started_at", "", "start by the host's clock, UTC"),
    *SETTINGS,
    Column("n_iterations", "", "timed iterations"),
    Column("n_unknown_lines", "", "lines of the runner's stream that are no event"),
    *PER_RUN,
    Column("energy_sensor", "", "what measured power"),
    Column("energy_prefill_reason", "", "why energy_prefill_j is NaN"),
    Column("energy_decode_reason", "", "why energy_decode_j is NaN"),
)

ITERATIONS = (
    Column("run_id", "", "the run"),
    Column("iteration", "", "index among the timed iterations; warm-ups are left out"),
    Column("t_start_ns", "ns", "start of the prefill on the device's clock"),
    Column("prompt_tokens", "tokens", "prompt tokens that were processed"),
    Column("gen_tokens", "tokens", "tokens that were generated"),
    *PER_ITERATION,
    Column("energy_prefill_reason", "", "why energy_prefill_j is NaN"),
    Column("energy_decode_reason", "", "why energy_decode_j is NaN"),
)

TOKENS = (
    Column("run_id", "", "the run"),
    Column("iteration", "", "index among the timed iterations"),
    Column("index", "", "0 for the first generated token"),
    Column("t_ns", "ns", "when the token was known, on the device's clock"),
    Column("itl_s", "s", "time since the token before; NaN for the first"),
)

SAMPLES = (
    Column("run_id", "", "the run"),
    Column("source", "", "name of the series"),
    Column("quantity", "", "what is measured; the name ends in its SI unit"),
    Column("site", "", "where it is measured"),
    Column("t_ns", "ns", "when it was read, on the device's clock"),
    Column("value", "SI", "the value, in the unit its quantity names"),
)

OPS = (
    Column("run_id", "", "the run"),
    Column("phase", "", "prefill or decode"),
    Column("context", "tokens", "context length of the profiling pass"),
    Column("op", "", "operator as the engine names it"),
    Column(
        "category",
        "",
        "attention, gemm, scan, conv, norm, elementwise, copy, embedding, output (the vocabulary) or other",
    ),
    Column("device", "", "where it ran"),
    Column("count", "", "calls"),
    Column("total_s", "s", "time of all calls; from a separate pass, never from a timed iteration"),
    Column("share", "0 to 1", "share of the phase's time"),
)

RAILS = (
    Column("run_id", "", "the run"),
    Column("source", "", "name of the series"),
    Column("rail", "", "what the board calls it"),
    Column("sensor", "", "what measures it"),
    Column("site", "", "where it is measured"),
    Column(
        "counts_in_total", "", "whether it is a part of the device's total; others are inside such a one, or beside it"
    ),
    Column("idle_power_w", "W", "mean power of the idle baseline"),
    Column("energy_prefill_j", "J", "energy of the prefill, gross"),
    Column("power_prefill_w", "W", "mean power of the prefill"),
    Column("prefill_j_per_token", "J/token", "energy_prefill_j / prompt tokens"),
    Column("energy_prefill_reason", "", "why energy_prefill_j is NaN in the first iteration that lacks it"),
    Column("energy_decode_j", "J", "energy from the first to the last token, gross"),
    Column("power_decode_w", "W", "mean power from the first to the last token"),
    Column("decode_j_per_token", "J/token", "energy_decode_j / (generated tokens - 1)"),
    Column("energy_decode_reason", "", "why energy_decode_j is NaN in the first iteration that lacks it"),
)

FLAGS = (
    Column("run_id", "", "the run"),
    Column("flag", "", "short stable name"),
    Column("evidence", "", "what it rests on"),
)

CELLS = (
    *(c for c in IDENTITY if c.name != "run_id"),
    *SETTINGS,
    Column("n_sessions", "", "sessions that are ok: the sample size of every median"),
    Column("n_failed", "", "runs that failed"),
    Column("n_skipped", "", "runs that were skipped"),
    Column("flags", "", "every flag of its ok runs, sorted, joined by commas"),
    *PER_RUN,
)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "runs": RUNS,
    "iterations": ITERATIONS,
    "tokens": TOKENS,
    "samples": SAMPLES,
    "ops": OPS,
    "rails": RAILS,
    "flags": FLAGS,
    "cells": CELLS,
}


def names(frame: str) -> list[str]:
    """The columns of a frame in order; those of ``cells`` with the bounds of each metric beside it."""
    if frame != "cells":
        return [c.name for c in COLUMNS[frame]]
    out = []
    for column in CELLS:
        out.append(column.name)
        if column.name in METRICS:
            out += [f"{column.name}_lo", f"{column.name}_hi"]
    return out
