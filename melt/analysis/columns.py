"""Every column of every frame, with its unit and meaning: the one table behind ``docs/results.md``."""

from melt.analysis.metrics import METRICS, PER_ITERATION, PER_RAIL, PER_RUN
from melt.analysis.settings import SETTINGS
from melt.spec.metrics import Column, Metric

# Kinds of operators, as every runner sorts them.
OP_CATEGORIES = ("attention", "gemm", "scan", "conv", "norm", "elementwise", "copy", "embedding", "output")
IDENTITY = (
    Column("run_id", "", "the run: one fresh process"),
    Column("cell_id", "", "hash of the cell, the configuration that was measured"),
    Column("passport_id", "", "hash of what must be equal before two runs are pooled (device, software, model file)"),
    Column("conditions_id", "", "the same without the model: equal for models that may be compared"),
    Column("settings_id", "", "hash of the cell without its model, context length and passes: asked for the same"),
)
ADAPTIVE = Column("adaptive", "", "whether the plan does not name this length: it is near a crossover")
ITL_REASON = Column("itl_reason", "", "why a percentile of inter-token latency is NaN")

RUNS = (
    *IDENTITY,
    Column("session", "", "index of the session among those of its cell"),
    Column(
        "attempt", "", "0, or which repetition of the session it is, after a passing device error or a disturbed run"
    ),
    Column("plan_name", "", "name of the plan"),
    ADAPTIVE,
    Column("status", "", "ok, failed or skipped"),
    Column("error_kind", "", "short stable name of why it failed or was skipped"),
    Column("error_message", "", "the same in a sentence"),
    Column("flags", "", "reasons to doubt the run, sorted, joined by commas; evidence is in the flags frame"),
    Column("disturbed", "", "the flags among them for which the run's times are not its own, and count for nothing"),
    Column("counted", "", "whether it stands for its session: the first in a results folder that is ok, undisturbed"),
    Column("not_judged", "", "what could not be told of that, joined by commas; it excludes nothing"),
    Column("compiled", "", "cold where the run compiled its model, cached where it found that done; else NaN"),
    Column("started_at", "", "start by the host's clock, UTC"),
    *SETTINGS,
    Column("n_iterations", "", "timed iterations"),
    Column("n_unknown_lines", "", "lines of the runner's stream that are no event"),
    *PER_RUN,
    ITL_REASON,
    Column("energy_sensor", "", "what measured power"),
    Column("energy_site", "", "where it measures: what a joule of this run is a joule of"),
    Column("energy_prefill_reason", "", "why energy_prefill_j is NaN"),
    Column("energy_decode_reason", "", "why energy_decode_j is NaN"),
    Column("idle_power_reason", "", "why idle_power_w, and so every net energy, is NaN"),
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
    Column("category", "", f"{', '.join(OP_CATEGORIES)} or other; output is the vocabulary's product"),
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
    Column("effective_period_s", "s", "within it the sensor cannot tell one power from another"),
    *PER_RAIL[:4],
    Column("energy_prefill_reason", "", "why energy_prefill_j is NaN in the first iteration that lacks it"),
    *PER_RAIL[4:],
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
    ADAPTIVE,
    Column("n_sessions", "", "sessions that are ok"),
    Column("n_clean", "", "undisturbed ones among them: the sample of every median; where there is none, all are"),
    Column("bounds", "", "what _lo and _hi are: a 95 % interval, or of fewer than six sessions their range"),
    Column("n_failed", "", "runs that failed"),
    Column("n_skipped", "", "runs that were skipped"),
    Column("flags", "", "every flag of its ok runs, sorted, joined by commas"),
    *PER_RUN,
    ITL_REASON,
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
FRAMES = tuple(COLUMNS)


def page_table(frame: str) -> str:
    """The columns of a frame as the table of ``docs/results.md``; a metric's meaning begins with its name."""
    rows = [f"| `{c.name}` | {c.unit} | {_described(c)} |" for c in COLUMNS[frame]]
    return "\n".join(["| column | unit | meaning |", "| --- | --- | --- |", *rows])


def _described(column: Column) -> str:
    if not isinstance(column, Metric):
        return column.meaning
    short = f" ({column.short})" if column.short else ""
    return f"**{column.title}**{short}: {column.meaning}"


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
