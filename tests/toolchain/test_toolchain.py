"""Building the native runner: which for what, kept by content, and clear where it cannot be."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from melt.cli import cli
from melt.errors import RunnerError
from melt.runner import native_sources
from melt.spec.facts import DeviceFacts
from melt.toolchain import build as build_module
from melt.toolchain import compilers
from melt.toolchain import source as source_module
from melt.toolchain.build import build, built
from melt.toolchain.build_log import build_log
from melt.toolchain.compilers import definitions
from melt.toolchain.source import PROVENANCE, llama_source
from melt.toolchain.targets import ON_DEVICE, TARGETS, find_target, target_for
from tests.support.processes import Process, running
from tests.support.waiting import wait_until

ORIN = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp uscat ilrcpc"
PI_4 = "fp asimd evtstrm crc32 cpuid"
PHONE = f"{ORIN} i8mm bf16"


@pytest.mark.parametrize(
    ("machine", "features", "expected"),
    [
        ("aarch64", PHONE, "linux-aarch64-musl-i8mm"),
        ("aarch64", ORIN, "linux-aarch64-musl"),
        ("aarch64", PI_4, "linux-aarch64-musl-v8"),
        ("aarch64", "", "linux-aarch64-musl-v8"),
        ("x86_64", "avx2 fma f16c bmi2 sse4_2", "linux-x86_64-musl"),
    ],
)
def test_a_device_gets_the_best_build_that_its_processor_can_run(machine: str, features: str, expected: str) -> None:
    facts = DeviceFacts(platform="linux", machine=machine, cpu_features=tuple(features.split()))
    assert target_for(facts).name == expected


def test_this_machine_gets_its_own_build() -> None:
    assert target_for(DeviceFacts(platform="linux", machine="x86_64", is_host=True)).name == "host"


@pytest.mark.parametrize(("machine", "features"), [("x86_64", "sse4_2"), ("riscv64", ""), ("", "")])
def test_a_processor_without_a_build_is_refused(machine: str, features: str) -> None:
    facts = DeviceFacts(platform="linux", machine=machine, cpu_features=tuple(features.split()))
    with pytest.raises(RunnerError, match="no native runner"):
        target_for(facts)


def test_a_wrong_target_names_the_nearest() -> None:
    with pytest.raises(RunnerError, match="linux-aarch64-musl"):
        find_target("linux-aarch64-must")


def test_building_again_is_a_matter_of_seconds(kept_builds: None) -> None:
    first = build(TARGETS["host"])
    begun = time.monotonic()
    assert build(TARGETS["host"]) == first
    assert time.monotonic() - begun < 5.0
    assert os.access(first, os.X_OK)
    assert first.stat().st_size < build_module.MAX_BYTES
    # Stripped, and its own program: it says how it is used.
    done = subprocess.run([first], capture_output=True, text=True, check=False)
    assert (done.returncode, "usage" in done.stderr) == (2, True)


def test_a_build_has_one_name_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from melt.toolchain.build import built; from melt.toolchain.targets import ON_DEVICE, TARGETS; "
    code += "print([built(TARGETS[n]).name for n in ('host', 'linux-x86_64-musl', 'linux-aarch64-musl-i8mm')])"
    names = set()
    for seed in ("1", "2", "3"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        names.add(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert len(names) == 1


def test_other_sources_flags_or_compilers_are_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = TARGETS["host"]
    before = built(host)
    assert built(host) == before
    changed = tmp_path / "main.cpp"
    changed.write_text("int main() {}")
    with monkeypatch.context() as patch:
        patch.setattr(build_module, "native_sources", lambda: [changed])
        assert built(host) != before
    with monkeypatch.context() as patch:
        cxx = tmp_path / "other-c++"
        cxx.write_text("#!/bin/sh\necho other 1.0\n")
        cxx.chmod(0o755)
        patch.setenv("CXX", str(cxx))
        assert built(host) != before
    assert built(TARGETS["linux-aarch64-musl"]) != built(TARGETS["linux-aarch64-musl-i8mm"])


def test_a_failed_build_shows_the_compilers_first_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = []
    for source in native_sources():
        copy = tmp_path / "native" / source.name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(source.read_bytes())
        sources.append(copy)
    (tmp_path / "native" / "json_reader.cpp").write_text("int broken = ;\n")
    monkeypatch.setattr(build_module, "native_sources", lambda: sources)
    with pytest.raises(RunnerError) as failed:
        build(TARGETS["host"])
    assert "json_reader.cpp:1:14: error:" in failed.value.message
    log = Path(failed.value.hint.removeprefix("The whole log: "))
    assert "json_reader.cpp:1:14: error:" in log.read_text()
    assert not built(TARGETS["host"]).exists()


def test_a_missing_compiler_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(RunnerError, match="no C\\+\\+ compiler") as failed:
        build(TARGETS["host"])
    assert "g++" in failed.value.hint


def test_missing_build_tools_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> None:
        return None

    monkeypatch.setattr(compilers, "find_spec", missing)
    with pytest.raises(RunnerError) as failed:
        definitions(TARGETS["linux-aarch64-musl"], Path("unused"))
    assert "melt-bench[build]" in failed.value.hint
    monkeypatch.setattr("shutil.which", lambda *_a, **_k: None)
    with pytest.raises(RunnerError, match="cmake is not installed"):
        compilers.program("cmake")


def test_without_network_and_with_an_empty_cache_the_source_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"INDEX_URL": "http://127.0.0.1:9/", "RETRIES": "0", "NO_CACHE_DIR": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(RunnerError, match="cannot be fetched") as failed:
        llama_source()
    assert "network" in failed.value.hint


def test_sources_that_have_moved_are_built_in_the_same_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("here", "there"):
        sources = []
        for source in native_sources():
            copy = tmp_path / place / source.name
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(
                source.read_bytes() + (place.encode().join([b"\n// ", b"\n"]) if "main" in copy.name else b"")
            )
            sources.append(copy)
        monkeypatch.setattr(build_module, "native_sources", lambda found=sources: found)
        assert build(TARGETS["host"]).exists()
    assert len(list((tmp_path / "cache" / "runners").iterdir())) == 2


def test_an_interrupted_build_leaves_nothing_running(tmp_path: Path) -> None:
    env = os.environ | {"MELT_CACHE": str(tmp_path / "cache")}
    melt = subprocess.Popen(
        [str(Path(sys.executable).with_name("melt")), "runner", "build", "host"], env=env, start_new_session=True
    )
    wait_until(lambda: any("cc1plus" in p.argv[0] for p in at_work_in(tmp_path)))
    melt.terminate()
    assert melt.wait(20) == 130
    wait_until(lambda: not at_work_in(tmp_path))  # the signal is sent; dying of it takes a moment


def at_work_in(folder: Path) -> list[Process]:
    return running(lambda p: p.folder is not None and p.folder.is_relative_to(folder))


@pytest.mark.parametrize("cache", ["/proc/nowhere", "/dev/null/x"])
def test_a_cache_that_cannot_be_written_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, cache: str) -> None:
    monkeypatch.setenv("MELT_CACHE", cache)
    with pytest.raises(RunnerError, match=cache) as failed:
        build(TARGETS["host"])
    assert "MELT_CACHE" in failed.value.hint


@pytest.mark.parametrize("value", ["", "c++"])
def test_an_empty_cxx_is_the_usual_compiler(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.delenv("CXX", raising=False)
    usual = built(TARGETS["host"])
    monkeypatch.setenv("CXX", value)
    assert built(TARGETS["host"]) == usual
    monkeypatch.setenv("CXX", "c++ 'unbalanced")
    with pytest.raises(RunnerError, match="CXX"):
        built(TARGETS["host"])


def test_a_source_that_is_there_needs_no_network(kept_builds: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    assert (llama_source() / "include" / "llama.h").is_file()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_source_is_fetched_without_compiling_anything() -> None:
    assert (llama_source() / "include" / "llama.h").is_file()


@pytest.mark.slow
def test_another_file_than_the_pinned_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "SHA256", "0" * 64)
    with pytest.raises(RunnerError, match=f"has SHA-256 [0-9a-f]{{64}}, not {'0' * 64}"):
        llama_source()


@pytest.mark.parametrize("value", ["", "/nowhere/ndk"])
def test_android_without_an_ndk_says_so(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ANDROID_NDK_HOME", value)
    with pytest.raises(RunnerError, match="NDK"):
        build(TARGETS["android-arm64"])


def test_an_ndk_is_used_by_its_own_toolchain_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "build" / "cmake").mkdir(parents=True)
    (tmp_path / "build" / "cmake" / "android.toolchain.cmake").write_text("")
    (tmp_path / "source.properties").write_text("Pkg.Revision = 27.0.1\n")
    monkeypatch.setenv("ANDROID_NDK_HOME", str(tmp_path))
    monkeypatch.setattr(compilers, "llama_source", lambda: tmp_path / "source")
    assert definitions(TARGETS["android-arm64-vulkan"], tmp_path) == (
        f"-DCMAKE_TOOLCHAIN_FILE={tmp_path}/build/cmake/android.toolchain.cmake",
        f"-DLLAMA_CPP_DIR={tmp_path}/source",
        *PROVENANCE,
    )
    assert "27.0.1" in compilers.identity(TARGETS["android-arm64-vulkan"])
    assert {"-DGGML_VULKAN=ON", "-DANDROID_ABI=arm64-v8a"} <= set(TARGETS["android-arm64-vulkan"].cmake)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (["[1/2] CXX", "a.cpp:3:1: error: no", "b.cpp:1:1: error: later"], "a.cpp:3:1: error: no"),
        (
            ["CMake Error at x:1 (y):", "  could not find Z", "", "more"],
            "CMake Error at x:1 (y): could not find Z more",
        ),
        (["x.o: undefined reference to `f'"], "x.o: undefined reference to `f'"),
        (["ld.lld: error: unable to find library -lfoo"], "ld.lld: error: unable to find library -lfoo"),
        ([], "exit code 2: it said nothing"),
        (["one", "", "two", "three", "four"], "exit code 2: two / three / four"),
    ],
)
def test_the_first_error_is_found_in_a_log(log: list[str], expected: str) -> None:
    assert failure(log) == f"host: the build failed: {expected}"


def failure(lines: list[str]) -> str:
    with build_log("host", lambda done, total: None) as log:
        for line in lines:
            log.take(line)
        return log.failure("exit code 2").message


@given(st.lists(st.text()))
def test_any_log_has_a_first_error_of_readable_length(log: list[str]) -> None:
    assert len("host: the build failed: ") < len(failure(log)) < 2000


def test_the_commands(kept_builds: None) -> None:
    made = CliRunner().invoke(cli, ["runner", "build", "host"])
    assert made.exit_code == 0, made.output
    path = Path(made.stdout.splitlines()[-1])
    assert path.is_file()
    listed = CliRunner().invoke(cli, ["runner", "list", "--json"])
    rows = {r["name"]: r for r in json.loads(listed.stdout)}
    assert set(rows) == {*TARGETS, ON_DEVICE}
    assert rows["host"]["path"] == str(path)
    table = CliRunner().invoke(cli, ["runner", "list"])
    assert "linux-aarch64-musl-i8mm" in table.output
