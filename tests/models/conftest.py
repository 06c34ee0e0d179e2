from collections.abc import Iterator
from pathlib import Path

import pytest

from melt.models import ModelCache, scaled_down, synthesise
from melt.models.shapes.zoo import Shape, load_zoo
from tests.support.package_index import PackageIndex, serving

ONE_OF_EACH = (
    "smollm2-135m",
    "llama-3.2-1b",
    "qwen2.5-0.5b",
    "mamba-130m",
    "mamba2-130m",
    "rwkv7-0.1b",
    "falcon-h1-0.5b",
    "granite-4.0-h-350m",
    "lfm2-350m",
    "gemma-3-270m",
    "olmoe-1b-7b",
    "deepseek-v2-lite",
    "jamba-900m",
    "nemotron-h-4b",
    "qwen3.5-0.8b",
    "kimi-linear-48b",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCache:
    """No test touches the real cache."""
    monkeypatch.setenv("MELT_CACHE", str(tmp_path / "cache"))
    return ModelCache()


@pytest.fixture(params=ONE_OF_EACH)
def tiny(request: pytest.FixtureRequest) -> Shape:
    return scaled_down(load_zoo()[request.param])


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    return synthesise(scaled_down(load_zoo()["smollm2-135m"]), "Q4_0", path).path


@pytest.fixture
def package_index(tmp_path: Path) -> Iterator[PackageIndex]:
    with serving(tmp_path / "index") as index:
        yield index
