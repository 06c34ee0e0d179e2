"""Models in several GGUF files, as llama-gguf-split makes them: NAME-00001-of-00003.gguf and so on.

The first file has the metadata, and each a share of the tensors. An engine is given the first and finds the others by
their names; so melt makes their names from the first's, which keeps them in its folder.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from melt.errors import ModelError
from melt.models.gguf.header import MAX_TENSORS, Header, TensorInfo, read_header
from melt.models.gguf.metadata import Metadata
from melt.models.info import ModelFile, ModelInfo

MAX_FILES = 1000  # published models have some dozens at most
_NAME = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})\.gguf", re.DOTALL)
_AGAIN = "Fetch or copy all files of one model again."


@dataclass(frozen=True)
class Part:
    """Which of a model's files one is, by its name: the ``number``th of ``count``."""

    stem: str
    number: int
    count: int

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.stem}-{self.number:05d}-of-{self.count:05d}.gguf"

    @property
    def names(self) -> list[str]:
        """Those of all files of its model."""
        return [replace(self, number=n).name for n in range(1, self.count + 1)]


@dataclass(frozen=True)
class _Said:
    """Which of a model's files one is, by its header; of a whole model, the first of one."""

    number: int
    count: int
    tensors: int | None  # of all files together


def part_named(name: str) -> Part | None:
    """What a file's name says; None of the name of a whole model."""
    found = _NAME.fullmatch(name)
    return Part(found[1], int(found[2]), int(found[3])) if found and int(found[3]) > 1 else None


def stem_of(name: str) -> str:
    """A model's name by its file's: without the ending, and without which of several it is."""
    part = part_named(name)
    return part.stem if part else Path(name).stem


def read_model(path: Path) -> tuple[Header, tuple[Path, ...]]:
    """The header of the model that begins with the file at ``path``, and its files.

    Of a model in several files it is the first one's, with the tensors of all.

    Raises:
        ModelError: a file is missing, damaged, misnamed or of another model, or ``path`` is not the first.
    """
    first = read_header(path)
    said = _said(first, path)
    if said.count == 1:
        return first, (path,)
    files = _files_from(path, said)
    tensors = {t.name: t for t in first.tensors}
    for number, file in enumerate(files[1:], 2):
        header = read_header(file)
        if why := _why_stranger(header, file, first, replace(said, number=number)) or _why_not_added(header, tensors):
            raise ModelError(f"{file} does not belong to {path.name}: {why}", _AGAIN)
        tensors |= {t.name: t for t in header.tensors}
    if len(tensors) != said.tensors:
        raise ModelError(f"{path}: its {said.count} files have {len(tensors)} tensors, not {said.tensors}", _AGAIN)
    return replace(first, tensors=tuple(tensors.values())), files


def with_files(info: ModelInfo, sha256_of: Callable[[Path], str]) -> ModelInfo:
    """``info`` with the hash of its file; of several files, with the hash of each and one of them all."""
    path = Path(info.path)
    part = part_named(path.name)
    if info.n_files == 1 or part is None:
        return replace(info, sha256=sha256_of(path))
    paths = [path.with_name(name) for name in part.names]
    files = tuple(ModelFile(p.name, sha256_of(p), p.stat().st_size) for p in paths)
    return replace(info, files=files, sha256=sha256_of_all(f.sha256 for f in files))


def sha256_of_all(hashes: Iterable[str]) -> str:
    """One hash of a model's files, whatever they are called: that of their hashes in order, one a line."""
    return hashlib.sha256("".join(f"{sha256}\n" for sha256 in hashes).encode()).hexdigest()


def not_the_first(label: str, part: Part, first: str) -> ModelError:
    """What is said where another file of a model is named than its first."""
    return ModelError(f"{label} is file {part.number} of {part.count} of a model", f"Name its first file: {first}")


def check_count(label: str, count: int) -> None:
    """Raises ModelError where a model claims to be in more files than anybody's is."""
    if count > MAX_FILES:
        raise ModelError(
            f"{label} claims to be in {count:,} files (at most {MAX_FILES:,} are read)",
            "Download it again, from a source you trust.",
        )


def _said(header: Header, path: Path) -> _Said:
    meta = Metadata(header.metadata, "split.", str(path))
    count = meta.count("count")
    if count < 2:
        return _Said(1, 1, None)
    check_count(str(path), count)
    tensors = meta.count("tensors.count", default=-1)
    return _Said(meta.count("no") + 1, count, tensors if tensors >= 0 else None)


def _files_from(path: Path, said: _Said) -> tuple[Path, ...]:
    """All files of a model by its first, each of which is there."""
    named = part_named(path.name)
    if named is None or (named.number, named.count) != (said.number, said.count):
        raise ModelError(
            f"{path} is file {said.number} of {said.count} of a model, and its name does not say so",
            f"Engines find the others by name: call it {Part('NAME', said.number, said.count).name}, and them alike.",
        )
    if named.number != 1:
        raise not_the_first(str(path), named, named.names[0])
    if said.tensors is None or said.tensors > MAX_TENSORS:
        raise ModelError(f"{path}: it does not say how many tensors its {said.count} files have", _AGAIN)
    files = tuple(path.with_name(name) for name in named.names)
    for file in files:
        if not file.is_file():
            raise ModelError(
                f"{file} is missing: {path.name} is file 1 of {said.count} of a model",
                "Put all its files into one folder.",
            )
    return files


def _why_stranger(header: Header, file: Path, first: Header, wanted: _Said) -> str:
    """Why a file is of another model than the first; empty where nothing says so."""
    said = _said(header, file)
    if said.count == 1:
        return "it is a whole model, or none"
    if (said.number, said.count) != (wanted.number, wanted.count):
        return f"it is file {said.number} of {said.count}"
    if said.tensors not in (None, wanted.tensors):
        return f"its model has {said.tensors} tensors, not {wanted.tensors}"
    archs = [str(h.metadata.get("general.architecture", "")) for h in (header, first)]
    return f"its model is {archs[0]!r}, not {archs[1]!r}" if archs[0] and archs[0] != archs[1] else ""


def _why_not_added(header: Header, tensors: dict[str, TensorInfo]) -> str:
    twice = next((t.name for t in header.tensors if t.name in tensors), None)
    return f"tensor {twice!r} is in an earlier file too" if twice is not None else ""
