"""What melt asks of a device: the Driver, Process and Recording protocols and their nouns.

A driver need not have a shell (an iPhone has none). What is shell-only lives in the shell drivers.
Every method raises ``DeviceError`` where the device refuses, and ``TransientDeviceError`` where the
same call may go through later.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from melt.spec.check import Check
from melt.spec.facts import ClockReading, DeviceFacts
from melt.telemetry.source import Absent, Discovery, Probe

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class ExitStatus:
    """How a process ended: an exit code, or the signal that ended it."""

    code: int | None
    signal: str | None = None  # "SIGSEGV"

    @property
    def ok(self) -> bool:
        """True for exit code 0."""
        return self.code == 0

    def __str__(self) -> str:
        return f"signal {self.signal}" if self.signal else f"exit code {self.code}"


@dataclass(frozen=True)
class DeviceFile:
    """A host file that a run needs on the device, known by its content."""

    name: str
    path: Path
    sha256: str
    size_bytes: int
    content: bytes | None = field(default=None, repr=False)  # of what melt makes, and writes there when it is sent
    whole_sha256: str = ""  # of what it is a part of; all parts lie in one folder, under their names

    @property
    def folder(self) -> str:
        """The folder on the device that it lies in: its own, or that of the whole."""
        return self.whole_sha256 or self.sha256


@dataclass(frozen=True)
class PlacedFile:
    """Where a pushed file is on the device, and whether it had to travel."""

    device_path: str
    pushed: bool


class Process(Protocol):
    """A program running on the device."""

    pid: int | None

    def next_line(self, timeout_s: float) -> str | None:
        """The next line of stdout, None at its end; raises TimeoutError when none comes in time."""
        ...

    def wait(self, timeout_s: float) -> ExitStatus:
        """How it ended; raises TimeoutError."""
        ...

    def stderr(self) -> str:
        """The last part of what it wrote to stderr."""
        ...

    def end_of_input(self) -> None:
        """Closes its stdin, which a program of ours takes as the end of its host."""
        ...

    def kill(self) -> None:
        """Ends it and all it started; safe to call when it has already ended."""
        ...


@dataclass(frozen=True)
class ToRecord:
    """What to record of a run.

    What is written on the device has the run's id in its name, as has a job: two computers never read each other's.
    What the probes named in ``tell`` say also comes here meanwhile, every few seconds.
    """

    run_id: str
    probes: Sequence[Probe] = ()
    period_ms: int = 100  # of the sampler's own: each probe has one
    sampler: Sequence[str] = ()  # what starts it there
    tell: Collection[str] = ()


class Recording(Protocol):
    """Telemetry being recorded on the device by itself; the host does not poll."""

    def follow(self, pid: int) -> None:
        """From now on also read the probes that name a process."""
        ...

    def heard(self) -> Sequence[str]:
        """The lines of the probes that were to tell, that have come since this was asked last."""
        ...

    def stop(self, destination: Path) -> str:
        """Ends the recording and brings the raw lines to a file on the host, as many as there are.

        Returns:
            What went wrong with it, in words; empty where nothing did.
        """
        ...


class Driver(Protocol):
    """One connected device."""

    def facts(self) -> DeviceFacts:
        """What the device says of itself; read once per connection."""
        ...

    def checks(self) -> Sequence[Check]:
        """What would keep it from being measured, or spoil that, beyond its facts and sensors; nothing is set."""
        ...

    def discover(self) -> Discovery:
        """The telemetry that this device can give, and what it cannot, with reasons."""
        ...

    def free_bytes(self) -> int:
        """Room left for files on the device."""
        ...

    def push(self, file: DeviceFile, progress: Progress | None = None) -> PlacedFile:
        """Puts a file on the device unless its content is already there."""
        ...

    def clean(self, limit_bytes: int = 0) -> int:
        """Removes what was pushed, used longest ago first, until no more than the limit is left; the bytes removed."""
        ...

    def launch(self, argv: Sequence[str], job: Mapping[str, Any], env: Mapping[str, str] | None = None) -> Process:
        """Starts a runner with a job, which is written there under its ``job_id`` and given as the last argument."""
        ...

    def read(self, probes: Sequence[Probe]) -> Mapping[str, str]:
        """Raw text of each probe, read once, outside any run; what cannot be read is left out."""
        ...

    def record(self, asked: ToRecord) -> Recording:
        """Starts recording on the device, by the sampler's program there where it needs one."""
        ...

    def clock(self) -> ClockReading:
        """One reading of the device's clock."""
        ...

    def unknown_conditions(self, wanted: Mapping[str, str]) -> tuple[Absent, ...]:
        """Which conditions, or values of them, this device does not have, with those that it has; nothing is set."""
        ...

    def condition(self, wanted: Mapping[str, str]) -> tuple[Absent, ...]:
        """Sets the conditions a profile asks for, keeping what was found first; returns what was refused.

        Asked again it sets only what no longer holds, so that nothing moves shortly before a run.
        """
        ...

    def held(self) -> Mapping[str, str]:
        """What holds now of ``melt.spec.facts.STATE``, by name; what the device does not tell is left
        out."""
        ...

    def death_notes(self, pid: int | None) -> str:
        """What the system's own log says of a process that died: out-of-memory kills and the like."""
        ...

    def close(self) -> None:
        """Ends what it started, puts the conditions back and lets the device go.

        Raises:
            DeviceError: a condition could not be put back.
        """
        ...


@runtime_checkable
class ShellDriver(Driver, Protocol):
    """A device that also gives a shell."""

    @property
    def work_folder(self) -> str:
        """The folder on the device that is melt's."""
        ...

    def shell(self, script: str) -> Process:
        """Starts a POSIX shell with this script, in no particular folder."""
        ...

    def pull(self, device_path: str, destination: Path) -> None:
        """Brings a file to the host, whole or not at all; raises OSError where the host cannot write it."""
        ...
