"""Cells near crossovers: where two curves of a plan cross, both are measured once more, at the length itself.

Between two measured lengths a curve is read by its cost law, and a crossing is no surer than that law; a length
beside it makes it so. The place is estimated from the cells that the plan names alone and rounded, so that it is the
same cell when the plan goes on.
"""

import itertools
from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from melt.execution.preflight import Preflight
from melt.spec.cell import Cell
from melt.store.manifest import Manifest
from melt.store.store import Store

if TYPE_CHECKING:
    from melt.analysis.curves import Curve

STEP = 16  # tokens
METRICS = ("ttft_s", "tpot_s")  # of which each pair of curves may have one length added


def near_crossovers(admitted: Preflight, counted: Collection[Manifest], store: Store) -> list[tuple[Cell, Cell]]:
    """Both curves' cells at each crossing that is told, in the order of curves; nothing of what is measured already.

    Args:
        admitted: the plan; its own cells are those that the places are estimated from.
        counted: the runs that are measurements of them.
        store: holds these runs.
    """
    if not counted:
        return []
    from melt.analysis.cells import cells_frame  # has pandas
    from melt.analysis.crossover import settle, study
    from melt.analysis.curves import curves, pairs
    from melt.analysis.frames import load

    runs = load(store.folder).runs
    runs = runs[runs["run_id"].isin([m.run_id for m in counted])]
    asked = [(a, b, study(a, b, metric)) for a, b in pairs(curves(runs, cells_frame(runs))) for metric in METRICS]
    known = {cell.id: cell for cell in admitted.cells}
    found: dict[tuple[Cell, Cell], None] = {}
    for (a, b, _), one in zip(asked, settle([s for _, _, s in asked]), strict=True):
        length = max(1, round(one.context / STEP)) * STEP if one.kind in ("crosses", "crosses_back") else 0
        if length and length not in (*a.contexts, *b.contexts):
            found[_at(a, length, known), _at(b, length, known)] = None
    return list(found)


def most_near_crossovers(admitted: Preflight) -> int:
    """The most cells that may be added to a plan, by the families of the models that are known."""
    lengths: Counter[Cell] = Counter(_at_no_length(cell) for cell in admitted.cells if cell.model in admitted.models)
    lines = [line for line, n in lengths.items() if n > 1]
    of = {line: admitted.models[line.model].family for line in lines}
    alike = itertools.groupby(sorted(lines, key=_beside_each_other), _beside_each_other)
    families = [Counter(of[line] for line in group) for _, group in alike]
    n_pairs = sum(f["transformer"] * (f["ssm"] + f["hybrid"]) for f in families)
    return 2 * len(METRICS) * n_pairs


def _at(curve: "Curve", length: int, known: Mapping[str, Cell]) -> Cell:
    return known[curve.cells["cell_id"].iloc[0]].model_copy(update={"prompt_tokens": length})


def _at_no_length(cell: Cell) -> Cell:
    return cell.model_copy(update={"prompt_tokens": 0})


def _beside_each_other(line: Cell) -> str:
    """Equal for what differs in the model alone."""
    return line.model_copy(update={"model": ""}).model_dump_json()
