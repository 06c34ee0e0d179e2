"""Where the time goes, by kind of operator, against context length; and on which device each kind ran."""

import numpy as np
import pandas as pd

from melt.analysis.frames import Results
from melt.report import charts, text
from melt.report.curve_groups import CurveGroup, LabelledCurve
from melt.report.figures.drawing import Drawing
from melt.report.palette import KINDS
from melt.spec.events import PHASES

KIND_WORDS = {"gemm": "matmul", "conv": "convolution", "copy": "copies", "output": "vocabulary"}
NAMED = 2  # kinds that the caption names
LEAST_LABELLED = 3.0  # percent of the last bar that a name beside it needs
CAPTION = "From a separate pass that computes node by node, never from a timed iteration."


def operators(group: CurveGroup, results: Results) -> list[Drawing]:
    """For each model and phase the shares of operator time; nothing where none was profiled."""
    found = []
    for one in group.curves:
        ops = results.ops
        ops = ops[ops["run_id"].isin(one.curve.sessions["run_id"])] if len(ops) else ops
        for phase in PHASES:
            of_phase = ops[ops["phase"] == phase] if len(ops) else ops
            if len(of_phase):
                found.append(_shares(one, phase, of_phase))
    return found


def shares_by_kind(ops: pd.DataFrame) -> pd.DataFrame:
    """Percent of operator time: a row a context, a column a kind; the median over runs, made to sum to 100.

    Args:
        ops: rows of the ``ops`` frame of one model and phase.
    """
    of_run = ops.pivot_table(index=["context", "run_id"], columns="category", values="total_s", aggfunc="sum")
    percent = of_run.fillna(0.0).div(of_run.sum(axis=1), axis=0) * 100
    middle = percent.groupby(level="context").median()
    return middle.div(middle.sum(axis=1), axis=0) * 100


def _shares(one: LabelledCurve, phase: str, ops: pd.DataFrame) -> Drawing:
    shares = shares_by_kind(ops)
    figure, (ax,) = charts.new()
    charts.title(ax, "percent of operator time")
    at, base, ends = np.arange(len(shares)), np.zeros(len(shares)), []
    kinds = [str(k) for k in shares]
    for kind in [*(k for k in KINDS if k in kinds), *(k for k in kinds if k not in KINDS)]:
        height = shares[kind].to_numpy()
        colour = KINDS.get(kind, KINDS["other"])[0]
        ax.bar(at, height, bottom=base, width=0.62, color=colour, linewidth=0, zorder=2)
        if height[-1] >= LEAST_LABELLED:
            ends.append((_words(kind), float(base[-1] + height[-1] / 2), colour))
        base = base + height
    ax.set_ylim(0, 100)
    ax.set_xlim(-0.6, len(at) - 0.4)
    ax.set_xticks(at, [text.short_tokens(c) for c in shares.index])
    charts.across(ax, charts.CONTEXT)
    charts.part_labels(ax, ends)
    slug = f"ops-{phase}-{text.file_name(one.label)}"
    heading = f"{one.label}: {phase}"
    header = ("Context (tokens)", "Kind", "Device", "Percent", "Calls")
    asked = str(one.curve.sessions["accelerator"].iloc[0])
    caption = f"{dominance(shares)} {_placement(ops, asked)}{CAPTION}"
    return Drawing(slug, heading, caption, figure, header, _rows(ops))


def dominance(shares: pd.DataFrame) -> str:
    """What takes most of the time at the shortest and at the longest context, in a sentence."""
    said = []
    for context in dict.fromkeys((shares.index[0], shares.index[-1])):
        largest = shares.loc[context].sort_values(ascending=False)[:NAMED]
        parts = " and ".join(f"{_words(str(kind))} {value:.0f} %" for kind, value in largest.items())
        said.append(f"At {text.tokens(float(context))}: {parts}.")
    return " ".join(said)


def _placement(ops: pd.DataFrame, asked: str) -> str:
    """Where the work ran; nothing is said of work for the CPU that was all done there."""
    of_device = ops.groupby("device", observed=True)["total_s"].sum().sort_values(ascending=False)
    if asked == "cpu" and list(of_device.index) == ["CPU"]:
        return ""
    total = float(of_device.sum())
    parts = ", ".join(f"{text.clean(str(d))} {float(v) / total:.0%}" for d, v in of_device.items())
    return f"Asked for {text.clean(asked)}; by device: {parts}. "


def _rows(ops: pd.DataFrame) -> tuple[tuple[str, ...], ...]:
    """Each kind at each context: where it ran, its share, and its calls in one pass."""
    out = []
    for context, at in ops.groupby("context"):
        n_runs, total_s = at["run_id"].nunique(), float(at["total_s"].sum())
        of_kind = at.groupby(["category", "device"], observed=True).agg({"total_s": "sum", "count": "sum"})
        for key, row in of_kind.sort_values("total_s", ascending=False).iterrows():
            kind, device = map(str, key) if isinstance(key, tuple) else (str(key), "")
            percent = float(row["total_s"]) / total_s * 100 if total_s else float("nan")
            calls = text.count(float(row["count"]) / n_runs)
            out.append((text.count(float(str(context))), _words(kind), text.clean(device), text.number(percent), calls))
    return tuple(out)


def _words(kind: str) -> str:
    return KIND_WORDS.get(kind, text.clean(kind))
