"""What a plan at work tells of its progress, for a progress bar or for nobody."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melt.drivers.base import Progress
    from melt.execution.agenda import Agenda
    from melt.execution.preflight import Preflight
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

    def plan(self, left: "Agenda", admitted: "Preflight") -> None:
        """Everything is ready, and so much is left to measure; told again of what a plan adds to itself."""

    def at(self, device: str) -> None:
        """What is told from now on is of this device, where several are measured at once."""

    def begin(self, cell: "Cell", session: int) -> None:
        """A unit begins: a cell, and the index of its session."""

    def phase(self, name: str) -> None:
        """What is going on: push, cool, idle, load, collect."""

    def event(self, event: "Event | UnknownLine") -> None:
        """The runner said something."""

    def end(self, run: "Run") -> None:
        """A run is published."""

    def say(self, text: str) -> None:
        """Something the user should read."""


class Planned(Watcher):
    """Tells another all but what there is to do, which it knows."""

    def __init__(self, other: Watcher) -> None:
        for name in ("model_progress", "building", "pushing", "at", "begin", "phase", "event", "end", "say"):
            setattr(self, name, getattr(other, name))
