"""The formats of models: how each is read, and the law of the memory it takes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from melt.models.buffers import Context, MemoryPrediction
from melt.models.gguf.info import inspect_file
from melt.models.gguf.memory import predict_llama_memory, why_unpredictable
from melt.models.info import Format, ModelInfo
from melt.models.onnx.info import inspect_folder
from melt.models.onnx.memory import predict_onnx_memory


@dataclass(frozen=True)
class FormatRules:
    """What melt does with models of one format; ``noun`` is what people call one, ``example`` a reference to one."""

    noun: str
    example: str
    inspect: Callable[[Path, str], ModelInfo]
    predict_memory: Callable[[ModelInfo, Context], MemoryPrediction]
    why_unpredictable: Callable[[ModelInfo], str]


FORMATS: dict[Format, FormatRules] = {
    "gguf": FormatRules("GGUF file", "synth:smollm2-135m@Q4_0", inspect_file, predict_llama_memory, why_unpredictable),
    "onnx": FormatRules(
        "ONNX folder", "synth:smollm2-135m@onnx-int4", inspect_folder, predict_onnx_memory, lambda info: ""
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
