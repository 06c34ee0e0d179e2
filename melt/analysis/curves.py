"""Curves: what one model did over context lengths, everything else being equal."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from melt.analysis.cells import cells_frame
from melt.analysis.flags import compared
from melt.analysis.metrics import METRICS
from melt.analysis.stats import Floats
from melt.spec.cell import AXES

# Equal on every point of a curve, and on two curves that are compared.
MATCHED = (
    *(name for name, axis in AXES.items() if axis.separates == "setting"),
    "effective_accelerator",
    "conditions_id",
)
OF_MODEL = ("passport_id", "model", "quant")
# Lengths measured with other numbers of passes still make one curve, unless one length was measured with both;
# likewise what ran alike though it was asked for otherwise, as two threads by number and by default.
_NUMBERS = [m + bound for m in METRICS for bound in ("", "_lo", "_hi")]
APART = ("settings_id", *(name for name, axis in AXES.items() if axis.separates == "passes"))


@dataclass(frozen=True)
class Curve:
    """One model's cells by context length, with the runs behind each.

    ``cells`` is sorted by prompt_tokens and holds no length twice; of a length with disturbed runs alone it has no
    numbers. ``sessions`` are its undisturbed ok runs, the only ones that count; ``disturbed`` are the others.
    """

    matched: tuple[object, ...]  # the values of MATCHED
    cells: pd.DataFrame
    sessions: pd.DataFrame
    disturbed: pd.DataFrame

    @property
    def name(self) -> str:
        """The model's name for people."""
        return str(self.cells["model_name"].iloc[0])

    @property
    def family(self) -> str:
        """transformer, ssm or hybrid; ``unknown`` where the model was never read."""
        family = self.cells["family"].iloc[0]
        return family if isinstance(family, str) else "unknown"

    @property
    def some_run(self) -> pd.Series:
        """One of its runs: all were made under the same conditions."""
        return (self.sessions if len(self.sessions) else self.disturbed).iloc[0]

    @property
    def contexts(self) -> Floats:
        """The context lengths, ascending."""
        return self.cells["prompt_tokens"].to_numpy(dtype=float)

    def of(self, column: str) -> Floats:
        """A column of its cells as numbers."""
        return self.cells[column].to_numpy(dtype=float)

    def raw(self, metric: str, context: float) -> Floats:
        """The metric of each session at one context length, NaN left out."""
        values = self.sessions[metric].to_numpy(dtype=float)
        return np.asarray(values[(self.sessions["prompt_tokens"].to_numpy() == context) & ~np.isnan(values)])

    def measured(self, metric: str, *, adaptive: bool = True) -> Floats:
        """The context lengths at which the metric was measured, with those that no plan names or without."""
        asked_for = ~self.cells["adaptive"].to_numpy(dtype=bool)
        return self.contexts[np.isfinite(self.of(metric)) & (asked_for | adaptive)]


def curves(runs: pd.DataFrame, cells: pd.DataFrame) -> list[Curve]:
    """Every curve with at least one measured cell; Transformers first, then by name.

    Runs with a flag of ``NOT_COMPARED`` are on none: a cell that has others beside them is on its curve with those.
    """
    fit = runs["flags"].map(compared).astype(bool)
    if not fit.all():
        runs, cells = runs[fit], cells_frame(runs[fit])
    measured = cells[cells["n_sessions"] > 0]
    ok = runs[runs["status"] == "ok"].set_index(["cell_id", "passport_id"], drop=False)
    found = []
    for key, group in measured.groupby([*MATCHED, *OF_MODEL], dropna=False, sort=False):
        matched = tuple(None if v != v else v for v in key[: len(MATCHED)])
        for alike in _one_each(group, APART):
            points = alike.sort_values("prompt_tokens", ignore_index=True)
            wanted = list(zip(points["cell_id"], points["passport_id"], strict=True))
            of_curve = ok.loc[ok.index.isin(wanted)].reset_index(drop=True)
            points.loc[points["n_clean"] == 0, _NUMBERS] = np.nan
            clean, disturbed = of_curve[of_curve["counted"]], of_curve[of_curve["disturbed"] != ""]
            found.append(Curve(matched, points, clean, disturbed))
    rank = {"transformer": 0, "hybrid": 1, "ssm": 2}
    return sorted(found, key=lambda c: (str(c.matched), rank.get(c.family, 3), c.name, str(c.cells["quant"].iloc[0])))


def _one_each(cells: pd.DataFrame, apart: Sequence[str]) -> Iterator[pd.DataFrame]:
    """The cells in as few groups as it takes for each to hold a context length once."""
    if not apart or not cells["prompt_tokens"].duplicated().any():
        yield cells
        return
    for _, group in cells.groupby(apart[0], dropna=False, sort=False):
        yield from _one_each(group, apart[1:])


def pairs(measured: list[Curve]) -> Iterator[tuple[Curve, Curve]]:
    """Every SSM or hybrid beside every Transformer that was measured under the same settings."""
    for challenger in measured:
        for reference in measured:
            alike = challenger.matched == reference.matched
            if alike and challenger.family in ("ssm", "hybrid") and reference.family == "transformer":
                yield challenger, reference


def shared_contexts(a: Curve, b: Curve, metric: str) -> Floats:
    """The context lengths at which both were measured because a plan named them, ascending.

    A length near their crossover was chosen for what they do there: a mean over lengths would lean towards even.
    """
    return np.intersect1d(a.measured(metric, adaptive=False), b.measured(metric, adaptive=False))
