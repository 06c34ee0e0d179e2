"""ONNX Runtime: by the Python runner, with model folders; CPU, GPU and NPU by its execution providers."""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from melt.backends.base import Backend, Bundle
from melt.backends.cores import cpu_mask
from melt.backends.job import check_format, job_for
from melt.drivers.base import DeviceFile
from melt.drivers.runner import runner_file
from melt.errors import RunnerError
from melt.models.onnx.config import CONFIG
from melt.models.onnx.npu import check_for_npu
from melt.models.refs import parse_ref, peek
from melt.spec.cell import Cell
from melt.spec.facts import DeviceFacts
from melt.util.files import cache_folder

if TYPE_CHECKING:
    from melt.models.info import ModelInfo

# Where compiled graphs are kept (the runner's own name for it).
_COMPILED = "MELT_COMPILED"


class OnnxRuntime(Backend):
    """See ``melt.backends.base.Backend``."""

    name = "onnxruntime"
    why_fixed = "it is fixed in the ONNX graph, as `melt models show` tells, or ONNX Runtime has no such setting"
    has_extra_buffers = True  # matrices packed anew for its products

    def check_cell(self, cell: Cell) -> None:
        """Raises RunnerError where the model is no ONNX folder, or one that the accelerator cannot take."""
        check_format(cell, "onnx", self.name)
        if cell.runner not in ("auto", "python"):
            raise RunnerError(f"runner {cell.runner!r}: {self.name} has the Python runner only", "Leave --runner out.")
        if cell.accelerator == "npu" and not cell.cpu_fallback:
            _check_graph(cell)
        _check_room(cell)

    def check(self, facts: DeviceFacts) -> None:
        """Raises RunnerError where the device has no Python with ONNX Runtime."""
        if facts.python is None or self.name not in facts.engines:
            raise RunnerError(
                f"{self.name}: this device has no Python with ONNX Runtime",
                "pip install 'melt-bench[local]'"
                if facts.is_host
                else "There, into its python3: pip install onnxruntime (onnxruntime-gpu for CUDA).",
            )

    def decide(self, cell: Cell, facts: DeviceFacts) -> Cell:
        """The cell with its runner, once the device is known to have what it takes."""
        self.check(facts)
        _check_npu(cell, facts)
        cpu_mask(cell.cores, facts)
        return cell.model_copy(update={"runner": "python"})

    def bundle(self, cell: Cell, model: "ModelInfo", facts: DeviceFacts, job_id: str) -> Bundle:
        """The runner, the job, and the model's folder file by file: each is known on the device by its content."""
        python, job = facts.python or "", job_for(cell, facts, job_id, self.name)
        folder = Path(model.path)
        files = {"runner": runner_file()}
        arguments: list[str] = []
        for file in model.files:
            key = job.model if file.name == CONFIG else f"{job.model}/{file.name}"
            name = PurePosixPath(file.name).name
            files[key] = DeviceFile(name, folder / file.name, file.sha256, file.size_bytes)
            # "./" so that no file's name is taken for a key of this bundle.
            arguments += [] if key == job.model else ["--beside", f"./{file.name}", key]
        env = {_COMPILED: str(cache_folder() / "compiled")} if facts.is_host else {}
        return Bundle(files, (python, "runner", "run", *arguments), job, (python, "runner", "sample"), env)


def _check_room(cell: Cell) -> None:
    """Raises RunnerError where a graph whose cache has one length has no room for the cell."""
    model = peek(cell.model)
    tokens = cell.prompt_tokens + cell.gen_tokens
    if model is not None and 0 < model.cache_tokens < tokens:
        raise RunnerError(
            f"{cell.model}: {tokens} tokens, and the graph's cache has room for {model.cache_tokens}",
            "Ask for fewer tokens of context or generation, or take a model made for more.",
        )


def _check_graph(cell: Cell) -> None:
    """Raises ModelError where no NPU can take the cell's graph."""
    folder = parse_ref(cell.model).onnx_folder()
    if folder is not None:
        check_for_npu(folder, cell.model)


def _check_npu(cell: Cell, facts: DeviceFacts) -> None:
    """Raises RunnerError where a Linux machine's Python has no package with a provider for NPUs.

    The runner tells such packages beside its engines, by names that begin with ONNX Runtime's.
    """
    has_provider = any(name.startswith(f"{OnnxRuntime.name}-") for name in facts.engines)
    if cell.accelerator == "npu" and facts.platform == "linux" and not has_provider:
        raise RunnerError(
            f"{cell.device}: its Python has no execution provider for an NPU",
            "For Qualcomm's: pip install 'melt-bench[npu-qnn]'"
            if facts.is_host
            else "For Qualcomm's, there: pip install onnxruntime-qnn",
        )
