"""Plans that take seconds, and watchers that interfere with them."""

import threading
from collections.abc import Callable
from pathlib import Path

from melt.execution.executor import Outcome
from melt.execution.progress import Watcher
from melt.spec.events import Event, Iteration, UnknownLine
from melt.spec.plan import Plan
from melt.store.store import Run


def a_plan(device: str, *models: Path | str, **more: object) -> Plan:
    """One session of little work on one thread, but for what a test says otherwise."""
    few = {"context": (32,), "gen": (4,), "sessions": 1, "iterations": 2, "threads": (1,), "idle_s": 0.1}
    busy = {"extra_time": {"share": 0.0}}  # as the tests' machine is, sessions would be made again and again
    return Plan.model_validate({"devices": (device,), "models": tuple(map(str, models)), **few, **busy, **more})


def timed(made: Run) -> list[Iteration]:
    return [e for e in made.events() if isinstance(e, Iteration) and not e.warmup]


class When(Watcher):
    """Does something at the first event of a kind."""

    def __init__(self, kind: type[Event], act: Callable[[], None]) -> None:
        self._kind, self._act = kind, act
        self.done = threading.Event()

    def event(self, event: Event | UnknownLine) -> None:
        if isinstance(event, self._kind) and not self.done.is_set():
            self.done.set()
            self._act()


class AtPhase(Watcher):
    """Does something when a phase begins for the first time."""

    def __init__(self, name: str, act: Callable[[], None]) -> None:
        self._name, self._act = name, act
        self.done = False

    def phase(self, name: str) -> None:
        if name == self._name and not self.done:
            self.done = True
            self._act()


def last(outcome: Outcome) -> Run:
    return outcome.made[-1]
