"""A run's telemetry as its measures read it: the sampler's text, parsed series, and the windows that matter."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from melt.analysis.run_record import RunRecord
from melt.store.store import TELEMETRY
from melt.telemetry.series import Series
from melt.telemetry.source import Memory, Quantity, Site, Source

Values = NDArray[np.float64]
Window = tuple[int, int]
_STAMP = re.compile(r'\{"t_ns":\s*([0-9]{1,18}),')


@dataclass(frozen=True)
class Telemetry:
    """A run's parsed series by name; sources that were not parsed are not in it."""

    rec: RunRecord
    by_name: Mapping[str, Series]

    @cached_property
    def run(self) -> Window:
        """When the run was at work."""
        return run_window(self.rec)

    @property
    def idle(self) -> Window | None:
        """When its idle baseline was taken."""
        return self.rec.manifest.idle_t_ns

    def sources(
        self, quantity: Quantity, site: Site | None = None, memory: tuple[Memory, ...] | None = None
    ) -> list[Source]:
        """The sources of a quantity, in the order of discovery; of a site and kinds of memory where given."""
        return [
            s
            for s in self.rec.manifest.telemetry.sources
            if s.quantity == quantity
            and s.name in self.by_name
            and site in (None, s.site)
            and (memory is None or s.memory in memory)
        ]

    def values(self, sources: Iterable[Source], window: Window | None) -> list[Values]:
        """The samples of each source in a window; none where there is no window."""
        return [within(self.by_name[s.name], window) for s in sources]

    def ever(self, quantity: Quantity, says: str) -> str:
        """The evidence that a state held at some time of the run: its source, and what that says; else empty."""
        for source in self.sources(quantity):
            if bool((self.by_name[source.name].states(*self.run) > 0).any()):
                return f"{source.name} {says}"
        return ""


def telemetry_text(rec: RunRecord) -> str:
    """The sampler's file as it came; empty where there is none."""
    try:
        return (rec.run.folder / TELEMETRY).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def text_until(text: str, t_ns: int) -> str:
    """The lines stamped up to ``t_ns``; all of them where a line on the way has no stamp."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high) // 2
        line = text.find("\n", middle) + 1
        if line == 0 or line >= high:
            high = middle
            continue
        stamp = _STAMP.match(text, line)
        if stamp is None:
            return text
        if int(stamp[1]) > t_ns:
            high = middle
        else:
            low = line
    end = text.find("\n", low)
    return text if end < 0 else text[: end + 1]


def run_window(rec: RunRecord) -> Window:
    """From the start of loading to the last timed token, device clock; of a program that tells neither, all after
    the idle baseline."""
    if not rec.timed:
        return (rec.manifest.idle_t_ns[1] if rec.manifest.idle_t_ns else 0), 2**62
    start = rec.loaded.t_start_ns if rec.loaded else rec.passes[0].prefill.t_start_ns
    return start, rec.timed[-1].token_t_ns[-1]


def within(one: Series, window: Window | None) -> Values:
    """The samples of a series in a window."""
    if window is None:
        return np.empty(0)
    inside = (one.t_ns >= window[0]) & (one.t_ns <= window[1])
    return np.asarray(one.value, dtype=float)[inside]


def finite(values: Iterable[Values]) -> Values:
    """All values but those that are NaN or infinite, one after the other."""
    joined = np.concatenate([np.empty(0), *values])
    return np.asarray(joined[np.isfinite(joined)])


def largest(values: Iterable[Values]) -> float:
    """The largest of all; NaN where there is none."""
    known = finite(values)
    return float(known.max()) if known.size else math.nan
