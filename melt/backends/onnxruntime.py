"""ONNX Runtime: by the Python runner, with model folders; CPU, GPU and NPU by its execution providers."""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from melt.backends.base import Building, Bundle
from melt.backends.cores import cpu_mask
from melt.backends.workload import check_format, job_for
from melt.drivers.base import DeviceFile
from melt.drivers.runner import runner_file
from melt.errors import RunnerError
from melt.facts import DeviceFacts
from melt.models.onnx_config import CONFIG
from melt.plan import Cell

if TYPE_CHECKING:
    from melt.models.info import ModelInfo

_FIXED = {"flash_attn": "auto", "type_k": "f16", "type_v": "f16"}  # the plan's defaults


class OnnxRuntime:
    """See ``melt.backends.base.Backend``."""

    name = "onnxruntime"
    has_extra_buffers = True  # matrices packed anew for its products

    def check_cell(self, cell: Cell) -> None:
        """Raises RunnerError where the model is no ONNX folder, or the cell would change what its graph has fixed."""
        check_format(cell, "onnx", self.name)
        if cell.runner not in ("auto", "python"):
            raise RunnerError(f"runner {cell.runner!r}: {self.name} has python alone", "Leave --runner out.")
        for field, default in _FIXED.items():
            if getattr(cell, field) != default:
                raise RunnerError(
                    f"{self.name}: {field} {getattr(cell, field)} cannot be set: an ONNX graph has it in itself",
                    f"Leave {field} out; `melt models show` tells the cache's type.",
                )

    def check(self, facts: DeviceFacts) -> None:
        """Raises RunnerError where the device has no Python with ONNX Runtime."""
        if facts.python is None or self.name not in facts.engines:
            raise RunnerError(
                f"{self.name}: this device has no Python with ONNX Runtime",
                "There: pip install onnxruntime (onnxruntime-gpu for CUDA). On this machine: "
                "pip install 'melt-bench[local]'.",
            )

    def to_build(self, cell: Cell, facts: DeviceFacts) -> str | None:
        """Nothing is ever built."""
        return None

    def prepare(self, cell: Cell, facts: DeviceFacts, building: Building) -> Cell:
        """The cell with its runner, once the device is known to have what it takes."""
        self.check(facts)
        cpu_mask(cell.cores, facts)
        return cell.model_copy(update={"runner": "python"})

    def bundle(self, cell: Cell, model: "ModelInfo", facts: DeviceFacts, job_id: str) -> Bundle:
        """The runner, the job, and the model's folder file by file: each is known on the device by its content."""
        python, job = facts.python or "", job_for(cell, facts, job_id, self.name)
        folder = Path(model.path)
        files = {"runner": runner_file()}
        words: list[str] = []
        for file in model.files:
            key = job.model if file.name == CONFIG else f"{job.model}/{file.name}"
            name = PurePosixPath(file.name).name
            files[key] = DeviceFile(name, folder / file.name, file.sha256, file.size_bytes)
            # "./" so that no file's name is taken for a key of this bundle.
            words += [] if key == job.model else ["--beside", f"./{file.name}", key]
        return Bundle(files, (python, "runner", "run", *words), job, (python, "runner", "sample"))
