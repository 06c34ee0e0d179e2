"""What the telemetry of one run says about it: memory, temperature, surroundings and energy.

Only the sources that these figures need are parsed here; every series is in the ``samples`` frame.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melt.analysis.measures.background import Others, others_load
from melt.analysis.measures.energy import PhaseEnergies, phase_energies
from melt.analysis.recorded import Recorded
from melt.analysis.stats import median
from melt.store.store import TELEMETRY
from melt.telemetry.series import Series, series
from melt.telemetry.source import Discovery, Memory, Site, Source

# Clocks, and what other sources are made of, are left to the samples frame.
NOT_SUMMARISED = ("frequency_hz",)
SETTLED_WITHIN = 0.01
Values = NDArray[np.float64]
_STAMP = re.compile(r'\{"t_ns":\s*([0-9]{1,18}),')
NO_ENERGY = PhaseEnergies()
Window = tuple[int, int]
SeriesByName = Mapping[str, Series]


@dataclass(frozen=True)
class Observed:
    """Telemetry of a run in a few numbers; what was not measured is NaN, and text is empty."""

    peak_pss_bytes: float = math.nan
    peak_rss_bytes: float = math.nan
    runtime_baseline_bytes: float = math.nan
    available_drop_bytes: float = math.nan
    gpu_memory_rise_bytes: float = math.nan
    max_temp_c: float = math.nan
    idle_utilisation: float = math.nan
    swapped_bytes: float = 0.0
    charging: str = ""
    throttled: str = ""
    others: Others | None = None
    energy: PhaseEnergies = NO_ENERGY


def observe(rec: Recorded) -> Observed:
    """The figures of one run; a run without telemetry, or that failed, has none."""
    found = rec.manifest.telemetry
    if not rec.ok or not found.sources:
        return Observed()
    text = telemetry_text(rec)
    before = tuple(s for s in found.sources if _asked_before_loading(s))
    peaks_told = any(p.memory.peak_rss_bytes is not None for p in rec.passes)
    throughout = tuple(
        s
        for s in found.sources
        if s not in before
        and s.quantity not in NOT_SUMMARISED
        and not (peaks_told and s.memory == "peak_rss")  # the runner's own reading is used
    )
    early = text[: _offset(text, run_window(rec)[0])]
    return summarise(
        rec,
        series(Discovery(probes=found.probes, sources=before), early)
        | series(Discovery(probes=found.probes, sources=throughout), text),
    )


def telemetry_text(rec: Recorded) -> str:
    """The sampler's file as it came; empty where there is none."""
    try:
        return (rec.run.folder / TELEMETRY).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _asked_before_loading(source: Source) -> bool:
    """Whether only the time before the model was loaded matters here: the bulk of the file need not be parsed."""
    return source.site == "process" and source.memory == "rss"


def _offset(text: str, t_ns: int) -> int:
    """Where the lines stamped after ``t_ns`` begin; the end where a line on the way has no stamp."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high) // 2
        line = text.find("\n", middle) + 1
        if line == 0 or line >= high:
            high = middle
            continue
        stamp = _STAMP.match(text, line)
        if stamp is None:
            return len(text)
        if int(stamp[1]) > t_ns:
            high = middle
        else:
            low = line
    end = text.find("\n", low)
    return len(text) if end < 0 else end + 1


def summarise(rec: Recorded, by_name: SeriesByName) -> Observed:
    """The figures from series that are already parsed."""
    run = run_window(rec)
    idle = rec.manifest.idle_t_ns
    sources = [s for s in rec.manifest.telemetry.sources if s.name in by_name]

    def of_process(memory: Memory) -> Values:
        chosen = [_within(by_name[s.name], run) for s in sources if s.site == "process" and s.memory == memory]
        return np.concatenate(chosen) if chosen else np.empty(0)

    def of_device(site: Site, memory: Memory) -> list[Series]:
        return [by_name[s.name] for s in sources if s.site == site and s.memory == memory]

    return Observed(
        peak_pss_bytes=_max(of_process("pss")),
        peak_rss_bytes=_settled(of_process("peak_rss")),
        runtime_baseline_bytes=_before_loading(rec, sources, by_name),
        available_drop_bytes=_drop(of_device("system", "available"), idle, run),
        gpu_memory_rise_bytes=_rise_from_idle(of_device("gpu", "allocated"), idle, run),
        max_temp_c=_max(np.concatenate([np.empty(0), *_of(sources, by_name, "temperature_c", run)])),
        idle_utilisation=_mean_of_first(_of([s for s in sources if s.site == "system"], by_name, "utilisation", idle)),
        swapped_bytes=sum((_rise(v) for v in _of(sources, by_name, "swap_bytes", run)), 0.0),
        charging=_ever(sources, by_name, "charging", run, "says that the device was fed from outside"),
        throttled=_ever(sources, by_name, "throttled", run, "says that clocks were held down"),
        others=others_load(rec, by_name),
        energy=phase_energies(rec, by_name),
    )


def run_window(rec: Recorded) -> Window:
    """From the start of loading to the last timed token, device clock; of a program that tells neither, all after
    the idle baseline."""
    if not rec.timed:
        return (rec.manifest.idle_t_ns[1] if rec.manifest.idle_t_ns else 0), 2**62
    start = rec.loaded.t_start_ns if rec.loaded else rec.passes[0].prefill.t_start_ns
    return start, rec.timed[-1].token_t_ns[-1]


def _within(one: Series, window: Window | None) -> Values:
    if window is None:
        return np.empty(0)
    inside = (one.t_ns >= window[0]) & (one.t_ns <= window[1])
    return np.asarray(one.value, dtype=float)[inside]


def _of(sources: list[Source], by_name: SeriesByName, quantity: str, window: Window | None) -> list[Values]:
    return [_within(by_name[s.name], window) for s in sources if s.quantity == quantity]


def _max(values: Values) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else math.nan


def _settled(high_water: Values) -> float:
    """The last of a high-water mark, where the one before it was nearly the same: else it may have risen unread."""
    finite = high_water[np.isfinite(high_water)]
    if len(finite) < 2 or finite[-1] > finite[-2] * (1 + SETTLED_WITHIN):
        return math.nan
    return float(finite[-1])


def _mean_of_first(series_values: list[Values]) -> float:
    finite = [v[np.isfinite(v)] for v in series_values]
    return next((float(v.mean()) for v in finite if v.size), math.nan)


def _rise(values: Values) -> float:
    finite = values[np.isfinite(values)]
    return float(finite[-1] - finite[0]) if finite.size > 1 else 0.0


def _before_loading(rec: Recorded, sources: list[Source], by_name: SeriesByName) -> float:
    """The runner's resident set before it loaded the model: its own reading, else the last sample before."""
    if rec.loaded is None:
        return math.nan
    if rec.loaded.base_rss_bytes is not None:
        return float(rec.loaded.base_rss_bytes)
    for source in sources:
        if source.site == "process" and source.memory in ("rss", "peak_rss"):
            before = _within(by_name[source.name], (0, rec.loaded.t_start_ns))
            before = before[np.isfinite(before)]
            return float(before[-1]) if before.size else math.nan
    return math.nan


def _drop(available: list[Series], idle: Window | None, run: Window) -> float:
    """Median while idle less the smallest while running."""
    if not available or idle is None:
        return math.nan
    before, during = _within(available[0], idle), _within(available[0], run)
    if not np.isfinite(before).any() or not np.isfinite(during).any():
        return math.nan
    return float(np.nanmedian(before) - np.nanmin(during))


def _rise_from_idle(held: list[Series], idle: Window | None, run: Window) -> float:
    """The most that was held while running less the median while idle."""
    if not held or idle is None:
        return math.nan
    return _max(_within(held[0], run)) - median(_within(held[0], idle))


def _ever(sources: list[Source], by_name: SeriesByName, quantity: str, run: Window, says: str) -> str:
    for source in sources:
        if source.quantity == quantity and bool((by_name[source.name].states(*run) > 0).any()):
            return f"{source.name} {says}"
    return ""
