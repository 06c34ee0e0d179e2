"""The order in which the units of a plan are measured."""

from collections.abc import Sequence
from typing import NamedTuple

from melt.spec.cell import Cell


class Unit(NamedTuple):
    """What one fresh process measures: a cell, and the index of the session among those of the cell."""

    cell: Cell
    session: int


def interleave(cells: Sequence[Cell], sessions: int, seed: int) -> list[Unit]:
    """The units of all cells in seeded random order, one round of every cell after another.

    Within a round the cells of one condition stay together: a power mode moves once, and the device settles once.
    A drift of the device then lands on every cell alike, and after each round every cell has as many
    sessions as any other, so that an interrupted plan is still balanced.
    """
    import random

    shuffler = random.Random(seed)  # noqa: S311 - an order, not a secret
    order = []
    for session in range(sessions):
        one_round = list(cells)
        shuffler.shuffle(one_round)
        conditions = [cell.conditions for cell in one_round]
        one_round.sort(key=lambda cell: conditions.index(cell.conditions))
        order += [Unit(cell, session) for cell in one_round]
    return order
