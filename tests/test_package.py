"""The wheel and the sdist hold everything needed at run time: installed in an empty environment, melt works."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.store_factory import write_store

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def melt(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """melt from the wheel, in an environment that has only what the wheel asks for."""
    folder = tmp_path_factory.mktemp("empty")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(folder / "venv/bin/python")]
    # Half of the time of an installation is compiling modules of which melt imports few.
    pip += ["install", "-q", "--no-compile"]
    for what in (["--require-hashes", "-r", ROOT / "locks" / "melt.txt"], ["--no-deps", next(built.glob("*.whl"))]):
        subprocess.run([*pip, *map(str, what)], check=True, capture_output=True)

    def run(*args: str | Path) -> "subprocess.CompletedProcess[str]":
        command = [str(folder / "venv/bin/melt"), *map(str, args)]
        alone = os.environ | {"PATH": str(folder / "venv/bin")}  # nor any compiler of this machine
        return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120, check=False, env=alone)

    return run


def test_the_wheel_holds_profiles_templates_and_on_device_sources(built: Path) -> None:
    names = zipfile.ZipFile(next(built.glob("*.whl"))).namelist()
    for needed in (
        "melt/py.typed",
        "melt/device_profiles/pixel8.yaml",
        "melt/device_profiles/schema.json",
        "melt/runner/job.json",
        "melt/runner/python/__main__.py",
        "melt/runner/native/CMakeLists.txt",
        "melt/runner/native/main.cpp",
        "melt/models/shapes/zoo.yaml",
    ):
        assert needed in names
    assert [n for n in names if n.startswith("melt/report/templates/") and n.endswith((".html", ".j2"))]
    assert not [n for n in names if n.startswith(("tests/", "results/", "reports/"))]


def test_the_sdist_can_be_built_from(built: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "xf", str(next(built.glob("*.tar.gz"))), "-C", str(tmp_path)], check=True)
    source = next(tmp_path.iterdir())
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--outdir",
        str(tmp_path / "again"),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    again, first = next((tmp_path / "again").glob("*.whl")), next(built.glob("*.whl"))
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(first).namelist())


def test_the_installed_melt_knows_its_devices_and_models(
    melt: Callable[..., "subprocess.CompletedProcess[str]"],
) -> None:
    assert "melt" in melt("--version").stdout
    names = {row["name"] for row in json.loads(melt("devices", "--json").stdout)}
    assert {"local", "pixel8", "galaxy-s23", "iphone15-pro", "jetson-orin-nano", "jetson-agx-orin"} <= names
    assert "mamba-130m" in melt("models", "list").stdout
    shown = json.loads(melt("models", "show", "synth:mamba-130m@Q4_0", "--json").stdout)
    assert json.dumps(shown).count("ssm")


def test_the_installed_melt_makes_a_report(
    melt: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    write_store(tmp_path / "results")
    done = melt("report", tmp_path / "results", "--out", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]).is_file()


def test_a_host_without_engines_says_what_to_install(melt: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    done = melt("run", "--device", "local", "--model", "synth:mamba-130m", "--no-report")
    assert done.returncode == 3
    assert "llama-cpp-python is not installed" in done.stderr
    assert "no C++ compiler" in done.stderr
    assert "melt-bench[local]" in done.stderr
    assert "Traceback" not in done.stderr
    checks = {c["name"]: c for c in json.loads(melt("doctor", "--json").stdout)}
    assert checks["llama-cpp-python"]["state"] == "warning"
    assert "melt-bench[local]" in checks["llama-cpp-python"]["fix"]
    assert checks["native runner"]["state"] == "warning"
    assert "zig" in checks["native runner"]["found"]
    assert "melt-bench[build]" in checks["native runner"]["fix"]
