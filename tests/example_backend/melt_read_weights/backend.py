"""What melt has to know of the engine (``melt.backends.base.Backend``); ``program.py`` is what runs on the device."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from melt.backends.base import Backend, Bundle
from melt.backends.job import check_format, job_for, model_file
from melt.drivers.runner import program_file, runner_file
from melt.errors import RunnerError
from melt.models.info import ModelInfo
from melt.spec.cell import Cell
from melt.spec.facts import DeviceFacts
from melt.spec.options import Option, option_values

BLOCK_KIB = Option("block_kib", Annotated[int, Field(ge=1, le=65536)], 256, "how much is read at a time, KiB")


class ReadWeights(Backend):
    """One engine, as the host sees it."""

    name = "read-weights"
    options = (BLOCK_KIB,)
    why_fixed = "nothing is computed"

    def check_cell(self, cell: Cell) -> None:
        """Before any device is touched."""
        check_format(cell, "gguf", self.name)
        if cell.accelerator != "cpu":
            raise RunnerError(f"{self.name} reads memory with the CPU, not the {cell.accelerator}", "--accelerator cpu")

    def check(self, facts: DeviceFacts) -> None:
        """Whether the device can run it."""
        if facts.python is None:
            raise RunnerError(f"{self.name}: this device has no Python", "Install one there.")

    def decide(self, cell: Cell, facts: DeviceFacts) -> Cell:
        """The cell with nothing left to choose."""
        self.check(facts)
        return cell.model_copy(update={"runner": "python"})

    def bundle(self, cell: Cell, model: ModelInfo, facts: DeviceFacts, job_id: str) -> Bundle:
        """The files, what starts the program, the job, and what records telemetry beside it."""
        program, python = Path(__file__).with_name("program.py"), facts.python or ""
        files = {"program": program_file(program), "model": model_file(model), "sampler": runner_file()}
        block_kib = option_values(self.options, cell.options)[BLOCK_KIB.name]
        job = job_for(cell, facts, job_id, self.name)
        return Bundle(files, (python, "program", str(block_kib)), job, (python, "sampler", "sample"))
