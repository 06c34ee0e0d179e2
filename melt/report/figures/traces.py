"""What went on during a run over time, with its phases shaded."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from melt.analysis.frames import Results
from melt.analysis.measures.energy import windows
from melt.analysis.run_record import RunRecord
from melt.report import charts, text
from melt.report.curve_groups import CurveGroup, LabelledCurve, middle_run
from melt.report.figures.drawing import Drawing
from melt.report.palette import PHASE_SHADES
from melt.telemetry.source import Memory, Quantity, Site, Source
from melt.util.units import S_PER_NS

MAX_POINTS = 500
ROW_IN = 0.92


@dataclass(frozen=True)
class _Row:
    """What a row shows: of ``power`` the sources of the device's total; of memory one kind."""

    title: str
    factor: float
    quantity: Quantity | Literal["power"]
    site: Site | None = None
    memory: Memory = ""


_ROWS = (
    _Row("process memory (MiB)", 2**-20, "memory_bytes", "process", "rss"),
    _Row("process memory, as the system counts it (MiB)", 2**-20, "memory_bytes", "process", "footprint"),
    _Row("memory left to the process (MiB)", 2**-20, "memory_bytes", "process", "available"),
    _Row("available memory of the device (GiB)", 2**-30, "memory_bytes", "system", "available"),
    _Row("processor in use (%)", 100.0, "utilisation", "system"),
    _Row("processor clock, mean of cores (GHz)", 1e-9, "frequency_hz", "cpu"),
    _Row("hottest sensor (°C)", 1.0, "temperature_c"),
    _Row("power (W)", 1.0, "power"),
)


def traces(group: CurveGroup, results: Results) -> list[Drawing]:
    """One run of each model at its longest context: the middle one of its sessions."""
    found = []
    for one in group.curves:
        context = float(one.curve.contexts[-1])
        run_id = middle_run(one.curve, context)
        drawing = _trace(one, context, run_id, results) if run_id else None
        if drawing:
            found.append(drawing)
    return found


def _trace(one: LabelledCurve, context: float, run_id: str, results: Results) -> Drawing | None:
    rec = next(r for r in results.recorded if r.run_id == run_id)
    if not rec.timed:
        return None  # of a program that does not tell when its phases were
    samples = results.samples_of(run_id)
    zero = rec.loaded.t_start_ns if rec.loaded else rec.passes[0].prefill.t_start_ns
    end = rec.timed[-1].token_t_ns[-1]
    rows = [(row.title, *_series(rec, samples, row)) for row in _ROWS]
    rows = [(title, t, v) for title, t, v in rows if len(t) > 1]
    if not rows:
        return None
    figure, axes = charts.new(len(rows), label_room=0.25, height_in=0.85 + ROW_IN * len(rows))
    numbers = []
    for ax, (title, t_ns, value) in zip(axes, rows, strict=True):
        t_s = (t_ns - zero) * S_PER_NS
        shown = (t_ns >= zero - 2e9) & (t_ns <= end + (0 if title.startswith("process") else 1e9))
        charts.title(ax, title)
        _shade(ax, rec, zero)
        ax.plot(*thinned(t_s[shown], value[shown]), color=one.look.colour, linewidth=1.5, zorder=3)
        charts.trace_axis(ax, value[shown])
        ax.set_xlim(-min(2.0, (end - zero) * S_PER_NS * 0.1), (end - zero) * S_PER_NS * 1.02)
        numbers.append((title, *(text.number(float(f(value[shown]))) for f in (np.min, np.median, np.max))))
    charts.key(axes[0], [(p, PHASE_SHADES[p][0]) for p in PHASE_SHADES])
    charts.across(axes[-1], "Seconds since the model began to load")
    which = "whose total time is in the middle" if len(one.curve.raw("tpot_s", context)) > 2 else "that took less time"
    if run_id in set(one.curve.disturbed["run_id"]):
        which = "to see what went on, for all were disturbed"
    caption = (
        f"Session {rec.manifest.session + 1} at {text.tokens(context)} of context: the one {which}, warm-up included."
    )
    header = ("Series", "Lowest", "Median", "Highest")
    slug = f"trace-{text.file_name(one.label)}"
    return Drawing(slug, f"{one.label} over time", caption, figure, header, tuple(numbers))


def _series(rec: RunRecord, samples: pd.DataFrame, row: _Row) -> tuple[np.ndarray, np.ndarray]:
    """Stamps and values of one row; empty where it was not measured."""
    chosen = [s for s in rec.manifest.telemetry.sources if _belongs(s, row)]
    series = [(s, *_values(samples, s)) for s in chosen]
    series = [(s, t, v) for s, t, v in series if len(t) > 1]
    if not series:
        return np.empty(0), np.empty(0)
    if row.quantity in ("memory_bytes", "utilisation"):
        _, t, v = series[0]
        # Processor time is counted in ticks: between two readings it may be a tick more than there was.
        return t, (np.minimum(v, 1.0) if row.quantity == "utilisation" else v) * row.factor
    grid = series[0][1]
    together = np.stack([np.interp(grid, t, v) for _, t, v in series])
    merged = {"frequency_hz": together.mean(0), "temperature_c": together.max(0), "power": together.sum(0)}
    return grid, merged[row.quantity] * row.factor


def _belongs(source: Source, row: _Row) -> bool:
    if row.quantity == "power":
        return source.counts_in_total and source.is_of_energy
    return source.quantity == row.quantity and row.site in (None, source.site) and source.memory == row.memory


def _values(samples: pd.DataFrame, source: Source) -> tuple[np.ndarray, np.ndarray]:
    """A source's samples; a cumulative energy becomes the power between two of them."""
    of_source = samples[samples["source"] == source.name]
    t, v = of_source["t_ns"].to_numpy(dtype=np.int64), of_source["value"].to_numpy(dtype=float)
    if source.quantity != "energy_j":
        return t, v
    return t[:-1] + np.diff(t) // 2, np.diff(v) / (np.diff(t) * S_PER_NS)


def _shade(ax: Axes, rec: RunRecord, zero: int) -> None:
    for one in rec.passes:
        if len(one.token_t_ns) < 2:
            continue
        for phase, (start, end) in windows(one).items():
            from_s, to_s = ((t_ns - zero) * S_PER_NS for t_ns in (start, end))
            ax.axvspan(from_s, to_s, color=PHASE_SHADES[phase][0], linewidth=0, zorder=0)


def thinned(t: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Few enough points to draw, with the lowest and the highest of every stretch among them."""
    if len(t) <= MAX_POINTS:
        return t, v
    kept = set()
    for stretch in np.array_split(np.arange(len(t)), MAX_POINTS // 2):
        kept |= {int(stretch[np.argmin(v[stretch])]), int(stretch[np.argmax(v[stretch])])}
    order = sorted(kept)
    return t[order], v[order]
