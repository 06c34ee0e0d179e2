"""Drawing: axes in the house style, lines with labels at their ends, and figures as SVG and PNG.

Everything is drawn on matplotlib's Figure objects, which hold no global state. Text from outside is never
parsed as mathematics.
"""

import io
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from melt.analysis.stats import Floats
from melt.report.palette import GRID, INK, MUTED, PAPER, Look
from melt.report.text import number, short_tokens

WIDTH_IN, HEIGHT_IN = 4.8, 3.2
PNG_DPI = 160
LABEL_PT = 10.0
CONTEXT, CONTEXT_LOG = (f"Context length (tokens in the prompt{scale})" for scale in ("", ", log scale"))
MIN_LABEL_GAP = 0.075  # of the height of the axes
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "melt",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": LABEL_PT,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.titley": 1.0,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": LABEL_PT,
    "ytick.labelsize": LABEL_PT,
    "lines.solid_capstyle": "round",
    "axes.formatter.use_mathtext": False,
}


@contextmanager
def house_style() -> Iterator[None]:
    """The style of every figure; glyphs that the font lacks show as boxes in PNG and never warn."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def new(rows: int = 1, label_room: float = 1.2, height_in: float = HEIGHT_IN) -> tuple[Figure, list[Axes]]:
    """A figure with rows of axes, of which the last has ticks across; ``label_room`` inches are kept at the right."""
    figure = Figure(figsize=(WIDTH_IN, height_in), facecolor=PAPER)
    left, bottom, top = 0.68, 0.52, 0.3
    axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
    figure.subplots_adjust(
        left=left / WIDTH_IN,
        right=1 - label_room / WIDTH_IN,
        bottom=bottom / height_in,
        top=1 - top / height_in,
        hspace=0.42,
    )
    for ax in axes:
        ax.set_facecolor("none")
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.grid(axis="y", color=GRID, linewidth=0.8)
        ax.tick_params(axis="y", length=0)
        ax.tick_params(axis="x", length=3)
        ax.set_axisbelow(True)
        ax.xaxis.set_label_coords(0.5, 0)  # with axes.titley: nothing to place, nothing to look for at each drawing
        ax.yaxis.set_label_coords(0, 0.5)
    for ax in axes[:-1]:
        ax.xaxis.set_major_locator(NullLocator())
    return figure, list(axes)


def title(ax: Axes, unit: str) -> None:
    """What the vertical axis shows and in which unit, above it and reading across."""
    _beside(ax, -0.09, 1.0, unit, (0, 7), va="baseline")


def across(ax: Axes, words: str) -> None:
    """What the horizontal axis shows and in which unit, below it."""
    _beside(ax, 0.5, 0.0, words, (0, -22), ha="center", va="top")


def _beside(ax: Axes, x: float, y: float, words: str, points_off: tuple[float, float], **how: Any) -> None:
    """Text at a fixed place by the axes. Matplotlib's own titles and labels look for a free one at each drawing."""
    ax.annotate(
        words, (x, y), xycoords="axes fraction", xytext=points_off, textcoords="offset points", color=MUTED, **how
    )


def key(ax: Axes, entries: Sequence[tuple[str, str]]) -> None:
    """What the shades mean, in one line at the right above the axes: (words, colour)."""
    place = 1.0
    for words, colour in reversed(entries):
        box = {"boxstyle": "square,pad=0.25", "facecolor": colour, "edgecolor": GRID, "linewidth": 0.8}
        _beside(ax, place, 1.0, words, (-3, 7), ha="right", va="baseline", fontsize=8.5, bbox=box)
        place -= 0.022 * len(words) + 0.01


def context_axis(ax: Axes, contexts: Iterable[float]) -> None:
    """A logarithmic axis of context lengths, with a tick at each that was measured."""
    ticks = sorted(set(contexts))
    ax.set_xscale("log", base=2)
    while len(ticks) > 8:
        ticks = ticks[-1::-2][::-1]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(_context_tick))
    low, high = ticks[0], ticks[-1]
    ax.set_xlim((low * 0.82, high * 1.12) if high > low else (low / 2, low * 2))
    across(ax, CONTEXT_LOG)


def value_axis(ax: Axes, low: float, high: float, log: bool | None = None) -> None:
    """A vertical axis: logarithmic where values span more than a factor of five, else linear from zero."""
    log = high > 5 * low > 0 if log is None else log
    if log:
        _beside(ax, 1.0, 1.0, "log scale", (0, 7), ha="right", va="baseline", fontstyle="italic")
        ax.set_yscale("log")
        ax.set_ylim(low / 1.25, high * 1.25)
        steps = (1.0, 2.0, 5.0) if high / low < 200 else (1.0,)
        ax.yaxis.set_major_locator(LogLocator(base=10, subs=steps, numticks=12))
        ax.yaxis.set_minor_locator(NullLocator())
    else:
        ax.set_ylim(0, high * 1.12 if high > 0 else 1)
        ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.yaxis.set_major_formatter(FuncFormatter(_plain_tick))


def trace_axis(ax: Axes, values: Floats) -> None:
    """A vertical axis around the values of a trace, with three or so ticks."""
    low, high = float(np.min(values)), float(np.max(values))
    room = max((high - low) * 0.15, abs(high) * 0.01, 1e-9)
    ax.set_ylim(0 if 0 <= low < 0.6 * high else low - room, high + room)
    ax.yaxis.set_major_locator(MaxNLocator(3))
    ax.yaxis.set_major_formatter(FuncFormatter(_trace_tick))


def plain(value: float) -> str:
    """A tick's number without trailing noughts or exponent."""
    text = number(value, 3)
    return text.rstrip("0").rstrip(".") if "." in text else text


# Ticks by name: a figure goes to another process to be drawn, and a lambda cannot.
def _plain_tick(value: float, _position: int) -> str:
    return plain(value)


def _context_tick(value: float, _position: int) -> str:
    return short_tokens(value)


def _trace_tick(value: float, _position: int) -> str:
    return f"{value:.6g}"


def line(ax: Axes, x: Floats, y: Floats, look: Look) -> None:
    """The median line of a model."""
    style = (0, look.dashes) if look.dashes else "solid"
    ax.plot(x, y, color=look.colour, linestyle=style, linewidth=2.0, zorder=3)


def points(ax: Axes, x: Floats, y: Floats, look: Look) -> None:
    """Sessions as they were measured, one mark each."""
    ax.plot(x, y, linestyle="none", marker=look.marker, markersize=4.2, color=look.colour, alpha=0.55, mew=0, zorder=4)


def hollow_points(ax: Axes, x: Floats, y: Floats, look: Look) -> None:
    """Disturbed sessions, which count for nothing: the outline of a mark each."""
    ax.plot(x, y, linestyle="none", marker=look.marker, markersize=4.6, mfc="none", mec=look.colour, mew=0.9, zorder=4)


def band(ax: Axes, x: Floats, low: Floats, high: Floats, look: Look) -> None:
    """The interval around a median line."""
    ax.fill_between(x, low, high, color=look.colour, alpha=0.16, linewidth=0, zorder=2)


def end_labels(ax: Axes, ends: list[tuple[str, float, str]]) -> None:
    """Names at the right ends of lines, moved apart where they would touch.

    Args:
        ax: the axes, with their limits already set.
        ends: (name, value at the end, colour).
    """
    to_axes: Callable[[float], float] = lambda v: float(  # noqa: E731
        ax.transAxes.inverted().transform(ax.transData.transform((ax.get_xlim()[1], v)))[1]
    )
    short = fitted_apart([label for label, _, _ in ends])
    wanted = sorted(((to_axes(v), short[label], colour) for label, v, colour in ends), key=lambda e: e[0])
    for (label, colour), at in zip([e[1:] for e in wanted], spread([e[0] for e in wanted], MIN_LABEL_GAP), strict=True):
        ax.text(1.015, at, label, transform=ax.transAxes, color=colour, va="center", fontsize=LABEL_PT)


def part_labels(ax: Axes, parts: list[tuple[str, float, str]]) -> None:
    """Names of the parts of the last bar at its right, each with a box of its colour, moved apart like end_labels.

    Args:
        ax: the axes, with their limits already set.
        parts: (name, middle of the part, colour), from the lowest up.
    """
    low, high = ax.get_ylim()
    wanted = [(value - low) / (high - low) for _, value, _ in parts]
    short = fitted_apart([label for label, _, _ in parts])
    for (label, _, colour), at in zip(parts, spread(wanted, MIN_LABEL_GAP), strict=True):
        ax.plot([1.03], [at], "s", markersize=6, color=colour, transform=ax.transAxes, clip_on=False)
        ax.text(1.06, at, short[label], transform=ax.transAxes, color=INK, va="center", fontsize=LABEL_PT)


def inline_labels(ax: Axes, names: list[tuple[str, float, str]]) -> None:
    """Names of upright curves in a column at the right, from the leftmost curve to the rightmost."""
    short = fitted_apart([label for label, _, _ in names])
    for i, (label, _, colour) in enumerate(sorted(names, key=lambda n: n[1])):
        at = 0.9 - i * 1.1 * MIN_LABEL_GAP
        ax.text(1.015, at, short[label], transform=ax.transAxes, color=colour, va="center", fontsize=LABEL_PT)


# By the ratio of an axis' ends, at which multiples of powers of ten it has ticks: so few that their labels fit.
_LOG_STEPS = (
    (1000, (1.0,)),
    (50, (1.0, 3.0)),
    (5, (1.0, 2.0, 5.0)),
    (0, (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)),
)


def log_across(ax: Axes, low: float, high: float) -> None:
    """A horizontal logarithmic axis with round ticks."""
    ax.set_xscale("log")
    ax.set_xlim(low / 1.1, high * 1.1)
    ratio = high / low
    steps = next(found for least, found in _LOG_STEPS if ratio > least)
    ax.xaxis.set_major_locator(LogLocator(base=10, subs=steps, numticks=12))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(_plain_tick))


def spread(at: list[float], gap: float) -> list[float]:
    """Sorted places moved as little as can be so that neighbours are ``gap`` apart."""
    placed = np.array(at, dtype=float)
    for _ in range(200):
        short = gap - np.diff(placed)
        if not len(short) or short.max() <= 1e-9:
            break
        i = int(np.argmax(short))
        placed[i] -= short[i] / 2
        placed[i + 1] += short[i] / 2
    return [float(p) for p in placed]


def fitted(label: str, limit: int = 15) -> str:
    """A label that fits beside the axes."""
    return label if len(label) <= limit else label[: limit - 1] + "…"


def fitted_apart(labels: Sequence[str], limit: int = 15) -> dict[str, str]:
    """Labels that fit, cut at the end; where two would then be alike, in the middle."""
    ends = {label: fitted(label, limit) for label in labels}
    cut = Counter(ends.values())
    head = limit // 2
    return {
        label: short if cut[short] == 1 or len(label) <= limit else f"{label[:head]}…{label[head + 1 - limit :]}"
        for label, short in ends.items()
    }


def crossing_mark(ax: Axes, x: float, y: float, low: float, high: float) -> None:
    """Where two lines cross, with the interval of the place."""
    left, right = ax.get_xlim()
    if low > 0 or high < np.inf:  # an interval over the whole range says nothing, and unknown ones are NaN
        ax.plot([max(low, left), min(high, right)], [y, y], color=INK, linewidth=1.6, zorder=5, solid_capstyle="butt")
    ax.plot([x], [y], marker="o", markersize=6.5, markerfacecolor=PAPER, markeredgecolor=INK, mew=1.5, zorder=6)


def to_svg(figure: Figure) -> str:
    """The figure as an SVG document; the same figure gives the same text."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return out.getvalue()


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG of some 900 pixels' width."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=PNG_DPI, metadata={"Software": None}, pil_kwargs={"compress_level": 3})
    return out.getvalue()


def drawn(figure: Figure) -> tuple[str, bytes]:
    """The figure as SVG and as PNG, in the house style that is set around it."""
    return to_svg(figure), to_png(figure)
