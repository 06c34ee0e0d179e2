"""What comes before the first pass of a fresh process: compiling and loading the model."""

import math

from melt.analysis.measures.latency import ttft_s
from melt.analysis.run_record import RunRecord
from melt.spec.metrics import Metric
from melt.util.units import S_PER_NS

METRICS = (
    Metric(
        "compile_s",
        "s",
        "compiling the model for its accelerator, in no other time; NaN where that was done before, or never is",
        title="compile time",
        better="lower",
        shown=("cells",),
    ),
    Metric(
        "load_s",
        "s",
        "loading the model, where it is compiled beforehand from what that made",
        title="load time",
        better="lower",
    ),
    Metric(
        "cold_ttft_s",
        "s",
        "load_s + the time to first token of the process's first full pass",
        title="cold time to first token",
        short="cold TTFT",
        better="lower",
    ),
)


def of_run(rec: RunRecord) -> dict[str, float]:
    """What a run's process did before its first pass, and how long its user waited in all."""
    load_s = (rec.loaded.t_end_ns - rec.loaded.t_start_ns) * S_PER_NS if rec.loaded else math.nan
    return {"compile_s": _compile_s(rec), "load_s": load_s, "cold_ttft_s": _cold_ttft_s(rec, load_s)}


def _compile_s(rec: RunRecord) -> float:
    """Of all graphs together; NaN where some were there already, since half of it is no measurement."""
    spans = [(c.t_start_ns, c.t_end_ns) for c in rec.compiled]
    known = [(end - start) * S_PER_NS for start, end in spans if start is not None and end is not None]
    return sum(known) if known and len(known) == len(spans) else math.nan


def _cold_ttft_s(rec: RunRecord, load_s: float) -> float:
    """Loading plus the first pass's time to first token: what the user of a fresh process waits for.

    NaN where the first pass did not process the whole prompt.
    """
    if not rec.passes or rec.passes[0].prefill.tokens != rec.manifest.cell.prompt_tokens:
        return math.nan
    return load_s + ttft_s(rec.passes[0])
