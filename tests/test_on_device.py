"""Building on the device itself, over a real shell; CMake is a stub but for the conformance suite's own build."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from melt.backends.llamacpp import LlamaCpp
from melt.cli import cli
from melt.drivers import connect
from melt.drivers.base import ShellDriver
from melt.errors import RunnerError
from melt.facts import DeviceFacts
from melt.plan import Cell
from melt.profile import load_profile
from melt.toolchain import build, on_device
from melt.toolchain.build_log import log_path
from melt.toolchain.device_tools import look, parse
from melt.toolchain.on_device import build_on_device, built_on_device, source_archive
from melt.toolchain.targets import TARGETS

# Says what it was called with, and "builds" a program out of the sources: what a test then finds in it, it was given.
CMAKE = """#!/bin/sh
case "$1" in
  --version) echo "cmake version 3.22.1" ;;
  --build)
    echo "[  7%] Building"; echo "[100%] Linking"
    cat source/native/* source/llama.cpp/src/* > build/melt-runner ;;
  *) echo "configured: $*"; mkdir -p build ;;
esac
"""
FAILING = """#!/bin/sh
[ "$1" = --version ] && echo "cmake version 3.22.1" && exit
echo "engine.cpp:3:1: error: no such thing" >&2
exit 2
"""


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShellDriver]:
    """This machine as the device, with few sources and a CMake that compiles nothing."""
    put(tmp_path / "native" / "main.cpp", "main 1\n")
    put(tmp_path / "llama" / "src" / "llama.cpp", "llama\n")
    stub(tmp_path, monkeypatch, "cmake", CMAKE)
    for module in (build, on_device):
        monkeypatch.setattr(module, "native_sources", lambda: sorted((tmp_path / "native").iterdir()))
    monkeypatch.setattr(on_device, "llama_source", lambda: tmp_path / "llama")
    driver = connect(load_profile("local"))
    assert isinstance(driver, ShellDriver)
    yield driver
    driver.close()


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    put(tmp_path / "stubs" / name, text)
    (tmp_path / "stubs" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "stubs"), prepend=":")


def test_the_program_is_built_there_brought_back_and_found_again(board: ShellDriver) -> None:
    steps: list[tuple[int, int]] = []
    assert built_on_device(board.facts()) is None
    binary = build_on_device(board, "none", lambda done, total: steps.append((done, total)))
    assert binary.read_text() == "main 1\nllama\n"
    assert binary.stat().st_mode & 0o111
    assert steps == [(7, 100), (100, 100)]
    assert built_on_device(board.facts()) == binary
    assert build_on_device(board, "none") == binary
    assert len(steps) == 2
    assert "configured: -S source/native -B build" in log_path("on-device").read_text()


def test_changed_sources_are_sent_and_llama_cpp_is_not_compiled_again(board: ShellDriver, tmp_path: Path) -> None:
    first = build_on_device(board, "none")
    (unpacked,) = Path(board.work_folder).glob("on-device-*/source/llama.cpp/src/llama.cpp")
    stamp = unpacked.stat().st_mtime_ns
    for text in ("main 2\n", "main 1\n", "main 3\n"):
        put(tmp_path / "native" / "main.cpp", text)
        put(tmp_path / "native" / "ops.cpp", "ops\n")
        assert build_on_device(board, "none").read_text() == f"{text}ops\nllama\n"
    assert unpacked.stat().st_mtime_ns == stamp
    assert build_on_device(board, "none") != first


def test_a_tool_that_the_build_does_not_use_changes_nothing(
    board: ShellDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_on_device(board, "none")
    stub(tmp_path, monkeypatch, "glslc", "#!/bin/sh\necho shaderc 2026\n")
    assert look(board).versions["glslc"] == "shaderc 2026"
    assert build_on_device(board, "none") == first
    stub(tmp_path, monkeypatch, "c++", "#!/bin/sh\necho c++ 99\n")
    assert build_on_device(board, "none") != first


def test_a_failed_build_shows_its_first_error_and_leaves_nothing(
    board: ShellDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(tmp_path, monkeypatch, "cmake", FAILING)
    with pytest.raises(RunnerError) as failed:
        build_on_device(board, "none")
    assert "engine.cpp:3:1: error: no such thing" in failed.value.message
    assert str(log_path("on-device")) in failed.value.hint
    assert built_on_device(board.facts()) is None


def test_cuda_is_built_where_its_compiler_is(
    board: ShellDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(tmp_path, monkeypatch, "nvcc", "#!/bin/sh\necho 'Cuda compilation tools, release 12.6, V12.6.68'\n")
    tools = look(board)
    assert (tools.nvcc, tools.versions["nvcc"]) == (str(tmp_path / "stubs" / "nvcc"), "12.6, V12.6.68")
    build_on_device(board)
    said = log_path("on-device").read_text()
    assert f"-DGGML_CUDA=ON -DCMAKE_CUDA_COMPILER={tmp_path}/stubs/nvcc" in said
    assert "'-DMELT_TARGET=on-device cuda'" in said


def test_an_orins_gpu_is_named_because_its_cmake_cannot_ask() -> None:
    orin = parse({"nvcc_path": "/usr/local/cuda/bin/nvcc", "tegra": "tegra234", "cores": "6", "ram_kb": "7990000"})
    flags = on_device._flags(orin, "auto")
    assert "-DCMAKE_CUDA_ARCHITECTURES=87" in flags
    assert on_device._jobs(orin, flags) == 4  # compilers of 2 GB each in 8 GB
    assert "-DGGML_CUDA=ON" not in on_device._flags(orin, "none")
    assert not [flag for flag in flags if "amx" in flag]
    assert [flag for flag in on_device._flags(parse({"amx": "amx_tile"}), "none") if "-mno-amx-tile" in flag]


@pytest.mark.parametrize(
    ("there", "gpu", "message", "hint"),
    [
        ({}, "none", "cmake, c\\+\\+, make", "apt-get install cmake g++ make"),
        ({"cmake": "3", "c++": "12", "make": "4"}, "vulkan", "glslc", "apt-get install glslc"),
        ({"cmake": "3", "c++": "12", "make": "4"}, "cuda", "needs: nvcc", "nvidia-jetpack"),
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


def test_the_archive_is_the_same_bytes_for_the_same_sources(board: ShellDriver, tmp_path: Path) -> None:
    first = source_archive()
    first.path.unlink()
    for source in (tmp_path / "native").iterdir():
        source.touch()
    assert source_archive().sha256 == first.sha256
    listed = subprocess.run(["tar", "-tzf", str(first.path)], capture_output=True, text=True, check=True).stdout
    assert listed.split() == ["native/main.cpp", "llama.cpp/src/llama.cpp"]


def test_what_was_built_on_the_device_runs_its_gpu_cells(board: ShellDriver) -> None:
    cell, facts, backend = Cell(device="local", model="m", accelerator="gpu"), board.facts(), LlamaCpp()
    assert backend._flavour(cell, facts) == "python"
    build_on_device(board, "none")
    assert backend._flavour(cell, facts) == "native"
    assert backend._flavour(cell.model_copy(update={"accelerator": "cpu"}), facts) == "python"


def test_a_gpu_without_a_build_for_it_is_refused_with_the_command_that_makes_one() -> None:
    orin = DeviceFacts(platform="linux", machine="aarch64", cpu_features=("asimddp", "asimdhp"))
    with pytest.raises(RunnerError, match="orin: its GPU needs") as failed:
        LlamaCpp().prepare(Cell(device="orin", model="m", accelerator="gpu"), orin, lambda what: pytest.fail(what))
    assert "melt runner build on-device --device orin" in failed.value.hint


def test_the_command(board: ShellDriver) -> None:
    made = CliRunner().invoke(cli, ["runner", "build", "on-device", "--device", "local", "--gpu", "none"])
    assert made.exit_code == 0, made.output
    assert Path(made.stdout.splitlines()[-1]).read_text() == "main 1\nllama\n"
    listed = CliRunner().invoke(cli, ["runner", "list"])
    assert "on-device" in listed.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["on-device"], "--device NAME"),
        ([next(iter(TARGETS)), "--device", "local"], "go with the target on-device"),
        ([next(iter(TARGETS)), "--gpu", "cuda"], "go with the target on-device"),
    ],
)
def test_a_wrong_use_says_what_is_missing(words: list[str], said: str) -> None:
    done = CliRunner().invoke(cli, ["runner", "build", *words])
    assert done.exit_code == 2
    assert said in done.stderr
