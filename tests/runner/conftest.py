"""The on-device program in every flavour: the conformance suite runs the same jobs against each."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from melt.drivers import connect, runner
from melt.drivers.base import ShellDriver
from melt.drivers.profiles import load_profile
from melt.models.onnx.synth import synthesise_onnx
from melt.models.shapes.zoo import find_shape, scaled_down
from melt.toolchain import on_device
from melt.toolchain.build import build
from melt.toolchain.targets import ON_DEVICE, TARGETS
from tests.conftest import KEPT_BUILDS

NATIVE = {
    "native": "host",
    "static-x86_64": "linux-x86_64-musl",
    "static-aarch64": "linux-aarch64-musl-i8mm",
    "on-device": ON_DEVICE,
}
ONNX = "onnxruntime"  # the Python runner again, with its other engine
FLAVOURS = ("python", ONNX, *NATIVE)
# In the gate these are given every case, and the others that it builds those cases that are marked `every_flavour`.
# All cases with all of them are `make test-long PART=conformance`.
EVERY_CASE = ("python", ONNX, "native")
SMOKE = ("static-x86_64", "static-aarch64")
QEMU = "qemu-aarch64-static"

Program = Callable[[str], list[str]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with ``flavour`` in its fixtures runs once with each.

    One with ``native_flavour`` runs with the native ones, and with ``sampler_flavour`` with those that sample their own
    way: the Python runner's engines share a sampler.
    """
    arguments = {"flavour": FLAVOURS, "native_flavour": tuple(NATIVE), "sampler_flavour": ("python", *NATIVE)}
    for argument, flavours in arguments.items():
        if argument in metafunc.fixturenames:
            smoke = SMOKE if metafunc.definition.get_closest_marker("every_flavour") else ()
            gate = (*EVERY_CASE, *smoke)
            long = pytest.mark.long(part="conformance")
            metafunc.parametrize(argument, [f if f in gate else pytest.param(f, marks=long) for f in flavours])


def build_here(gpu: on_device.Gpu) -> Path:
    """The runner as a device builds it itself; this machine is the device."""
    with closing(connect(load_profile("local"))) as driver:
        assert isinstance(driver, ShellDriver)
        return on_device.build_on_device(driver, gpu)


@pytest.fixture(scope="session")
def program_of(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The words that start a flavour's program; what is not built yet is built, which takes minutes."""

    def find(flavour: str) -> list[str]:
        with pytest.MonkeyPatch.context() as patch:
            if flavour in ("python", ONNX):
                patch.setenv("MELT_CACHE", str(tmp_path_factory.getbasetemp() / "runners"))
                return [sys.executable, str(runner.runner_path())]
            patch.setenv("MELT_CACHE", str(KEPT_BUILDS))
            if flavour == "on-device":
                return [str(build_here("none"))]
            words = [str(build(TARGETS[NATIVE[flavour]]))]
        if flavour != "static-aarch64":
            return words
        qemu = shutil.which(QEMU)
        assert qemu, f"{QEMU} is missing: `make system-packages` installs it"
        return [qemu, *words]

    return find


@pytest.fixture
def runner_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python runner's modules can be imported, as they lie in its archive."""
    monkeypatch.syspath_prepend(str(runner.runner_path()))


@pytest.fixture
def program(flavour: str, program_of: Program) -> list[str]:
    """The words that start it."""
    return program_of(flavour)


@pytest.fixture(scope="session")
def onnx_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """As ``tiny_models``, for ONNX Runtime."""
    folder = tmp_path_factory.mktemp("tiny-onnx")
    names = {"transformer": "smollm2-135m", "ssm": "mamba2-130m", "hybrid": "falcon-h1-0.5b"}
    return {k: synthesise_onnx(scaled_down(find_shape(n)), "int4", folder / k) for k, n in names.items()}


@pytest.fixture
def models(
    request: pytest.FixtureRequest, tiny_models: dict[str, Path], onnx_models: dict[str, Path]
) -> dict[str, Path]:
    """Models of each kind that the flavour can run."""
    return onnx_models if request.getfixturevalue("flavour") == ONNX else tiny_models


@pytest.fixture
def model(models: dict[str, Path]) -> Path:
    """A Transformer that the flavour can run."""
    return models["transformer"]


@pytest.fixture
def native_program(program_of: Program) -> list[str]:
    """The native runner of this machine, linked with the installed libraries."""
    return program_of("native")


def run_program(words: list[str], *, timeout_s: float = 120, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """A program to its end, with what it said."""
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False, input=stdin)
