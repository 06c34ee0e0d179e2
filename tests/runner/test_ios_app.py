"""The iPhone app as far as it can be had without a Mac: its project, and its C++ half compiled and run here.

The Swift half has been compiled by nobody. The C++ half is compiled for Apple's processors by zig, which brings
macOS's headers, and run on this machine.
"""

import json
import plistlib
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from melt.drivers.ios.app import OLDEST, SUFFIX, parse_version
from melt.spec.events import Done, Hello, Iteration, Warned, parse_event
from melt.spec.job import Job, Workload
from melt.spec.profile import Sensors
from melt.telemetry.ios import discover, own_samples
from melt.telemetry.series import read
from melt.toolchain import source
from melt.toolchain.compilers import installed_libraries
from tests.runner.running import job_schema_header

ROOT = Path(__file__).parents[2]
APP = ROOT / "runners/ios"
NATIVE = ROOT / "melt/runner/native"
PROJECT = yaml.safe_load((APP / "project.yml").read_text())
TARGET = PROJECT["targets"]["MeltRunner"]
DEFINED = ('-DMELT_TARGET="here"', '-DMELT_RUNNER_VERSION="0.1.0"', '-DMELT_COMPILER="here"')
MAIN = "-Dmain=melt_runner_main"


def core_sources() -> list[Path]:
    """What the project compiles of C++."""
    [native] = [s for s in TARGET["sources"] if s.get("name") == "native"]
    left_out = [p for p in native["excludes"] if p != "main.cpp"]
    found = [p for p in sorted(NATIVE.glob("*.cpp")) if not any(fnmatch(p.name, e) for e in left_out)]
    return [*found, *sorted((APP / "Core").glob("*.cpp"))]


def includes(folder: Path) -> list[str]:
    """The folders of headers; that which a script makes goes to ``folder``."""
    job_schema_header(folder)
    headers = installed_libraries()[0].parents[2] / "include"
    return ["-I", str(folder), "-I", str(NATIVE), "-I", str(APP / "Core"), "-isystem", str(headers)]


def test_the_project_names_what_is_there() -> None:
    for one in TARGET["sources"]:
        assert (APP / one["path"]).exists(), one
    settings = TARGET["settings"]["base"]
    for key in ("CODE_SIGN_ENTITLEMENTS", "SWIFT_OBJC_BRIDGING_HEADER"):
        assert (APP / settings[key]).exists()
    [main] = [s for s in TARGET["sources"] if s["path"].endswith("main.cpp")]
    assert main["compilerFlags"] == [MAIN]
    entitled = plistlib.loads((APP / "App/MeltRunner.entitlements").read_bytes())
    assert entitled["com.apple.developer.kernel.increased-memory-limit"] is True
    assert TARGET["info"]["properties"]["UIFileSharingEnabled"] is True


def test_the_app_is_the_one_that_the_driver_looks_for() -> None:
    settings, info = TARGET["settings"]["base"], TARGET["info"]["properties"]
    assert settings["PRODUCT_BUNDLE_IDENTIFIER"].endswith(SUFFIX)
    assert parse_version(settings["MARKETING_VERSION"]) >= OLDEST
    [core] = [d for d in settings["GCC_PREPROCESSOR_DEFINITIONS"] if d.startswith("MELT_RUNNER_VERSION=")]
    version = core.split('"')[1].rstrip("\\")
    assert f'set(MELT_RUNNER_VERSION "{version}")' in (NATIVE / "CMakeLists.txt").read_text()
    assert info["MeltEngineVersion"] == source.VERSION
    assert f"{source.PACKAGE}-{source.VERSION}" in (APP / "build-llama.sh").read_text()


def test_the_scripts_that_make_headers_and_libraries_are_scripts() -> None:
    for name in ("build.sh", "build-llama.sh", "job-schema.sh"):
        subprocess.run(["sh", "-n", str(APP / name)], check=True)
    assert "./job-schema.sh > build/include/job_schema.hpp" in (APP / "build-llama.sh").read_text()
    assert "$(SRCROOT)/build/include" in TARGET["settings"]["base"]["HEADER_SEARCH_PATHS"]


@pytest.mark.skipif(sys.platform == "darwin", reason="there it would build the app")
def test_the_script_says_what_it_needs() -> None:
    done = subprocess.run([str(APP / "build.sh")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "build.sh: an app for an iPhone is built on a Mac\n")


def test_what_is_observed_is_imported() -> None:
    """ObservableObject is Combine's."""
    for file in (APP / "App").glob("*.swift"):
        text = file.read_text()
        assert "import Combine" in text or "ObservableObject" not in text, file.name


@pytest.mark.slow
@pytest.mark.parametrize("path", core_sources(), ids=lambda p: p.name)
def test_the_core_compiles_for_apples_processors(path: Path, tmp_path: Path) -> None:
    zig = [sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-macos", "-std=c++17", "-c", "-Wall", "-Wextra"]
    renamed = [MAIN] if path.name == "main.cpp" else []
    words = [*zig, *includes(tmp_path), *DEFINED, *renamed, "-o", str(tmp_path / "out.o"), str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ half with a main that does what the Swift half does."""
    folder = tmp_path_factory.mktemp("ios-app")
    main = folder / "app.cpp"
    main.write_text(
        '#include "bridge.h"\n'
        "int main(int argc, char **argv) {\n"
        '  if (melt_sample_memory("Documents/telemetry.jsonl", 3ULL << 30) != 0) { return 9; }\n'
        '  if (melt_warn("Documents/events.jsonl", "thermal_state", "\\"fair\\" at the start") != 0) { return 9; }\n'
        '  return melt_run(argc - 1, argv + 1, "Documents/events.jsonl");\n}\n'
    )
    libraries = installed_libraries()[0].parent
    objects = [folder / "main.o"]
    common = ["c++", "-std=c++17", *includes(folder), *DEFINED]
    subprocess.run([*common, MAIN, "-c", str(NATIVE / "main.cpp"), "-o", str(objects[0])], check=True)
    others = [str(p) for p in core_sources() if p.name != "main.cpp"]
    linked = [f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-lllama", "-lggml", "-lggml-base", "-pthread"]
    program = folder / "app"
    subprocess.run([*common, str(main), *others, *map(str, objects), *linked, "-o", str(program)], check=True)
    return program


def run_app(app: Path, container: Path, job: Job) -> subprocess.CompletedProcess[bytes]:
    (container / "Documents").mkdir()
    (container / "Documents/job.json").write_text(job.model_dump_json())
    return subprocess.run(
        [app, "run", "Documents/job.json"], cwd=container, capture_output=True, timeout=120, check=False
    )


def a_job(model: str) -> Job:
    work = Workload(prompt_tokens=16, gen_tokens=8)
    return Job(job_id="one", engine="llama.cpp", model=model, threads=1, workload=work, iterations=2)


@pytest.mark.slow
def test_the_core_writes_its_events_to_the_file(app: Path, tmp_path: Path, tiny_model: Path) -> None:
    done = run_app(app, tmp_path, a_job(str(tiny_model)))
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    events = [parse_event(line) for line in (tmp_path / "Documents/events.jsonl").read_text().splitlines()]
    assert events[0] == Warned(kind="thermal_state", message='"fair" at the start')
    assert isinstance(events[1], Hello)
    assert sum(isinstance(e, Iteration) and not e.warmup for e in events) == 2
    assert events[-1] == Done(status="ok")
    [(t_ns, line)] = own_samples((tmp_path / "Documents/telemetry.jsonl").read_text())
    assert events[1].clock is not None
    assert 0 < events[1].clock.t_ns - t_ns < 60e9
    left = read(discover({}, None, None, Sensors()), [line]).series["process:available"]
    assert left.value.tolist() == [3 * 2**30]


@pytest.mark.slow
def test_an_engine_that_gives_up_still_leaves_its_last_words(app: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    done = run_app(app, tmp_path, a_job("broken.gguf"))
    assert done.returncode == 1
    last = (tmp_path / "Documents/events.jsonl").read_text().splitlines()[-2:]
    assert [json.loads(line)["event"] for line in last] == ["error", "done"]
