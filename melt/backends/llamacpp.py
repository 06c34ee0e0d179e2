"""llama.cpp: by the Python runner where the device has Python and llama-cpp-python."""

from pathlib import Path
from typing import TYPE_CHECKING

from melt.backends.base import Bundle
from melt.drivers.base import DeviceFile
from melt.drivers.runner import runner_file
from melt.errors import RunnerError
from melt.facts import DeviceFacts
from melt.job import Job, Workload
from melt.plan import Cell

if TYPE_CHECKING:
    from melt.models.info import ModelInfo


class LlamaCpp:
    """See ``melt.backends.base.Backend``."""

    name = "llama.cpp"

    def check(self, facts: DeviceFacts) -> None:
        """Raises RunnerError where the device has no Python with llama-cpp-python."""
        if facts.python is None or self.name not in facts.engines:
            raise RunnerError(
                "llama.cpp: llama-cpp-python is not installed on this device",
                "On the machine at hand: pip install 'melt-bench[local]' (it compiles for some minutes).",
            )

    def bundle(self, cell: Cell, model: "ModelInfo", facts: DeviceFacts, job_id: str) -> Bundle:
        """The runner, the model and the job; threads default to the physical cores."""
        self.check(facts)
        job = Job(
            job_id=job_id,
            engine=self.name,
            model="model",
            accelerator=cell.accelerator,
            threads=cell.threads or facts.physical_cores or facts.logical_cores or 1,
            batch=cell.batch,
            ubatch=cell.ubatch,
            flash_attn=cell.flash_attn,
            type_k=cell.type_k,
            type_v=cell.type_v,
            warmups=cell.warmups,
            iterations=cell.iterations,
            workload=Workload(
                kind=cell.workload,
                prompt_tokens=cell.prompt_tokens,
                gen_tokens=cell.gen_tokens,
                seed=cell.seed,
                seconds=cell.sustained_s if cell.workload == "sustained" else None,
            ),
        )
        path = Path(model.path)
        weights = DeviceFile(path.name, path, model.sha256, model.file_bytes)
        argv = (facts.python or "", "runner", "run")
        return Bundle({"runner": runner_file(), "model": weights}, argv, job)
