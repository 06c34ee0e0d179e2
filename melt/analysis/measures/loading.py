"""What comes before the first pass of a fresh process: compiling and loading the model."""

from melt.spec.metrics import Metric

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
