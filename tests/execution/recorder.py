"""A watcher that notes what a plan at work tells."""

from melt.execution.executor import Outcome
from melt.execution.progress import Watcher
from melt.spec.cell import Cell
from melt.spec.events import Event, UnknownLine
from melt.store.store import Run


class Recorder(Watcher):
    """Notes the order of steps, and may do something at each event."""

    def __init__(self, on_event: object = None) -> None:
        self.steps: list[str] = []
        self.said: list[str] = []
        self.on_event = on_event

    def begin(self, cell: Cell, session: int) -> None:
        self.steps.append(f"begin {cell.prompt_tokens}")

    def phase(self, name: str) -> None:
        self.steps.append(name)

    def event(self, event: Event | UnknownLine) -> None:
        self.steps.append(event.event)
        if callable(self.on_event):
            self.on_event(event)

    def end(self, run: Run) -> None:
        self.steps.append(f"end {run.manifest.status}")

    def say(self, text: str) -> None:
        self.said.append(text)


def only(outcome: Outcome) -> Run:
    assert len(outcome.made) == 1
    return outcome.made[0]
