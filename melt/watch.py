"""What a session tells of its progress, for a progress bar or for nobody."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from melt.drivers.base import Progress
    from melt.events import Event, UnknownLine
    from melt.models.info import ModelInfo
    from melt.plan import Cell
    from melt.store import Run


class Watcher(Protocol):
    """Hears of every step; must return at once and never raise."""

    def model_progress(self, ref: str) -> "Progress | None":
        """A callback for bytes done of a model being made ready."""
        ...

    def plan(
        self, cells: "Sequence[Cell]", todo: "Sequence[tuple[Cell, int]]", models: "Mapping[str, ModelInfo]"
    ) -> None:
        """Everything is ready; these sessions are to be measured."""
        ...

    def begin(self, cell: "Cell", session: int) -> None:
        """A session of a cell begins."""
        ...

    def phase(self, name: str) -> None:
        """What is going on: push, cool, idle, load, warm-up, measure, collect."""
        ...

    def event(self, event: "Event | UnknownLine") -> None:
        """The runner said something."""
        ...

    def end(self, run: "Run") -> None:
        """A run is published."""
        ...

    def say(self, text: str) -> None:
        """Something the user should read."""
        ...


class Silent:
    """Tells nobody."""

    def model_progress(self, ref: str) -> "Progress | None":
        """No callback."""

    def plan(
        self, cells: "Sequence[Cell]", todo: "Sequence[tuple[Cell, int]]", models: "Mapping[str, ModelInfo]"
    ) -> None:
        """Ignored."""

    def begin(self, cell: "Cell", session: int) -> None:
        """Ignored."""

    def phase(self, name: str) -> None:
        """Ignored."""

    def event(self, event: "Event | UnknownLine") -> None:
        """Ignored."""

    def end(self, run: "Run") -> None:
        """Ignored."""

    def say(self, text: str) -> None:
        """Ignored."""
