"""Building on the device itself, over a real shell; CMake is a stub but for the conformance suite's own build."""

import fcntl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from melt.backends.llamacpp import LlamaCpp
from melt.cli import cli
from melt.doctor.device import gpu_build
from melt.drivers import connect
from melt.drivers.base import Process, ShellDriver
from melt.drivers.profiles import load_profile
from melt.errors import RunnerError
from melt.models import inspect
from melt.spec.cell import Cell
from melt.spec.facts import DeviceFacts
from melt.toolchain import build, on_device
from melt.toolchain.device_tools import look, parse
from melt.toolchain.on_device import build_on_device, built_on_device, source_archive
from melt.toolchain.targets import TARGETS
from melt.util.files import cache_folder
from tests.doubles.sshd import Sshd, make_key
from tests.drivers.conftest import enrol_all, ssh_profile_of
from tests.support.waiting import wait_until

# Says what it was called with, and "builds" a program out of the sources: what a test then finds in it, it was given.
CMAKE = """#!/bin/sh
case "$1" in
  --version) echo "cmake version 3.22.1" ;;
  --build)
    echo "[  7%] Building"; echo "[ 50%] of a nested project"; echo "[ 16%] Linking"
    cat source/native/* source/llama.cpp/src/* > build/melt-runner
    chmod +x build/melt-runner ;;
  *) echo "configured: $*"; mkdir -p build ;;
esac
"""
# Begins a program, and is never done.
SLOW = CMAKE.replace("cat source", "echo half > build/melt-runner; echo waiting; sleep 600; cat source")
FAILING = """#!/bin/sh
[ "$1" = --version ] && echo "cmake version 3.22.1" && exit
echo "engine.cpp:3:1: error: no such thing" >&2
exit 2
"""


THERE = {"cmake": "3", "c++": "12", "make": "4", "tar": "/bin/tar"}


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShellDriver]:
    """This machine as the device, with few sources and a CMake that compiles nothing."""
    put(tmp_path / "native" / "main.cpp", "exit # main 1\n")
    put(tmp_path / "llama" / "src" / "llama.cpp", "# llama\n")
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
    assert built_on_device(board.facts(), ["none"]) is None
    binary = build_on_device(board, "none", lambda done, total: steps.append((done, total)))
    assert binary.read_text() == "exit # main 1\n# llama\n"
    assert binary.stat().st_mode & 0o111
    assert steps == [(0, 100), (7, 100), (16, 100)]
    assert built_on_device(board.facts(), ["none"]) == binary
    assert build_on_device(board, "none") == binary
    assert len(steps) == 3
    assert "-S source/native -B build" in log()


def test_changed_sources_are_sent_and_llama_cpp_is_not_compiled_again(board: ShellDriver, tmp_path: Path) -> None:
    first = build_on_device(board, "none")
    (unpacked,) = Path(board.work_folder).glob("on-device-*/source/llama.cpp/src/llama.cpp")
    stamp = unpacked.stat().st_mtime_ns
    for text in ("exit # 2\n", "exit # 1\n", "exit # 3\n"):
        put(tmp_path / "native" / "main.cpp", text)
        put(tmp_path / "native" / "ops.cpp", "# ops\n")
        assert build_on_device(board, "none").read_text() == f"{text}# ops\n# llama\n"
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
    assert "engine.cpp" in Path(failed.value.hint.removeprefix("The whole log: ")).read_text()
    assert built_on_device(board.facts(), on_device.GPUS) is None


def log() -> str:
    """Of the one build that there was."""
    (path,) = (cache_folder() / "toolchain").glob("on-device*.log")
    return path.read_text()


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


def test_the_archive_is_the_same_bytes_for_the_same_sources(board: ShellDriver, tmp_path: Path) -> None:
    first = source_archive()
    first.path.unlink()
    for source in (tmp_path / "native").iterdir():
        source.touch()
    assert source_archive().sha256 == first.sha256
    listed = subprocess.run(["tar", "-tzf", str(first.path)], capture_output=True, text=True, check=True).stdout
    assert listed.split() == ["native/main.cpp", "llama.cpp/src/llama.cpp"]


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


@pytest.mark.parametrize("how", ["killed", "its host has gone"])
def test_a_build_that_was_cut_off_leaves_nothing_that_passes_for_whole(
    board: ShellDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    stub(tmp_path, monkeypatch, "cmake", SLOW)
    started: list[Process] = []
    start = board.shell

    def shell(script: str) -> Process:
        started.append(start(script))
        return started[-1]

    monkeypatch.setattr(board, "shell", shell)
    done: list[object] = []

    def build_it() -> None:
        with pytest.raises(RunnerError) as failed:
            build_on_device(board, "none")
        done.append(failed.value)

    thread = threading.Thread(target=build_it)
    thread.start()
    (half,) = wait_until(lambda: list(Path(board.work_folder).glob("on-device-*/build/melt-runner")))
    assert half.read_text() == "half\n"
    if how == "killed":
        started[-1].kill()
    else:
        started[-1].end_of_input()
    thread.join(30)
    assert len(done) == 1
    assert (half.parents[1] / "building").exists() == (how == "killed")
    assert built_on_device(board.facts(), on_device.GPUS) is None
    stub(tmp_path, monkeypatch, "cmake", CMAKE)
    assert build_on_device(board, "none").read_text() == "exit # main 1\n# llama\n"


def test_two_builds_in_one_folder_are_one_too_many(board: ShellDriver, tmp_path: Path) -> None:
    build_on_device(board, "none")
    (folder,) = Path(board.work_folder).glob("on-device-*/")
    put(tmp_path / "native" / "main.cpp", "exit # main 2\n")
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RunnerError, match="another build is running"):
            build_on_device(board, "none")
    assert build_on_device(board, "none").read_text() == "exit # main 2\n# llama\n"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("tar: source/x: Cannot write: No space left on device", "No space left on device"),
        ("make: *** [Makefile:91: all] Killed", "Killed"),
        ("/usr/bin/ld: cannot find -lcuda", "cannot find -lcuda"),
        ("client_loop: send disconnect", "exit code 255: client_loop: send disconnect"),
        ("", "exit code 255: it said nothing"),
    ],
)
def test_how_a_build_failed_is_told_whatever_failed(
    board: ShellDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, message: str
) -> None:
    text = FAILING.replace('"engine.cpp:3:1: error: no such thing"', f"'{said}'").replace("exit 2", "exit 255")
    stub(tmp_path, monkeypatch, "cmake", text)
    with pytest.raises(RunnerError) as failed:
        build_on_device(board, "none")
    assert message in failed.value.message


def test_a_device_that_does_not_answer_lacks_no_package(board: ShellDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    start = board.shell
    monkeypatch.setattr(board, "shell", lambda _script: start("echo 'connect: Connection refused' >&2; exit 255"))
    with pytest.raises(RunnerError, match="does not answer: connect: Connection refused"):
        build_on_device(board, "none")


def test_the_devices_own_settings_do_not_get_into_a_build(
    board: ShellDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXXFLAGS", "-DBAD")
    monkeypatch.setenv("CMAKE_GENERATOR", "Ninja")
    stub(tmp_path, monkeypatch, "cmake", CMAKE.replace("configured:", "configured $CXXFLAGS $CMAKE_GENERATOR:"))
    build_on_device(board, "none")
    assert "configured  :" in log()


def test_a_gpu_without_a_build_for_it_is_refused_with_the_command_that_makes_one() -> None:
    orin = DeviceFacts(platform="linux", machine="aarch64", cpu_features=("asimddp", "asimdhp"))
    with pytest.raises(RunnerError, match=r"orin: .* not the GPU") as failed:
        LlamaCpp().decide(Cell(device="orin", model="m", accelerator="gpu"), orin)
    assert "melt runner build on-device --device orin" in failed.value.hint


def test_a_board_behind_ssh_builds_its_own(board: ShellDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "home" / ".ssh"
    ssh.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(ssh.parent))
    public = make_key(ssh / "id_ed25519")
    (ssh / "config").write_text(f"IdentityFile {ssh}/id_ed25519\nUserKnownHostsFile {ssh}/known_hosts\n")
    with Sshd(tmp_path / "sshd", None, f"SetEnv HOME={tmp_path} PATH={tmp_path}/stubs:/usr/bin:/bin") as server:
        server.authorised.write_text(public)
        enrol_all(ssh_profile_of(server))
        driver = connect(ssh_profile_of(server))
        assert isinstance(driver, ShellDriver)
        binary = build_on_device(driver, "none")
        assert binary.read_text() == "exit # main 1\n# llama\n"
        assert built_on_device(driver.facts(), ["none"]) == binary
        driver.close()


def test_the_command(board: ShellDriver) -> None:
    made = CliRunner().invoke(cli, ["runner", "build", "on-device", "--device", "local", "--gpu", "none"])
    assert made.exit_code == 0, made.output
    assert Path(made.stdout.splitlines()[-1]).read_text() == "exit # main 1\n# llama\n"
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
