"""The live view of a session: one bar over all sessions, with the cell, its phase, the time left and the last speed."""

from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from melt.cli import printable
from melt.drivers.base import Progress as ByteProgress
from melt.estimate import Rate
from melt.events import Event, Iteration, ModelLoaded, UnknownLine
from melt.models.info import ModelInfo
from melt.plan import Cell, Plan
from melt.store import Run


class Live:
    """A ``Watcher`` that draws on stderr; on a pipe it prints a line a run instead."""

    def __init__(self, plan: Plan, console: Console | None = None) -> None:
        self._plan = plan
        self._console = console or Console(stderr=True)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._files = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._rate: Rate | None = None
        self._left: list[Cell] = []
        self._speed = ""
        self._phase = ""
        self._total = 0

    def __enter__(self) -> "Live":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.stop()
        self._bar.stop()

    def model_progress(self, ref: str) -> ByteProgress:
        """A bar for a model being made ready; it appears with the first bytes."""
        tasks: list[TaskID] = []

        def show(done: int, total: int) -> None:
            if not tasks:
                self._files.start()
                tasks.append(self._files.add_task(f"model {_safe(ref)}", total=total))
                if not self._console.is_terminal:
                    self._console.print(f"making ready {_safe(ref)}")
            self._files.update(tasks[0], completed=done, total=total)

        return show

    def plan(self, cells: Sequence[Cell], todo: Sequence[tuple[Cell, int]], models: Mapping[str, ModelInfo]) -> None:
        """Starts the bar."""
        self._files.stop()
        self._rate = Rate(self._plan, dict(models))
        self._left = [cell for cell, _ in todo]
        self._total = len(todo)
        have = len(cells) * self._plan.sessions - len(todo)
        already = f", {have} measured already" if have else ""
        about = f", about {_duration(self._rate.total_s(self._left))} by a rough first guess" if todo else ""
        self._console.print(
            f"{len(cells)} cells x {self._plan.sessions} sessions: {len(todo)} runs to make{already}{about}"
        )
        if todo:
            self._bar.start()
            self._task = self._bar.add_task("", total=len(todo), note="")

    def begin(self, cell: Cell, session: int) -> None:
        """Names the cell."""
        if self._task is not None:
            text = (
                f"{_safe(cell.device)} [bold]{_safe(cell.model)}[/bold] @ {cell.prompt_tokens}, session {session + 1}"
            )
            self._bar.update(self._task, description=text)
        self.phase("start")

    def phase(self, name: str) -> None:
        """Names the phase."""
        self._phase = name
        self._draw()

    def event(self, event: Event | UnknownLine) -> None:
        """Notes the last speed."""
        if isinstance(event, ModelLoaded):
            self.phase("warm-up" if self._plan.warmups else "measure")
        if isinstance(event, Iteration) and not event.warmup:
            self._speed = _speed(event)
            self.phase(f"measure {event.index + 1}/{self._plan.iterations}")

    def end(self, run: Run) -> None:
        """Moves the bar on and learns how long such a run takes."""
        m = run.manifest
        if self._rate is not None:
            self._rate.learn(run)
        last_try = m.status == "ok" or m.cell in self._left
        if m.cell in self._left and last_try:
            self._left.remove(m.cell)
            if self._task is not None:
                self._bar.advance(self._task)
        done = self._total - len(self._left)
        if m.error is not None:
            word = "[red]failed[/red]" if m.status == "failed" else "[yellow]skipped[/yellow]"
            self._console.print(f"{word} {_safe(m.cell.label())}: {m.error.kind}: {_safe(m.error.message)}")
        elif not self._console.is_terminal:
            left = self._rate.total_s(self._left) if self._rate else 0.0
            text = f"{done}/{self._total} {_safe(m.cell.label())}: {self._speed}; {_duration(left)} left"
            self._console.print(text, soft_wrap=True)
        self._draw()

    def say(self, text: str) -> None:
        """Prints above the bar."""
        self._console.print(_safe(text))

    def _draw(self) -> None:
        if self._task is None or self._rate is None:
            return
        left = _duration(self._rate.total_s(self._left))
        note = f"{self._phase} · {left} left" + (f" · {self._speed}" if self._speed else "")
        self._bar.update(self._task, note=note)


def _speed(event: Iteration) -> str:
    prefill_s = (event.prefill.t_end_ns - event.prefill.t_start_ns) / 1e9
    stamps = event.token_t_ns
    text = f"prefill {event.prefill.tokens / prefill_s:.0f} tok/s" if prefill_s > 0 else ""
    if len(stamps) > 1 and stamps[-1] > stamps[0]:
        text += f", decode {(len(stamps) - 1) / ((stamps[-1] - stamps[0]) / 1e9):.1f} tok/s"
    return text


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _safe(text: str) -> str:
    return escape(printable(text))
