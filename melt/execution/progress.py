"""What a session tells of its progress, for a progress bar or for nobody."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melt.drivers.base import Progress
    from melt.models.info import ModelInfo
    from melt.spec.cell import Cell
    from melt.spec.events import Event, UnknownLine
    from melt.store.store import Run


class Watcher:
    """Hears of every step, and does nothing; a progress bar overrides what it shows. Must return at once."""

    def model_progress(self, ref: str) -> "Progress | None":
        """A callback for bytes done of a model being made ready."""

    def building(self, what: str) -> "AbstractContextManager[Progress]":
        """For the time that a program is built: a callback for steps done."""
        return nullcontext(lambda done, total: None)

    def pushing(self, name: str) -> "Progress | None":
        """A callback for bytes done of a file that goes to a device."""

    def plan(self, todo: "Sequence[tuple[Cell, int]]", already_there: int, models: "Mapping[str, ModelInfo]") -> None:
        """Everything is ready; these sessions are to be measured, and so many are there already."""

    def begin(self, cell: "Cell", session: int) -> None:
        """A session of a cell begins."""

    def phase(self, name: str) -> None:
        """What is going on: push, cool, idle, load, collect."""

    def event(self, event: "Event | UnknownLine") -> None:
        """The runner said something."""

    def end(self, run: "Run") -> None:
        """A run is published."""

    def say(self, text: str) -> None:
        """Something the user should read."""
