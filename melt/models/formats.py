"""The formats of models: how each is read, and the law of the memory it takes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from melt.models.buffers import Context, MemoryPrediction
from melt.models.gguf import split
from melt.models.gguf.info import inspect_file
from melt.models.gguf.memory import predict_llama_memory, why_unpredictable
from melt.models.info import Format, ModelInfo
from melt.models.onnx import files
from melt.models.onnx.info import inspect_folder
from melt.models.onnx.memory import predict_onnx_memory


@dataclass(frozen=True)
class FormatRules:
    """What melt does with models of one format.

    ``noun`` is what people call one, ``example`` a reference to one. ``with_files`` adds to what ``inspect`` tells the
    model's hash and its files, by a function that hashes a file.
    """

    noun: str
    example: str
    inspect: Callable[[Path, str], ModelInfo]
    with_files: Callable[[ModelInfo, Callable[[Path], str]], ModelInfo]
    predict_memory: Callable[[ModelInfo, Context], MemoryPrediction]
    why_unpredictable: Callable[[ModelInfo], str]


FORMATS: dict[Format, FormatRules] = {
    "gguf": FormatRules(
        noun="GGUF file",
        example="synth:smollm2-135m@Q4_0",
        inspect=inspect_file,
        with_files=split.with_files,
        predict_memory=predict_llama_memory,
        why_unpredictable=why_unpredictable,
    ),
    "onnx": FormatRules(
        noun="ONNX folder",
        example="synth:smollm2-135m@onnx-int4",
        inspect=inspect_folder,
        with_files=files.with_files,
        predict_memory=predict_onnx_memory,
        why_unpredictable=lambda info: "",
    ),
}


def format_of(path: Path) -> Format:
    """A folder is ONNX, a file GGUF."""
    return "onnx" if path.is_dir() else "gguf"


def inspect(path: Path, ref: str = "") -> ModelInfo:
    """The ModelInfo of the GGUF file or the ONNX folder at ``path``; ``sha256`` and ``files`` are left empty.

    Raises:
        ModelError: it is missing, damaged, cut short, or describes no model.
    """
    return FORMATS[format_of(path)].inspect(path, ref)
