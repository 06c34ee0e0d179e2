"""llama.cpp: by the Python runner where the device has llama-cpp-python, else by the native runner."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from melt.backends.base import Building, Bundle
from melt.drivers.base import DeviceFile
from melt.drivers.runner import program_file, runner_file
from melt.errors import MeltError, RunnerError
from melt.facts import DeviceFacts
from melt.job import Job, Workload
from melt.plan import Cell
from melt.toolchain.build import build, built
from melt.toolchain.on_device import built_on_device
from melt.toolchain.targets import target_for

if TYPE_CHECKING:
    from melt.models.info import ModelInfo

_NO_PYTHON = "llama.cpp: llama-cpp-python is not installed on this device"
_INSTALL = "On the machine at hand: pip install 'melt-bench[local]' (it compiles for some minutes)."


class LlamaCpp:
    """See ``melt.backends.base.Backend``."""

    name = "llama.cpp"

    def __init__(self) -> None:
        self._built: dict[str, Path] = {}  # by target: one plan is measured with one program throughout

    def check(self, facts: DeviceFacts) -> None:
        """Raises RunnerError where neither runner can be had on the device."""
        if self._has_python(facts):
            return
        try:
            target_for(facts)
        except MeltError as e:
            raise RunnerError(f"{_NO_PYTHON}, and {e.message}", e.hint) from e

    def to_build(self, cell: Cell, facts: DeviceFacts) -> str | None:
        """The native runner, where the cell takes it and it is not there yet."""
        if self._flavour(cell, facts) == "python" or self._gpu_build(cell, facts):
            return None
        try:
            target = target_for(facts)
            return None if built(target).exists() else f"the native runner for {target.name}, some minutes, once"
        except MeltError:
            return None  # prepare tells it as the error it is

    def prepare(self, cell: Cell, facts: DeviceFacts, building: Building) -> Cell:
        """Builds the native runner where the cell takes it and it is not there yet; the cell with its runner."""
        flavour = self._flavour(cell, facts)
        decided = cell.model_copy(update={"runner": flavour})
        if flavour == "python":
            if not self._has_python(facts):
                raise RunnerError(_NO_PYTHON, f"{_INSTALL} Or take the native runner: --runner native")
            return decided
        if self._gpu_build(cell, facts):
            return decided
        target = target_for(facts)
        if cell.accelerator != "cpu" and target.compiler == "zig":
            raise RunnerError(
                f"{cell.device}: its {cell.accelerator.upper()} needs a runner that was built on it, and there is none",
                f"melt runner build on-device --device {cell.device}",
            )
        try:
            with building(target.name) as progress:
                self._built[target.name] = build(target, progress)
        except RunnerError as e:
            if not facts.is_host or cell.runner == "native":
                raise
            raise RunnerError(
                f"{_NO_PYTHON}, and the native runner cannot be built: {e.message}", f"{_INSTALL} Or: {e.hint}"
            ) from e
        return decided

    def bundle(self, cell: Cell, model: "ModelInfo", facts: DeviceFacts, job_id: str) -> Bundle:
        """The runner, the model and the job; threads default to the physical cores."""
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
        if self._flavour(cell, facts) == "native":
            program = self._gpu_build(cell, facts) or self._cpu_build(facts)
            return Bundle({"runner": program_file(program), "model": weights}, ("runner", "run"), job)
        return Bundle({"runner": runner_file(), "model": weights}, (facts.python or "", "runner", "run"), job)

    def _cpu_build(self, facts: DeviceFacts) -> Path:
        target = target_for(facts)
        return self._built.get(target.name) or build(target)

    def _gpu_build(self, cell: Cell, facts: DeviceFacts) -> Path | None:
        """What was built on such a device; it is never built unasked, as that may take the device an hour."""
        return None if cell.accelerator == "cpu" else built_on_device(facts)

    def _has_python(self, facts: DeviceFacts) -> bool:
        return facts.python is not None and self.name in facts.engines

    def _flavour(self, cell: Cell, facts: DeviceFacts) -> Literal["python", "native"]:
        if cell.runner != "auto":
            return cell.runner
        return "python" if self._has_python(facts) and not self._gpu_build(cell, facts) else "native"
