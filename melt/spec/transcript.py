"""What a runner said in one run: its events sorted by kind, once for all who read them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from melt.spec.events import (
    Compiled,
    Done,
    Event,
    Failed,
    Hello,
    Iteration,
    ModelLoaded,
    Ops,
    Repetitions,
    UnknownLine,
    Warned,
)
from melt.util.text import plural

_MAX_UNKNOWN_KEPT = 3


@dataclass(frozen=True)
class Transcript:
    """The events of one run by kind, each kind in order; of what is said once, the first counts."""

    hello: Hello | None = None
    compiled: tuple[Compiled, ...] = ()  # the model's graphs, of an accelerator that wants that
    loaded: ModelLoaded | None = None
    passes: tuple[Iteration, ...] = ()  # every pass, warm-ups included
    repetitions: tuple[Repetitions, ...] = ()  # of a program that gives durations only
    ops: tuple[Ops, ...] = ()
    warnings: tuple[Warned, ...] = ()
    failed: Failed | None = None
    done: Done | None = None  # the last
    unknown_lines: tuple[UnknownLine, ...] = ()  # the first few
    n_unknown_lines: int = 0

    @property
    def n_timed(self) -> int:
        """Timed iterations so far."""
        return max([sum(not p.warmup for p in self.passes), *(len(r.took_ns) for r in self.repetitions)])

    @property
    def spoken_warnings(self) -> tuple[str, ...]:
        """The runner's warnings, and one for all lines that are no events."""
        spoken = tuple(f"{w.kind}: {w.message}" for w in self.warnings)
        if not self.unknown_lines:
            return spoken
        shown = "; ".join(f"{u.raw[:80]!r} ({u.reason})" for u in self.unknown_lines)
        return (*spoken, f"no events in {plural(self.n_unknown_lines, 'line')} of the runner: {shown}")


class TranscriptWriter:
    """Sorts events as they come."""

    def __init__(self) -> None:
        self._once = Transcript()
        self._compiled: list[Compiled] = []
        self._passes: list[Iteration] = []
        self._repetitions: list[Repetitions] = []
        self._ops: list[Ops] = []
        self._warnings: list[Warned] = []
        self._unknown: list[UnknownLine] = []
        self._n_unknown = 0

    def add(self, event: Event | UnknownLine) -> None:
        """Takes the next event."""
        once = self._once
        match event:
            case Hello():
                self._once = replace(once, hello=once.hello or event)
            case ModelLoaded():
                self._once = replace(once, loaded=once.loaded or event)
            case Failed():
                self._once = replace(once, failed=once.failed or event)
            case Done():
                self._once = replace(once, done=event)
            case Compiled():
                self._compiled.append(event)
            case Iteration():
                self._passes.append(event)
            case Repetitions():
                self._repetitions.append(event)
            case Ops():
                self._ops.append(event)
            case Warned():
                self._warnings.append(event)
            case UnknownLine():
                self._n_unknown += 1
                self._unknown += [event] if len(self._unknown) < _MAX_UNKNOWN_KEPT else []

    def transcript(self) -> Transcript:
        """What was said so far."""
        return replace(
            self._once,
            compiled=tuple(self._compiled),
            passes=tuple(self._passes),
            repetitions=tuple(self._repetitions),
            ops=tuple(self._ops),
            warnings=tuple(self._warnings),
            unknown_lines=tuple(self._unknown),
            n_unknown_lines=self._n_unknown,
        )


def transcript_of(events: Iterable[Event | UnknownLine]) -> Transcript:
    """A whole stream, sorted."""
    writer = TranscriptWriter()
    for event in events:
        writer.add(event)
    return writer.transcript()
