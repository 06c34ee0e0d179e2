"""What a backend gives: from a cell, a model and a device to the files, the program and the job."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from melt.drivers.base import DeviceFile, Progress
from melt.errors import RunnerError
from melt.spec.cell import AXES, Cell
from melt.spec.check import Check
from melt.spec.facts import DeviceFacts
from melt.spec.job import Job
from melt.spec.options import Option

if TYPE_CHECKING:
    from melt.models.info import ModelInfo

# Told what is being built; gives, for that time, a callback for steps done and steps in all.
Building = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class Bundle:
    """What goes to a device for one run.

    ``argv`` and ``sampler`` name files by their keys in ``files``; each attempt puts their places on the device
    instead. So does it with the job's ``model``; the other files of a model of several are keyed ``model/NAME``.
    A driver whose device samples by itself has no use for ``sampler``.
    """

    files: Mapping[str, DeviceFile]
    argv: tuple[str, ...]
    job: Job
    sampler: tuple[str, ...] = ()  # the program that records telemetry; its spec's path comes last
    env: Mapping[str, str] = field(default_factory=dict)  # for the runner
    # Of a program that does not speak protocol 1: what a line of its stdout means, as lines of the protocol.
    translate: Callable[[str], Sequence[str]] | None = None

    @property
    def programs(self) -> dict[str, DeviceFile]:
        """The files that are no part of the model."""
        return {key: file for key, file in self.files.items() if key.split("/")[0] != self.job.model}

    @property
    def runner_sha256(self) -> str | None:
        """The program's content, where the bundle brings it along; of several files, the hash of their hashes."""
        hashes = sorted({self.programs[a].sha256 for a in self.argv if a in self.programs})
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest() if len(hashes) > 1 else next(iter(hashes), None)


class Backend(ABC):
    """One engine, as the host sees it; what its entry point of the group ``melt.backends`` names, without arguments."""

    name: str
    options: Sequence[Option] = ()  # settings that it alone has
    # Of the axes that not every engine has, the fields of those that its engine has; a cell that sets another is
    # refused, with the reason.
    engine_axes: Collection[str] = ()
    why_fixed: str = "its engine has no such setting"
    # Its programs obey ``Job.extra_buffers``, so that a run that crashed may go without.
    has_extra_buffers: bool = False

    def checks(self) -> Sequence[Check]:
        """What it finds of the machine that melt itself runs on, for ``melt doctor``."""
        return ()

    def check_axes(self, cell: Cell) -> None:
        """Raises ``RunnerError`` where the cell sets an axis that not every engine has, and this one has not."""
        for name, axis in AXES.items():
            value = getattr(cell, name)
            if axis.of_some_engines and value != axis.default and name not in self.engine_axes:
                said = f"{self.name}: {axis.key} {axis.text(value)} cannot be set: {self.why_fixed}"
                raise RunnerError(said, f"Leave {axis.key} out.")

    @abstractmethod
    def check_cell(self, cell: Cell) -> None:
        """Raises ``RunnerError`` where no device could run the cell: it asks for what this backend does not have."""

    @abstractmethod
    def check(self, facts: DeviceFacts) -> None:
        """Raises ``RunnerError`` where the device cannot run this engine, saying how it could."""

    @abstractmethod
    def decide(self, cell: Cell, facts: DeviceFacts) -> Cell:
        """The cell with what it left to choose decided for this device, so that one setting is one cell.

        Nothing is made: a dry run decides as a run does.

        Raises:
            RunnerError: the device lacks what this cell asks for.
        """

    def to_build(self, cell: Cell, facts: DeviceFacts) -> str | None:
        """What ``prepare`` would make of a decided cell, in words; None where all is there.

        Raises:
            RunnerError: it could not be made.
        """
        return None

    def prepare(self, cell: Cell, facts: DeviceFacts, building: Building) -> None:
        """Makes on the host what a run of a decided cell needs and is not there yet, a runner for one.

        Raises:
            RunnerError: it cannot be made.
        """
        return

    @abstractmethod
    def bundle(self, cell: Cell, model: "ModelInfo", facts: DeviceFacts, job_id: str) -> Bundle:
        """What a run of a decided cell needs; nothing is made where ``to_build`` names nothing."""
