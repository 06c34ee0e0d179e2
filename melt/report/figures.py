"""The figures against context length, and the spread of the intervals between tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from melt.analysis.crossover import Crossover
from melt.analysis.frames import Results
from melt.report import charts, text
from melt.report.palette import INK, PARTS, SEQUENCE
from melt.report.series import Drawn, Setting

MIB = 2**20


@dataclass(frozen=True)
class Drawing:
    """A figure with what the page says about it; ``header`` and ``rows`` are its numbers."""

    slug: str
    heading: str
    caption: str
    figure: Figure
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class _Plot:
    """A metric against context length: how it is scaled and told."""

    metric: str
    heading: str
    unit: str
    scale: float
    caption: str
    group: str


LOWER, HIGHER = "Lower is better.", "Higher is better."
PLOTS = (
    _Plot(
        metric="ttft_s",
        heading="Time to first token",
        unit="seconds",
        scale=1.0,
        caption=f"How long a user waits for the first word. {LOWER}",
        group="latency",
    ),
    _Plot(
        metric="tpot_s",
        heading="Time per further token",
        unit="milliseconds",
        scale=1e3,
        caption=f"How long each word after the first takes. {LOWER}",
        group="latency",
    ),
    _Plot(
        metric="prefill_tok_per_s",
        heading="Reading speed (prefill)",
        unit="tokens per second",
        scale=1.0,
        caption=f"How fast the prompt is read. {HIGHER}",
        group="latency",
    ),
    _Plot(
        metric="decode_tok_per_s",
        heading="Writing speed (decode)",
        unit="tokens per second",
        scale=1.0,
        caption=f"How fast the answer is written, with the whole prompt in memory. {HIGHER}",
        group="latency",
    ),
    _Plot(
        metric="peak_rss_bytes",
        heading="Peak memory",
        unit="MiB",
        scale=1 / MIB,
        caption=f"The largest resident memory of the process that runs the model. {LOWER}",
        group="memory",
    ),
    _Plot(
        metric="prefill_j_per_token",
        heading="Energy to read a token",
        unit="millijoules per prompt token",
        scale=1e3,
        caption=f"Energy of the prefill over its tokens, idle power included. {LOWER}",
        group="energy",
    ),
    _Plot(
        metric="decode_j_per_token",
        heading="Energy to write a token",
        unit="millijoules per token",
        scale=1e3,
        caption=f"Energy of the decode over its tokens, idle power included. {LOWER}",
        group="energy",
    ),
)


def context_figures(setting: Setting, group: str) -> list[Drawing]:
    """The figures of a group that have anything to show."""
    wanted = [p for p in PLOTS if p.group == group]
    return [_against_context(setting, p) for p in wanted if _shown(setting, p.metric)]


def _shown(setting: Setting, metric: str) -> list[Drawn]:
    return [d for d in setting.drawn if len(d.curve.measured(metric))]


def _against_context(setting: Setting, plot: _Plot) -> Drawing:
    figure, (ax,) = charts.new()
    drawn = _shown(setting, plot.metric)
    charts.title(ax, plot.unit)
    charts.context_axis(ax, [c for d in drawn for c in d.curve.measured(plot.metric)])
    everything = np.concatenate([_raw(d, plot.metric)[1] for d in drawn]) * plot.scale
    charts.value_axis(ax, float(everything.min()), float(everything.max()))
    for one in drawn:
        known = np.isfinite(one.curve.of(plot.metric))
        at = one.curve.contexts[known]
        middle, low, high = (one.curve.of(plot.metric + s)[known] * plot.scale for s in ("", "_lo", "_hi"))
        charts.band(ax, at, low, high, one.look)
        charts.line(ax, at, middle, one.look)
        x, y = _raw(one, plot.metric)
        charts.points(ax, x, y * plot.scale, one.look)
    charts.end_labels(ax, [(d.label, _last(d, plot.metric) * plot.scale, d.look.colour) for d in drawn])
    for challenger, reference in setting.pairs:
        _mark_crossing(ax, setting.crossover(challenger, reference, plot.metric), challenger, plot)
    header = ("Model", "Context (tokens)", f"Median ({plot.unit})", "Lower bound", "Upper bound", "Sessions")
    return Drawing(plot.metric, plot.heading, plot.caption, figure, header, tuple(_numbers(drawn, plot)))


def _raw(one: Drawn, metric: str) -> tuple[np.ndarray, np.ndarray]:
    sessions = one.curve.sessions[["prompt_tokens", metric]].to_numpy(dtype=float)
    sessions = sessions[np.isfinite(sessions[:, 1])]
    return sessions[:, 0], sessions[:, 1]


def _last(one: Drawn, metric: str) -> float:
    values = one.curve.of(metric)
    return float(values[np.isfinite(values)][-1])


def _mark_crossing(ax: Axes, found: Crossover, challenger: Drawn, plot: _Plot) -> None:
    if found.kind not in ("crosses", "crosses_back"):
        return
    known = np.isfinite(challenger.curve.of(plot.metric))
    at, values = challenger.curve.contexts[known], challenger.curve.of(plot.metric)[known]
    y = float(np.exp(np.interp(np.log(found.context), np.log(at), np.log(values)))) * plot.scale
    charts.crossing_mark(ax, found.context, y, found.lo, found.hi)


def _numbers(drawn: Sequence[Drawn], plot: _Plot) -> list[tuple[str, ...]]:
    out = []
    for one in drawn:
        for _, row in one.curve.cells.iterrows():
            values = (row[plot.metric + s] * plot.scale for s in ("", "_lo", "_hi"))
            numbers = (text.number(float(v), 4) for v in values)
            out.append((one.label, text.count(row["prompt_tokens"]), *numbers, str(row["n_sessions"])))
    return out


def memory_parts(setting: Setting) -> list[Drawing]:
    """For each model, what its memory is made of, beside what was measured and predicted."""
    drawn = [d for d in setting.drawn if np.isfinite(d.curve.of("explained_memory_bytes")).any()]
    tops = [
        np.nanmax(d.curve.of(m))
        for d in drawn
        for m in ("peak_rss_bytes", "predicted_memory_bytes")
        if d.curve.measured(m).size
    ]
    return [_parts(one, max(tops, default=0.0) / MIB) for one in drawn]


def _parts(one: Drawn, top: float) -> Drawing:
    figure, (ax,) = charts.new()
    charts.title(ax, "MiB")
    at = np.arange(len(one.curve.contexts))
    base = np.zeros(len(at))
    ends = []
    for part in SEQUENCE:
        height = np.nan_to_num(one.curve.of(_column(part))) / MIB
        if height.max(initial=0) <= 0:
            continue
        ax.bar(at, height, bottom=base, width=0.62, color=PARTS[part][0], linewidth=0, zorder=2)
        if height.max() > 0:
            ends.append((PART_WORDS[part], float(base[-1] + height[-1] / 2), PARTS[part][0]))
        base = base + height
    measured, predicted = (one.curve.of(c) / MIB for c in ("peak_rss_bytes", "predicted_memory_bytes"))
    ax.plot(at, measured, linestyle="none", marker="_", markersize=26, mew=2.4, color=INK, zorder=4)
    ax.plot(at, predicted, linestyle="none", marker="D", markersize=5, mew=1.4, mec=INK, mfc="#ffffff", zorder=5)
    charts.value_axis(ax, 0, max(top, float(base.max(initial=0))), log=False)
    ax.set_xlim(-0.6, len(at) - 0.4)
    ax.set_xticks(at, [text.short_tokens(c) for c in one.curve.contexts])
    charts.across(ax, "Context length (tokens in the prompt)")
    charts.part_labels(ax, ends)
    columns = (
        *(_column(p) for p in SEQUENCE),
        "explained_memory_bytes",
        "predicted_memory_bytes",
        "peak_rss_bytes",
    )
    rows = [
        (text.count(c), *(text.number(v / MIB, 4) for v in values))
        for c, values in zip(one.curve.contexts, np.stack([one.curve.of(c) for c in columns], axis=1), strict=True)
    ]
    header = (
        "Context (tokens)",
        *(f"{PART_WORDS[p].capitalize()} (MiB)" for p in SEQUENCE),
        "Explained (MiB)",
        "Predicted (MiB)",
        "Measured peak (MiB)",
    )
    return Drawing(
        f"memory-{text.file_name(one.label)}", f"Memory of {one.label}", PARTS_CAPTION, figure, header, tuple(rows)
    )


def _column(part: str) -> str:
    return "runtime_baseline_bytes" if part == "baseline" else f"{part}_bytes"


PARTS_CAPTION = (
    "Bars: the engine's own buffers, and on top the vocabulary's tables and the runtime that was there before the "
    "model. Line across: the measured peak. Diamond: the buffers as predicted from the architecture, without the copy "
    "of weights that the engine repacks for the processor."
)
PART_WORDS = {
    "weights": "weights",
    "repacked": "repacked copy",
    "kv": "KV cache",
    "state": "state",
    "compute": "compute",
    "output": "output",
    "tables": "vocabulary",
    "baseline": "runtime",
}


def token_intervals(setting: Setting, results: Results) -> Drawing | None:
    """How the intervals between tokens are spread, at the largest context that all models share."""
    shared = setting.shared_context()
    picked = [(d, shared if shared is not None else float(d.curve.contexts[-1])) for d in setting.drawn]
    figure, (ax,) = charts.new()
    charts.title(ax, "percent of tokens that took at most this long")
    ends, rows, limits = [], [], []
    for one, context in picked:
        itl_ms = _intervals_ms(one, context, results)
        if not len(itl_ms):
            continue
        share = np.arange(1, len(itl_ms) + 1) / len(itl_ms) * 100
        kept = np.unique(np.linspace(0, len(itl_ms) - 1, min(len(itl_ms), 400)).astype(int))
        charts.line(ax, itl_ms[kept], share[kept], one.look)
        quantiles = np.percentile(itl_ms, (50, 90, 99, 100))
        ends.append((one, quantiles))
        limits += [itl_ms[0], itl_ms[-1]]
        numbers = (text.number(float(q), 4) for q in quantiles)
        rows.append((one.label, text.count(context), *numbers, text.count(len(itl_ms))))
    if not rows:
        return None
    _interval_axes(ax, min(limits), max(limits))
    charts.inline_labels(ax, [(one.label, float(q[0]), one.look.colour) for one, q in ends])
    lengths = {context for _, context in picked}
    where = f"at {text.tokens(lengths.pop())} of context" if len(lengths) == 1 else "at each model's longest context"
    caption = (
        f"Every interval between two tokens of every timed iteration, {where}. A steep line means an even pace, "
        "a tail to the right means stalls."
    )
    header = ("Model", "Context (tokens)", "Median (ms)", "90 % (ms)", "99 % (ms)", "Longest (ms)", "Intervals")
    return Drawing("itl", "Evenness of the pace", caption, figure, header, tuple(rows))


def _interval_axes(ax: Axes, low: float, high: float) -> None:
    ax.set_ylim(0, 102)
    ax.set_yticks([0, 25, 50, 75, 90, 100])
    charts.log_across(ax, low, high)
    charts.across(ax, "Time between two tokens (milliseconds, log scale)")


def _intervals_ms(one: Drawn, context: float, results: Results) -> np.ndarray:
    runs = set(one.curve.sessions.loc[one.curve.sessions["prompt_tokens"] == context, "run_id"])
    return np.sort(results.intervals_of(runs)) * 1e3
