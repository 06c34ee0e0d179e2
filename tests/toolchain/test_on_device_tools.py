"""What a device has to build with, and what is told where it lacks something."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.backends.llamacpp import LlamaCpp
from melt.doctor.device import gpu_build
from melt.drivers.base import ShellDriver
from melt.errors import RunnerError
from melt.models import inspect
from melt.spec.cell import Cell
from melt.spec.facts import DeviceFacts
from melt.toolchain import on_device
from melt.toolchain.device_tools import look, parse
from melt.toolchain.on_device import build_on_device, built_on_device
from tests.toolchain.on_device import board, log, stub

__all__ = ["board"]
THERE = {"cmake": "3", "c++": "12", "make": "4", "tar": "/bin/tar"}


def test_cuda_is_built_where_its_compiler_is(
    board: ShellDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(tmp_path, monkeypatch, "nvcc", "#!/bin/sh\necho 'Cuda compilation tools, release 12.6, V12.6.68'\n")
    tools = look(board)
    assert (tools.nvcc, tools.versions["nvcc"]) == (str(tmp_path / "stubs" / "nvcc"), "12.6, V12.6.68")
    build_on_device(board, "cuda")
    said = log()
    assert f"-DGGML_CUDA=ON -DCMAKE_CUDA_COMPILER={tmp_path}/stubs/nvcc" in said
    assert "'-DMELT_TARGET=on-device cuda'" in said


def test_the_doctor_says_how_to_get_a_runner_for_the_gpu(board: ShellDriver, tmp_path: Path) -> None:
    assert gpu_build(parse(THERE), board.facts(), "orin") == []
    (lacks,) = gpu_build(parse({**THERE, "tegra": "tegra234"}), board.facts(), "orin")
    assert lacks.found == "the device lacks what a build needs: nvcc"
    assert lacks.fix == (
        "On it: sudo apt-get install nvidia-jetpack; then here: melt runner build on-device --device orin"
    )
    nvcc = {"nvcc": "12.6, V12.6.68", "nvcc_path": "/usr/local/cuda/bin/nvcc"}
    (can,) = gpu_build(parse({**THERE, **nvcc, "tegra": "tegra234"}), board.facts(), "orin")
    assert (can.found, can.fix) == (
        "CUDA 12.6, V12.6.68 is there, and no runner for it yet",
        "melt runner build on-device --device orin",
    )


def test_an_orins_gpu_is_named_because_its_cmake_cannot_ask() -> None:
    orin = parse({"nvcc_path": "/usr/local/cuda/bin/nvcc", "tegra": "tegra234", "cores": "6", "ram_kb": "7990000"})
    assert orin.nvidia
    flags = on_device._flags(orin, "cuda")
    assert "-DCMAKE_CUDA_ARCHITECTURES=87" in flags
    assert on_device._jobs(orin, flags) == 4  # compilers of 2 GB each in 8 GB
    assert "-DGGML_CUDA=ON" not in on_device._flags(orin, "none")
    assert not [flag for flag in flags if "amx" in flag]
    assert [flag for flag in on_device._flags(parse({"amx": "amx_tile"}), "none") if "-mno-amx-tile" in flag]


@pytest.mark.parametrize(
    ("there", "gpu", "message", "hint"),
    [
        ({}, "none", "cmake, c\\+\\+, make, tar", "apt-get install cmake g++ make tar"),
        (THERE, "vulkan", "needs: glslc", "apt-get install glslc spirv-headers"),
        (THERE, "cuda", "needs: nvcc", "nvidia-cuda-toolkit"),
        ({**THERE, "tegra": "tegra234"}, "cuda", "needs: nvcc", "nvidia-jetpack"),
    ],
)
def test_what_the_device_lacks_is_named(there: dict[str, str], gpu: on_device.Gpu, message: str, hint: str) -> None:
    tools = parse(there)
    with pytest.raises(RunnerError, match=message) as failed:
        tools.require(on_device._flags(tools, gpu))
    assert hint in failed.value.hint


@given(st.dictionaries(st.sampled_from(["cmake", "nvcc", "nvcc_path", "cores", "ram_kb", "tegra", "x"]), st.text()))
def test_whatever_a_device_says_of_its_tools_is_survived(said: dict[str, str]) -> None:
    tools = parse(said)
    assert tools.cores >= 0
    assert tools.nvcc is None or tools.nvcc.startswith("/")


def test_what_was_built_on_the_device_runs_its_gpu_cells(
    board: ShellDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, facts, backend = Cell(device="local", model="m", accelerator="gpu"), board.facts(), LlamaCpp()
    build_on_device(board, "none")
    assert backend._flavour(cell, facts) == "python"
    stub(tmp_path, monkeypatch, "glslc", "#!/bin/sh\necho shaderc 2026\n")
    build_on_device(board, "vulkan")
    assert backend._flavour(cell, facts) == "native"
    assert backend._flavour(cell.model_copy(update={"accelerator": "cpu"}), facts) == "python"


def test_the_gpu_last_asked_for_is_the_one_taken(
    board: ShellDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nvcc", "glslc"):
        stub(tmp_path, monkeypatch, name, f"#!/bin/sh\necho {name} release 1\n")
    gpus: tuple[on_device.Gpu, ...] = ("cuda", "vulkan")
    for gpu in (*gpus, "cuda"):
        assert build_on_device(board, gpu) == built_on_device(board.facts(), gpus)


def test_one_plan_is_measured_with_one_program(
    board: ShellDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    for name in ("nvcc", "glslc"):
        stub(tmp_path, monkeypatch, name, f"#!/bin/sh\necho {name} release 1\n")
    cell, facts, backend = Cell(device="local", model="m", accelerator="gpu"), board.facts(), LlamaCpp()
    first = build_on_device(board, "cuda")
    decided = backend.decide(cell, facts)
    backend.prepare(decided, facts, lambda what: pytest.fail(what))
    build_on_device(board, "vulkan")
    assert backend.bundle(decided, inspect(tiny_model), facts, "j").files["runner"].path == first


def test_a_processor_that_melt_has_no_target_for_may_build_its_own(board: ShellDriver) -> None:
    riscv = board.facts().model_copy(update={"machine": "riscv64", "is_host": False, "python": None})
    cell, backend = Cell(device="b", model="m"), LlamaCpp()
    with pytest.raises(RunnerError) as failed:
        backend.check(riscv)
    assert "melt runner build on-device" in failed.value.hint
    here = build_on_device(board, "none")
    own = here.with_name(f"{on_device._stem(riscv, 'none')}-x")
    own.write_bytes(here.read_bytes())
    backend.check(riscv)
    assert backend.decide(cell, riscv).runner == "native"


def test_a_device_that_does_not_answer_lacks_no_package(board: ShellDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    start = board.shell
    monkeypatch.setattr(board, "shell", lambda _script: start("echo 'connect: Connection refused' >&2; exit 255"))
    with pytest.raises(RunnerError, match="does not answer: connect: Connection refused"):
        build_on_device(board, "none")


def test_a_gpu_without_a_build_for_it_is_refused_with_the_command_that_makes_one() -> None:
    orin = DeviceFacts(platform="linux", machine="aarch64", cpu_features=("asimddp", "asimdhp"))
    with pytest.raises(RunnerError, match=r"orin: .* not the GPU") as failed:
        LlamaCpp().decide(Cell(device="orin", model="m", accelerator="gpu"), orin)
    assert "melt runner build on-device --device orin" in failed.value.hint
