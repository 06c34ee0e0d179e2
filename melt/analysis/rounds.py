"""Rounds of two curves: session k of the one beside session k of the other, where they were measured close in time.

Two runs make a round where no other session of these two cells began between them. So interleaved sessions make
rounds, repeated ones at the end of their round too; what was measured one model after the other, on other days, or
read from another program's files, makes none.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from melt.analysis.curves import Curve, shared_contexts
from melt.analysis.stats import Floats


def log_ratios(a: Curve, b: Curve, metric: str, context: float) -> Floats:
    """ln(a / b) of each round at one context length that both have, in the order of sessions."""
    sessions = rounds(a, b, [context])
    left, right = (_values(curve, metric, [context], sessions)[:, 0] for curve in (a, b))
    known = (left > 0) & (right > 0)
    return np.log(left[known] / right[known])


def mean_log_ratios(a: Curve, b: Curve, metric: str) -> Floats:
    """The mean of ln(a / b) over the lengths that both have, of each round that is whole."""
    contexts = shared_contexts(a, b, metric)
    sessions = rounds(a, b, contexts)
    left, right = (_values(curve, metric, contexts, sessions) for curve in (a, b))
    whole = ((left > 0) & (right > 0)).all(axis=1) if len(contexts) else np.zeros(0, dtype=bool)
    return np.asarray(np.log(left[whole] / right[whole]).mean(axis=1)) if whole.any() else np.empty(0)


@dataclass(frozen=True)
class WholeRounds:
    """Two curves' values in the rounds in which every length was measured; each rounds by its own lengths."""

    grids: tuple[Floats, Floats]
    values: tuple[Floats, Floats]

    def __len__(self) -> int:
        return len(self.values[0])


def whole_rounds(a: Curve, b: Curve, metric: str) -> WholeRounds:
    """The whole rounds of two curves; lengths near crossovers count where no round is lost by them."""
    asked, every = (_whole(a, b, metric, adaptive) for adaptive in (False, True))
    return every if len(every) >= len(asked) else asked


def _whole(a: Curve, b: Curve, metric: str, adaptive: bool) -> WholeRounds:
    grids = a.measured(metric, adaptive=adaptive), b.measured(metric, adaptive=adaptive)
    sessions = rounds(a, b, np.intersect1d(*grids))
    left, right = (_values(curve, metric, grid, sessions) for curve, grid in zip((a, b), grids, strict=True))
    whole = np.isfinite(left).all(axis=1) & np.isfinite(right).all(axis=1)
    return WholeRounds(grids, (left[whole], right[whole]))


def rounds(a: Curve, b: Curve, contexts: Floats | list[float]) -> list[int]:
    """The sessions that are rounds at each of some context lengths."""
    found: set[int] | None = None
    for context in contexts:
        at = {name: _started(curve, context) for name, curve in (("a", a), ("b", b))}
        both = at["a"].index.intersection(at["b"].index)
        every = np.sort(np.concatenate([at["a"].to_numpy(), at["b"].to_numpy()]))
        first = np.minimum(at["a"][both].to_numpy(), at["b"][both].to_numpy())
        last = np.maximum(at["a"][both].to_numpy(), at["b"][both].to_numpy())
        between = np.searchsorted(every, last, side="left") - np.searchsorted(every, first, side="right")
        adjacent = {int(s) for s in both[between <= 0]}
        found = adjacent if found is None else found & adjacent
    return sorted(found or ())


def _started(curve: Curve, context: float) -> pd.Series:
    """When each session began at a context length, by session; of several runs of one session the first."""
    at = curve.sessions[curve.sessions["prompt_tokens"] == context].sort_values("started_at")
    first = at.drop_duplicates("session").set_index("session")["started_at"]
    return pd.to_datetime(first, format="ISO8601", utc=True)


def _values(curve: Curve, metric: str, contexts: Floats | list[float], sessions: list[int]) -> Floats:
    """A metric, sessions by context lengths; NaN where it was not measured."""
    ordered = curve.sessions.sort_values("started_at").drop_duplicates(["session", "prompt_tokens"])
    table = ordered.pivot_table(index="session", columns="prompt_tokens", values=metric, aggfunc="first", dropna=False)
    return table.reindex(index=sessions, columns=list(contexts)).to_numpy(dtype=float)
