"""Tails of a cell's inter-token latency: percentiles over the intervals of all its clean sessions together."""

from collections.abc import Callable, Collection

import numpy as np
import pandas as pd

from melt.analysis.flags import compared
from melt.analysis.measures.latency import TAILS, tails, why_no_tail
from melt.analysis.stats import Floats


def with_tails(
    cells: pd.DataFrame, runs: pd.DataFrame, intervals_of: Callable[[Collection[str]], Floats]
) -> pd.DataFrame:
    """The cells with their pooled percentiles, which have no bounds, and why one is NaN.

    Args:
        cells: a row a cell and passport.
        runs: of which they are made; those that are disturbed or in no comparison are left out where there are others.
        intervals_of: the intervals of some runs by their ids, seconds.
    """
    ok = runs[runs["status"] == "ok"]
    members = dict(iter(ok.groupby(["cell_id", "passport_id"], sort=False)))
    pooled = []
    for key in zip(cells["cell_id"], cells["passport_id"], strict=True):
        group = members.get(key)
        found = intervals_of(_clean(group)) if group is not None else np.empty(0)
        pooled.append({**tails(found), "itl_reason": why_no_tail(len(found)) or np.nan})
    columns = pd.DataFrame(pooled, index=cells.index, columns=[*TAILS, "itl_reason"])
    bounds = {f"{name}_{end}": np.nan for name in TAILS for end in ("lo", "hi")}
    return cells.assign(**{str(name): columns[name] for name in columns}, **bounds)


def _clean(group: pd.DataFrame) -> set[str]:
    clean = group[group["flags"].map(compared).astype(bool) & group["counted"]]
    return set((clean if len(clean) else group)["run_id"])
