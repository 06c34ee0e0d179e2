"""One device of a plan in a process of its own: ``melt.execution.side_by_side`` starts it, and hears it by JSON lines.

argv    the device's name
stdin   {"plan": ..., "results": FOLDER}, and then nothing: its end is the end of the host
stdout  {"say": "begin", ...}, as ``melt.execution.progress.Watcher`` is told, and at last an outcome or an error
"""

import json
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TextIO

from melt.errors import MeltError
from melt.execution.executor import Outcome
from melt.execution.plan import run
from melt.execution.progress import Watcher
from melt.spec.cell import Cell
from melt.spec.events import Event, UnknownLine
from melt.spec.plan import Plan
from melt.store.store import Run
from melt.util.interrupt import INTERRUPTED

if TYPE_CHECKING:
    from melt.drivers.base import Progress

_PUSH_S = 0.25  # how often progress of a push is told


class Teller(Watcher):
    """Tells the host what it is told."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def tell(self, what: str, **more: Any) -> None:
        """One line."""
        self._out.write(json.dumps({"say": what, **more}) + "\n")
        self._out.flush()

    def pushing(self, name: str) -> "Progress":
        """Bytes done, a few times a second."""
        told_s = 0.0

        def show(done: int, total: int) -> None:
            nonlocal told_s
            if done == total or time.monotonic() - told_s > _PUSH_S:
                told_s = time.monotonic()
                self.tell("push", name=name, done=done, total=total)

        return show

    def begin(self, cell: Cell, session: int) -> None:
        """A unit begins."""
        self.tell("begin", cell=cell.model_dump(mode="json"), session=session)

    def phase(self, name: str) -> None:
        """What is going on."""
        self.tell("phase", name=name)

    def event(self, event: Event | UnknownLine) -> None:
        """The runner said something."""
        if not isinstance(event, UnknownLine):
            self.tell("event", line=event.model_dump_json(by_alias=True))

    def end(self, run: Run) -> None:
        """A run is published."""
        self.tell("end", run_id=run.manifest.run_id)

    def say(self, text: str) -> None:
        """Something the user should read."""
        self.tell("text", text=text)


def main() -> None:
    """Measures, and ends with 0 where it could tell what came of it."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)  # what a library prints is no line of ours
        asked = json.loads(sys.stdin.readline())
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        done = threading.Event()
        threading.Thread(target=_end_with_host, args=(done,), daemon=True).start()
        teller = Teller(out)
        try:
            outcome = run(Plan.model_validate(asked["plan"]), asked["results"], teller, only=(sys.argv[1],))
        except MeltError as e:
            teller.tell("error", kind=type(e).__name__, message=e.message, hint=e.hint)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        else:
            teller.tell("outcome", **_as_json(outcome))
        finally:
            done.set()  # before the host can hear that this is the end


def _end_with_host(done: threading.Event) -> None:
    """The host that goes, however it does, closes the pipe: then this ends as by Ctrl-C, and puts the device back."""
    while os.read(0, 4096):
        pass
    if not done.is_set():
        os.kill(os.getpid(), signal.SIGINT)


def _as_json(outcome: Outcome) -> dict[str, Any]:
    def by_cell(reasons: Any) -> list[tuple[dict[str, Any], str]]:
        return [(cell.model_dump(mode="json"), reason) for cell, reason in reasons.items()]

    return {
        "cells": [cell.model_dump(mode="json") for cell in outcome.cells],
        "already_there": outcome.already_there,
        "skipped": by_cell(outcome.skipped),
        "not_tried": by_cell(outcome.not_tried),
    }


if __name__ == "__main__":
    main()
