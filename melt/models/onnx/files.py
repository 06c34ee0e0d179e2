"""The files of an ONNX model folder that go to a device, and the hash of them all."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from melt.models.info import ModelFile, ModelInfo
from melt.models.onnx.folder import read_folder

Hash = Callable[[Path], str]


def with_files(info: ModelInfo, sha256_of: Hash) -> ModelInfo:
    """``info`` with what goes to a device, and the hash of it all."""
    files = _files_of(Path(info.path), sha256_of)
    return replace(info, files=files, sha256=_sha256_of_all(files))


def folder_sha256(folder: Path, sha256_of: Hash) -> str:
    """The hash of a folder: of the lines that sha256sum would print of its files."""
    return _sha256_of_all(_files_of(folder, sha256_of))


def _files_of(folder: Path, sha256_of: Hash) -> tuple[ModelFile, ...]:
    paths = {name: folder / name for name in read_folder(folder).files}
    return tuple(ModelFile(name, sha256_of(path), path.stat().st_size) for name, path in paths.items())


def _sha256_of_all(files: tuple[ModelFile, ...]) -> str:
    lines = "".join(f"{f.sha256}  {f.name}\n" for f in files)
    return hashlib.sha256(lines.encode()).hexdigest()
