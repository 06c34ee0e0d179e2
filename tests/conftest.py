"""Every test has a cache and profiles of its own; nothing of the user's is read or written."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from melt.drivers.lease import SCOPE
from melt.models.gguf.synth import synthesise
from melt.models.shapes.zoo import find_shape, scaled_down
from tests.long import PARTS

# Builds of the native runner outlive a test run; `make clean` removes them.
KEPT_BUILDS = (Path(__file__).parents[1] / ".test-cache").resolve()  # one path, where worktrees share it

# The gate tries the same examples every time and never the clock; `pytest --hypothesis-profile explore` tries others.
settings.register_profile(
    "gate",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("explore", settings.get_profile("gate"), derandomize=False, max_examples=5000)
settings.load_profile("gate")


PART_NAMES = [part.name for part in PARTS]
# Run only where it is asked for by its name, as in `pytest -m hardware`.
ASKED_FOR = ("hardware", "vulkan", "long", "doubles")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=0, help="of the random choices of long tests")


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """Of every random choice; `make test-long` prints it."""
    return int(pytestconfig.getoption("--seed"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unknown = {str(m.kwargs) for i in items for m in i.iter_markers("long") if m.kwargs.get("part") not in PART_NAMES}
    if unknown:
        raise pytest.UsageError(f"long{unknown}: tests/long.py has the parts {', '.join(PART_NAMES)}")
    apart = [name for name in ASKED_FOR if name not in config.option.markexpr]
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in apart)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Only root may make a machine of its own; CI is root, and skips nothing."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root: it makes a machine in a box, or mounts a disk")


@pytest.fixture
def kept_builds(monkeypatch: pytest.MonkeyPatch, own_folders: None) -> None:
    """The cache that `make runners` has filled, for a test that needs a built runner."""
    monkeypatch.setenv("MELT_CACHE", str(KEPT_BUILDS))


@pytest.fixture(autouse=True, scope="session")
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Temporary files of this test process alone.

    So are its leases: two test processes at once on one machine would refuse each other this machine.
    """
    folder = tmp_path_factory.getbasetemp() / "tmp"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setenv(SCOPE, str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MELT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MELT_PROFILES", str(tmp_path / "profiles"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    # No phone and no adb server of the user's: nothing answers on this port, and melt starts no server there.
    monkeypatch.setenv("ADB_SERVER_SOCKET", "tcp:127.0.0.1:1")
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", "127.0.0.1:1")  # nor an iPhone of the user's


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A real, very small model of each kind: it loads and decodes in llama.cpp within milliseconds."""
    folder = tmp_path_factory.mktemp("tiny-models")
    made = {}
    for kind, name in {"transformer": "smollm2-135m", "ssm": "mamba-130m", "hybrid": "falcon-h1-0.5b"}.items():
        made[kind] = folder / f"tiny-{kind}.gguf"
        synthesise(scaled_down(find_shape(name)), "Q8_0", made[kind])
    return made


@pytest.fixture(scope="session")
def tiny_model(tiny_models: dict[str, Path]) -> Path:
    return tiny_models["transformer"]
