"""One try at a unit, as it is asked for, and what was found out by making it."""

import time
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from melt.spec.cell import Cell
from melt.spec.facts import ClockReading, DeviceFacts
from melt.spec.job import Job
from melt.spec.plan import CoolDown, Timeouts
from melt.spec.profile import DeviceProfile
from melt.spec.transcript import Transcript
from melt.store.manifest import Flag, Prediction, RunFailure
from melt.telemetry.source import Discovery

if TYPE_CHECKING:
    from melt.models.info import ModelInfo


@dataclass(frozen=True)
class Rules:
    """How a unit is measured, whatever its cell."""

    cooldown: CoolDown
    timeouts: Timeouts
    idle_s: float  # the idle baseline's length
    profile_ops: bool


@dataclass(frozen=True)
class Origin:
    """What asked for the unit: a name, and a text that is kept with the run and repeats it."""

    name: str
    text: str
    adaptive: bool = False  # not by naming it: near a crossover


@dataclass(frozen=True)
class Attempt:
    """One try at a unit (a cell and the index of its session) on one device."""

    cell: Cell
    session: int
    number: int  # from 0
    run_id: str
    profile: DeviceProfile
    facts: DeviceFacts  # as the cell will have them
    found: DeviceFacts  # as they were before any condition was set
    model: "ModelInfo"
    prediction: Prediction | None  # None where nobody can predict it
    rules: Rules
    origin: Origin
    extra_buffers: bool = True

    def again(self) -> "Attempt":
        """The next try at the same unit."""
        return replace(self, number=self.number + 1, run_id=new_run_id(self.cell, self.session))


@dataclass(frozen=True)
class Moment:
    """A time of the host's clock, and how long ago it is by a clock that nobody sets."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    monotonic_s: float = field(default_factory=time.monotonic)

    def elapsed_s(self) -> float:
        """Seconds since."""
        return time.monotonic() - self.monotonic_s


@dataclass(frozen=True)
class Evidence:
    """What an attempt has found out so far; what it did not come to is as it is here."""

    started: Moment = field(default_factory=Moment)
    job: Job | None = None
    runner_sha256: str | None = None
    discovery: Discovery = field(default_factory=Discovery)
    facts: DeviceFacts | None = None  # as they were under the conditions
    start_temp_c: float | None = None
    cooldown_s: float | None = None
    clock: ClockReading | None = None
    idle_t_ns: tuple[int, int] | None = None  # the idle baseline's window, device clock
    said: Transcript = field(default_factory=Transcript)
    error: RunFailure | None = None
    flags: tuple[Flag, ...] = ()
    warnings: tuple[str, ...] = ()

    def doubted(self, *flags: Flag | None) -> "Evidence":
        """With more flags."""
        return replace(self, flags=(*self.flags, *(f for f in flags if f is not None)))

    def warned(self, *warnings: str) -> "Evidence":
        """With more warnings; empty ones are none."""
        return replace(self, warnings=(*self.warnings, *(w for w in warnings if w)))


def new_run_id(cell: Cell, session: int) -> str:
    """A name for a run's folder: when, what, and a word that no other has."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return f"{now}-{cell.id}-s{session:02d}-{uuid.uuid4().hex[:4]}"
