"""The live view of a plan at work: one bar over its runs, with the cell, its phase, the time left, the last speed."""

import math
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live as DrawnLive
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
from rich.text import Text

from melt.analysis.measures.latency import DECODE_THROUGHPUT, PREFILL_THROUGHPUT, of_pass, rate
from melt.analysis.metrics import shown_in
from melt.cli import printable
from melt.cli.build_bar import build_bar
from melt.drivers.base import Progress as ByteProgress
from melt.execution.agenda import Agenda
from melt.execution.estimate import Rate
from melt.execution.preflight import Preflight
from melt.execution.progress import Watcher
from melt.execution.side_by_side import at_once
from melt.spec.cell import Cell
from melt.spec.events import Event, Iteration, ModelLoaded, Repetitions, UnknownLine
from melt.spec.metrics import Metric
from melt.spec.plan import Plan
from melt.store.store import Run
from melt.util.text import plural
from melt.util.units import S_PER_NS

_REDRAW_S = 0.25


class Live(Watcher):
    """A ``Watcher`` that draws on stderr; on a pipe it prints a line a run instead.

    Where this machine itself is measured the screen is drawn between timed iterations only: the few
    milliseconds that a redraw takes would be in the measurement.
    """

    def __init__(self, plan: Plan, console: Console | None = None) -> None:
        self._plan = plan
        self._resting = False
        self._console = console or Console(stderr=True, emoji=False)
        self._files = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("runs,"),
            TimeElapsedColumn(),
            TextColumn("so far, {task.fields[left]} left"),
        )
        self._task: TaskID | None = None
        self._rate: Rate | None = None
        self._left: list[Cell] = []
        self._total = 0
        self._warned: set[str] = set()
        self._lane = _Lane()
        self._lanes = {"": self._lane}  # by device, where several are measured at once
        self._beside: tuple[str, ...] = ()
        self._drawn: DrawnLive | None = None

    def __enter__(self) -> "Live":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.stop()
        if self._drawn is not None:
            self._drawn.stop()

    def model_progress(self, ref: str) -> ByteProgress:
        """A bar for a model being made ready; it appears with the first bytes."""
        tasks: list[TaskID] = []

        def show(done: int, total: int) -> None:
            if not tasks:
                self._files.start()
                tasks.append(self._files.add_task(f"model {_safe(ref)}", total=total))
                if not self._console.is_terminal:
                    self._console.print(f"making ready {_safe(ref)}", soft_wrap=True)
            self._files.update(tasks[0], completed=done, total=total)

        return show

    def building(self, what: str) -> AbstractContextManager[ByteProgress]:
        """A bar for a runner being built; it appears with the first step."""
        return build_bar(self._console, _safe(what))

    def pushing(self, name: str) -> ByteProgress:
        """Share, rate and time left of a file on its way, drawn a few times a second; on a pipe a line at its end."""
        began, drawn = time.monotonic(), 0.0

        def show(done: int, total: int) -> None:
            nonlocal drawn
            now = time.monotonic()
            if done < total and now - drawn > _REDRAW_S:
                drawn = now
                self.phase(push_text(name, done, total, now - began))
            elif done == total and drawn and not self._console.is_terminal:
                self.say(push_text(name, done, total, now - began))

        return show

    def plan(self, left: Agenda, admitted: Preflight) -> None:
        """Says what is to be done, or what more, and starts the bar or makes it longer."""
        self._files.stop()
        self._rate = left.rate
        self._left = [cell for cell, _ in left.todo]
        self._total += len(left.todo)
        self._beside = at_once(admitted)
        self._resting = any(facts.is_host for facts in admitted.facts.values())
        already = f", {left.already_there} measured already" if left.already_there else ""
        basis = "" if left.rate.learned else " by a rough first guess"
        about = f", about {duration(self._left_s())}{basis}" if left.todo else ""
        self._console.print(f"{plural(len(left.todo), 'run')} to make{already}{about}", soft_wrap=True)
        if self._task is not None:
            self._bar.update(self._task, total=self._total)
        elif left.todo and self._console.is_terminal:
            self._task = self._bar.add_task("", total=self._total, left="")
            self._drawn = self._live()
            self._drawn.start()

    def _live(self) -> DrawnLive:
        return DrawnLive(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=4,
            auto_refresh=not self._resting,
            transient=True,
        )

    def at(self, device: str) -> None:
        """A line for each device that is measured at the same time."""
        self._lanes.pop("", None)
        self._lane = self._lanes.setdefault(device, _Lane())

    def begin(self, cell: Cell, session: int) -> None:
        """Names the cell."""
        self._lane.began = time.monotonic()
        self._lane.warmups, self._lane.iterations = cell.warmups, cell.iterations
        self._lane.cell = f"session {session + 1} · {cell.label()}"
        self.phase("start")

    def phase(self, name: str) -> None:
        """Names the phase."""
        self._lane.phase = name
        if self._drawn is not None:
            self._drawn.refresh()

    def event(self, event: Event | UnknownLine) -> None:
        """Notes where the runner is, and the last speed."""
        if isinstance(event, ModelLoaded):
            self.phase("warm-up" if self._lane.warmups else f"measure 1/{self._lane.iterations}")
        if isinstance(event, Repetitions):
            self._lane.speed = repetitions_speed(event)
            self.phase("measure decode" if event.phase == "prefill" else "end")
        if isinstance(event, Iteration):
            upcoming = 1 if event.warmup else event.index + 2
            self._lane.speed = self._lane.speed if event.warmup else pass_speed(event)
            if upcoming <= self._lane.iterations:
                rests = " (the screen rests while it is timed)" if self._resting else ""
                self.phase(f"measure {upcoming}/{self._lane.iterations}{rests}")

    def end(self, run: Run) -> None:
        """Moves the bar on and learns how long such a run takes."""
        m = run.manifest
        if self._rate is not None:
            self._rate.learn(run)
        if m.attempt == 0:
            if m.cell in self._left:
                self._left.remove(m.cell)
            if self._task is not None:
                self._bar.advance(self._task)
        for warning in m.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                self.say(f"warning: {warning}")
        if m.disturbed:
            causes = ", ".join(m.disturbed).replace("_", " ")
            self._console.print(f"[yellow]disturbed[/yellow] {_safe(m.cell.label())}: {causes}", soft_wrap=True)
        if m.error is not None:
            word = "[red]failed[/red]" if m.status == "failed" else "[yellow]skipped[/yellow]"
            reason = f"{_safe(m.cell.label())}: {m.error.kind}: {_safe(m.error.message)}"
            self._console.print(f"{word} {reason}", soft_wrap=True)
        elif not self._console.is_terminal:
            done = self._total - len(self._left)
            text = f"{done}/{self._total} {_safe(m.cell.label())}: {self._lane.speed}; {duration(self._left_s())} left"
            self._console.print(text, soft_wrap=True)

    def say(self, text: str) -> None:
        """Prints above the bar."""
        self._console.print(_safe(text), soft_wrap=True)

    def _left_s(self) -> float:
        """Seconds left: of devices side by side the longest, and then what comes after."""
        if self._rate is None or not self._left:
            return 0.0
        of_device: dict[str, float] = {}
        for cell in self._left:
            name = cell.device if cell.device in self._beside else ""
            of_device[name] = of_device.get(name, 0.0) + self._rate.session_s(cell)
        after_s = of_device.pop("", 0.0)
        return max(of_device.values(), default=0.0) + after_s

    def _render(self) -> RenderableType:
        if self._task is None:
            return ""
        lanes = [lane for lane in self._lanes.values() if lane.cell]
        # What the session under way has taken so far counts only up to what it should take.
        spent_s = min((time.monotonic() - lane.began for lane in lanes), default=0.0) if self._left else 0.0
        left_s = self._left_s()
        self._bar.update(self._task, left=duration(max(0.0, left_s - min(spent_s, self._one_s()))))
        lines: list[RenderableType] = [self._bar]
        for lane in lanes or [_Lane()]:
            lines.append(Text(printable(f"  {lane.phase} · {lane.cell}"), overflow="ellipsis", no_wrap=True))
            lines.append(Text(f"  last: {lane.speed}" if lane.speed else "", style="dim"))
        return Group(*lines)

    def _one_s(self) -> float:
        return self._rate.session_s(self._left[0]) if self._rate is not None and self._left else 0.0


@dataclass
class _Lane:
    """What is going on at one device."""

    cell: str = ""
    phase: str = ""
    speed: str = ""
    warmups: int = 0
    iterations: int = 0
    began: float = field(default_factory=time.monotonic)


def push_text(name: str, done: int, total: int, spent_s: float) -> str:
    """How far a file on its way to a device is."""
    rate = done / spent_s if spent_s > 0 else 0.0
    left = f", {duration((total - done) / rate)} left" if rate and done < total else ""
    return f"push {name}: {done / max(total, 1):.0%} of {total / 2**20:,.0f} MiB, {rate / 1e6:,.1f} MB/s{left}"


def pass_speed(event: Iteration) -> str:
    """The throughputs of one pass; empty where its times are none."""
    values = of_pass(event) if len(event.token_t_ns) > 1 else {}
    return ", ".join(_said(m, values[m.name]) for m in shown_in("live") if math.isfinite(values.get(m.name, math.nan)))


def repetitions_speed(event: Repetitions) -> str:
    """The throughput of one phase, over all of its repetitions."""
    throughput = PREFILL_THROUGHPUT if event.phase == "prefill" else DECODE_THROUGHPUT
    return _said(throughput, rate(event.tokens * len(event.took_ns), sum(event.took_ns) * S_PER_NS))


def _said(metric: Metric, value: float) -> str:
    return f"{metric.title} {value * metric.scale.factor:.{metric.scale.decimals}f} {metric.scale.unit}"


def duration(seconds: float) -> str:
    """A length of time for people."""
    for unit, length, limit in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < limit * length:
            return f"{seconds / length:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86400:.0f} days"


def _safe(text: str) -> str:
    return escape(printable(text))
