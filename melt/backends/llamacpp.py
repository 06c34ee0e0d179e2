"""llama.cpp: by the Python runner where the device has llama-cpp-python, else by the native runner, which is brought
unless the device has one installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from melt.backends.base import Backend, Building, Bundle
from melt.backends.cores import cpu_mask
from melt.backends.job import check_format, job_for, model_files, vendor_libraries
from melt.backends.llamacpp_checks import host_checks
from melt.drivers.base import Progress
from melt.drivers.runner import program_file, runner_file
from melt.errors import MeltError, RunnerError
from melt.spec.cell import AXES, OWN_RUNNERS, Cell
from melt.spec.check import Check
from melt.spec.facts import DeviceFacts
from melt.toolchain.build import build, built
from melt.toolchain.on_device import WITH_GPU, built_on_device
from melt.toolchain.targets import ON_DEVICE, Target, has_target, phone_gpu_target, target_for

if TYPE_CHECKING:
    from melt.models.info import ModelInfo

_NO_PYTHON = "llama.cpp: llama-cpp-python is not installed on this device"


class LlamaCpp(Backend):
    """See ``melt.backends.base.Backend``."""

    name = "llama.cpp"
    engine_axes = tuple(AXES)
    has_extra_buffers = True

    def __init__(self) -> None:
        # By device and accelerator: one plan is measured with one program throughout.
        self._programs: dict[tuple[str, str], Path] = {}

    def checks(self) -> tuple[Check, ...]:
        """Whether each of its runners can be had on this machine."""
        return host_checks()

    def check(self, facts: DeviceFacts) -> None:
        """Raises RunnerError where neither runner can be had on the device."""
        if self._has_python(facts) or facts.installed_runner or built_on_device(facts, ("none", *WITH_GPU)):
            return
        try:
            target_for(facts)
        except MeltError as e:
            raise RunnerError(f"{_NO_PYTHON}, and {e.message}", e.hint) from e

    def check_cell(self, cell: Cell) -> None:
        """Raises RunnerError where the model is no GGUF file, or the runner none of this backend's."""
        check_format(cell, "gguf", self.name)
        if cell.runner not in OWN_RUNNERS:
            raise RunnerError(
                f"runner {cell.runner!r}: {self.name} has {', '.join(OWN_RUNNERS)}",
                "A program that `melt runner add` took needs --backend llamabench.",
            )

    def decide(self, cell: Cell, facts: DeviceFacts) -> Cell:
        """The cell with its runner: Python's where the device has llama-cpp-python, else the native one."""
        cpu_mask(cell.cores, facts)
        flavour = self._flavour(cell, facts)
        if flavour == "python" and not self._has_python(facts):
            raise RunnerError(_NO_PYTHON, f"{_install(facts)}Take the native runner: --runner native")
        if self._brings_program(flavour, facts) and not self._own_build(cell, facts):
            with self._native_alone(facts):
                self._target(cell, facts)
        return cell.model_copy(update={"runner": flavour})

    def to_build(self, cell: Cell, facts: DeviceFacts) -> str | None:
        """The native runner, where the cell takes it and it is not there yet."""
        if not self._brings_program(self._flavour(cell, facts), facts) or self._own_build(cell, facts):
            return None
        with self._native_alone(facts):
            target = self._target(cell, facts)
            return None if built(target).exists() else f"the native runner for {target.name}"

    def prepare(self, cell: Cell, facts: DeviceFacts, building: Building) -> None:
        """Builds the native runner where the cell takes it and it is not there yet."""
        if self._brings_program(self._flavour(cell, facts), facts):
            with self._native_alone(facts):
                self._programs[_place(cell)] = self._program(cell, facts, building)

    def bundle(self, cell: Cell, model: "ModelInfo", facts: DeviceFacts, job_id: str) -> Bundle:
        """The runner, the model and the job."""
        job = job_for(cell, facts, job_id, self.name)
        weights = model_files(model)
        if self._flavour(cell, facts) == "native" and facts.installed_runner:
            return Bundle(weights, (facts.installed_runner, "run"), job)
        if self._flavour(cell, facts) == "native":
            program = self._programs.get(_place(cell)) or self._program(cell, facts, _silently)
            files = {"runner": program_file(program), **weights}
            env = vendor_libraries(cell, facts)
            return Bundle(files, ("runner", "run"), job, ("runner", "sample"), env)
        python = facts.python or ""
        files = {"runner": runner_file(), **weights}
        return Bundle(files, (python, "runner", "run"), job, (python, "runner", "sample"))

    @contextmanager
    def _native_alone(self, facts: DeviceFacts) -> Iterator[None]:
        """For what fails where the native runner is the only one: on this machine the other could be installed."""
        try:
            yield
        except RunnerError as e:
            if not facts.is_host or self._has_python(facts):
                raise
            raise RunnerError(
                f"{_NO_PYTHON}, and the native runner cannot be built: {e.message}", f"{_install(facts)}{e.hint}"
            ) from e

    def _brings_program(self, flavour: str, facts: DeviceFacts) -> bool:
        """Whether a program of melt's goes to the device: not to one that has it installed."""
        return flavour == "native" and not facts.installed_runner

    def _program(self, cell: Cell, facts: DeviceFacts, building: Building) -> Path:
        own = self._own_build(cell, facts)
        if own is not None:
            return own
        target = self._target(cell, facts)
        with building(target.name) as progress:
            return build(target, progress)

    def _target(self, cell: Cell, facts: DeviceFacts) -> Target:
        if cell.accelerator == "gpu" and _is_phone(facts):
            return phone_gpu_target(facts)
        target = target_for(facts)
        if cell.accelerator != "cpu" and target.compiler == "zig":
            hint = f"For its GPU: melt runner build {ON_DEVICE} --device {cell.device}"
            raise RunnerError(
                f"{cell.device}: the runner that melt builds for it is for the CPU, not the {cell.accelerator.upper()}",
                hint if cell.accelerator == "gpu" else "llama.cpp runs on no NPU here yet: --backend onnxruntime",
            )
        return target

    def _own_build(self, cell: Cell, facts: DeviceFacts) -> Path | None:
        """What such a device built for its GPU, or where melt has no target for it; never built unasked, as that may
        take the device an hour."""
        if cell.accelerator == "gpu":
            return built_on_device(facts, WITH_GPU)
        return None if cell.accelerator == "npu" or has_target(facts) else built_on_device(facts, ("none",))

    def _has_python(self, facts: DeviceFacts) -> bool:
        return facts.python is not None and self.name in facts.engines

    def _flavour(self, cell: Cell, facts: DeviceFacts) -> Literal["python", "native"]:
        if cell.runner != "auto":
            return "python" if cell.runner == "python" else "native"
        return "python" if self._has_python(facts) and not self._own_build(cell, facts) else "native"


def _is_phone(facts: DeviceFacts) -> bool:
    return facts.platform == "android"


def _place(cell: Cell) -> tuple[str, str]:
    return cell.device, cell.accelerator


@contextmanager
def _silently(_what: str) -> Iterator[Progress]:
    yield lambda done, total: None


def _install(facts: DeviceFacts) -> str:
    """How the device gets llama-cpp-python, before another way is told; nothing of one that has no Python."""
    if facts.is_host:
        return "pip install 'melt-bench[local]' (it compiles for some minutes). Or: "
    there = "There, into its python3: pip install llama-cpp-python (it compiles for some minutes). Or: "
    return there if facts.platform == "linux" else ""
