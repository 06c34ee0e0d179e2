"""The bar of a build: steps, and the time left."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from melt.drivers.base import Progress as Steps


@contextmanager
def build_bar(console: Console, what: str) -> Iterator[Steps]:
    """A callback for steps done and in all; the bar appears with the first, and on a pipe one line does."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(f"building the runner for {what}", total=None)
    begun = False

    def show(done: int, total: int) -> None:
        nonlocal begun
        if not begun:
            begun = True
            bar.start()
            if not console.is_terminal:
                console.print(f"building the runner for {what}, once", soft_wrap=True)
        bar.update(task, completed=done, total=total)

    try:
        yield show
    finally:
        bar.stop()
