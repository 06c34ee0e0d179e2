"""A stock llama-bench of a llama.cpp release archive: its own timings in melt's results, and no more than those.

The archive is one that ``melt runner add`` took: with it a phone's GPU or NPU is measured without an NDK.
"""

import hashlib
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from melt.backends.base import Backend, Building, Bundle
from melt.backends.cores import cpu_mask
from melt.backends.job import check_format, job_for, model_files, vendor_libraries
from melt.backends.llama_bench_rows import ALL_LAYERS, LlamaBenchOutput
from melt.drivers.base import DeviceFile
from melt.drivers.runner import program_file, runner_file
from melt.errors import RunnerError
from melt.spec.cell import Cell
from melt.spec.facts import DeviceFacts
from melt.spec.job import Job
from melt.toolchain.archives import Program, find_program, programs
from melt.toolchain.build import build, built
from melt.toolchain.targets import target_for

if TYPE_CHECKING:
    from melt.models.info import ModelInfo

_ADD = "Add llama.cpp's release archive for such a device: melt runner add ARCHIVE"
_FLASH_ATTENTION = {"on": "1", "off": "0"}  # auto is what it does unasked, and older ones know no such word
# llama.cpp's names of a phone's devices, where a build has several.
_DEVICES = {"gpu": ("libggml-opencl.so", "GPUOpenCL"), "npu": ("libggml-hexagon.so", "HTP0")}


class LlamaBench(Backend):
    """See ``melt.backends.base.Backend``."""

    name = "llamabench"
    engine_axes = ("flash_attn", "type_k", "type_v")

    def check_cell(self, cell: Cell) -> None:
        """Raises RunnerError where the model is no GGUF file, the program was not added, or the workload is another."""
        check_format(cell, "gguf", self.name)
        if cell.workload != "fixed":
            raise RunnerError(f"{self.name}: llama-bench has no {cell.workload} workload", "Take `workload: fixed`.")
        if cell.warmups > 1:
            raise RunnerError(
                f"{self.name}: llama-bench makes one warm-up or none, not {cell.warmups}", "Give --warmups 1 or 0."
            )
        if cell.runner != "auto":
            find_program(cell.runner)

    def check(self, facts: DeviceFacts) -> None:
        """Raises RunnerError where no program that was added fits the device."""
        _fitting(facts)

    def decide(self, cell: Cell, facts: DeviceFacts) -> Cell:
        """The cell with its program."""
        cpu_mask(cell.cores, facts)
        program = _program(cell, facts)
        if facts.python is None:
            target_for(facts)  # of the runner that samples beside it
        return cell.model_copy(update={"runner": program.name})

    def to_build(self, cell: Cell, facts: DeviceFacts) -> str | None:
        """The native runner, which samples beside llama-bench on a device without Python."""
        if facts.python is not None:
            return None
        target = target_for(facts)
        return None if built(target).exists() else f"the native runner for {target.name}, which takes the telemetry"

    def prepare(self, cell: Cell, facts: DeviceFacts, building: Building) -> None:
        """Builds what samples beside the program, where that is not there yet."""
        if facts.python is None:
            target = target_for(facts)
            with building(target.name) as progress:
                build(target, progress)

    def bundle(self, cell: Cell, model: "ModelInfo", facts: DeviceFacts, job_id: str) -> Bundle:
        """The program with its libraries, the script that starts it, the model, and a sampler."""
        program = _program(cell, facts)
        job = job_for(cell, facts, job_id, self.name)
        names = {**{f: f for f in program.files}, **program.links}
        arguments = _arguments(cell, job, program)
        counts = (cell.prompt_tokens, cell.gen_tokens, len(names), len(arguments))
        placed = [word for name in sorted(names) for word in (name, f"file:{names[name]}")]
        brought = {f"file:{name}": _file(program, name) for name in program.files}
        sampling, sampler = _sampler(facts)
        return Bundle(
            files={"script": _script(), **model_files(model), "sampler": sampling, **brought},
            argv=("sh", "script", *map(str, counts), *placed, *arguments),
            job=job,
            sampler=sampler,
            env=vendor_libraries(cell, facts),
            translate=LlamaBenchOutput(cell),
        )


def _arguments(cell: Cell, job: Job, program: Program) -> list[str]:
    """llama-bench's own, but for the test."""
    arguments = ["-m", "model", "-o", "jsonl", "-r", str(cell.iterations), "-t", str(job.threads)]
    arguments += ["-b", str(cell.batch), "-ub", str(cell.ubatch), "-ctk", cell.type_k, "-ctv", cell.type_v]
    arguments += ["-ngl", "0" if cell.accelerator == "cpu" else str(ALL_LAYERS)]
    arguments += ["-fa", _FLASH_ATTENTION[cell.flash_attn]] if cell.flash_attn in _FLASH_ATTENTION else []
    arguments += ["-C", f"{job.cpu_mask:#x}", "--cpu-strict", "1"] if job.cpu_mask else []
    arguments += [] if cell.warmups else ["--no-warmup"]
    library, device = _DEVICES.get(cell.accelerator, ("", ""))
    return [*arguments, *(["-dev", device] if library in program.files or library in program.links else [])]


def _program(cell: Cell, facts: DeviceFacts) -> Program:
    fitting = {p.name: p for p in _fitting(facts)}
    if cell.runner == "auto" and len(fitting) == 1:
        return next(iter(fitting.values()))
    if cell.runner == "auto":
        raise RunnerError(
            f"{cell.device}: several llama-bench programs fit it: {', '.join(fitting)}", "Name one: --runner NAME"
        )
    if cell.runner not in fitting:
        named = find_program(cell.runner)
        raise RunnerError(f"{cell.device}: {named.name} is {named.what}, and the device is {_kind(facts)}", _ADD)
    return fitting[cell.runner]


def _fitting(facts: DeviceFacts) -> list[Program]:
    fitting = [p for p in programs() if p.fits(facts)]
    if not fitting:
        raise RunnerError(f"llamabench: no llama-bench was added that runs on {_kind(facts)}", _ADD)
    return fitting


def _kind(facts: DeviceFacts) -> str:
    return f"{facts.platform} on {facts.machine}"


def _file(program: Program, name: str) -> DeviceFile:
    path = program.path_of(name)
    try:
        return DeviceFile(name, path, program.files[name], path.stat().st_size)
    except OSError as e:
        raise RunnerError(f"{program.name}: {path}: {e.strerror}", "Add its archive again: melt runner add") from e


def _script() -> DeviceFile:
    with as_file(files("melt.backends") / "llama_bench.sh") as path:
        content = path.read_bytes()
        return DeviceFile(path.name, Path(path), hashlib.sha256(content).hexdigest(), len(content))


def _sampler(facts: DeviceFacts) -> tuple[DeviceFile, tuple[str, ...]]:
    """melt's own runner for the telemetry, which is Python's where the device has it."""
    if facts.python is not None:
        return runner_file(), (facts.python, "sampler", "sample")
    return program_file(build(target_for(facts))), ("sampler", "sample")
