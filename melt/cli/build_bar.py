"""The bar of a build: steps, and the time left."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from melt.drivers.base import Progress as Steps

LINE_EVERY_S = 15.0  # on a pipe: shorter than whoever waits for a silent program takes it for dead


@contextmanager
def build_bar(console: Console, what: str) -> Iterator[Steps]:
    """A callback for steps done and in all; the bar appears with the first, and on a pipe a line now and then."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(f"building the runner for {what}", total=None)
    said_s: float | None = None

    def show(done: int, total: int) -> None:
        nonlocal said_s
        now_s = time.monotonic()
        if said_s is None:
            bar.start()
        if not console.is_terminal and (said_s is None or now_s - said_s >= LINE_EVERY_S):
            how_far = "once" if said_s is None else f"{done} of {total} steps"
            console.print(f"building the runner for {what}, {how_far}", soft_wrap=True)
            said_s = now_s
        said_s = said_s or now_s
        bar.update(task, completed=done, total=total)

    try:
        yield show
    finally:
        bar.stop()
