"""Models of random weights, of the shapes in the zoo."""

from dataclasses import dataclass
from pathlib import Path

from melt.errors import ModelError
from melt.models.cache import Made, Progress, hash_file
from melt.models.gguf import synth
from melt.models.gguf.mix import QUANTS
from melt.models.info import Format, ModelInfo
from melt.models.onnx import synth as onnx_synth
from melt.models.onnx.files import folder_sha256
from melt.models.onnx.folder import Folder
from melt.models.onnx.graph import PRECISIONS, Precision
from melt.models.onnx.layers import check_shape
from melt.models.shapes.zoo import Shape, find_shape, suggest
from melt.models.sources.base import CachedRef

DEFAULT_QUANT = "Q4_0"
# GGUF's recipes by llama.cpp's names, ONNX's precisions by those of onnxruntime-genai's builder.
ONNX_QUANTS: dict[str, Precision] = {f"onnx-{p}": p for p in PRECISIONS}
SYNTH_QUANTS = (*QUANTS, *ONNX_QUANTS)


@dataclass(frozen=True)
class SynthRef(CachedRef):
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
        """The shape's name."""
        return self.shape.name

    @property
    def cache_key(self) -> str:
        """Names the generator too, so that a newer melt does not take an older one's file."""
        made_by = onnx_synth if self.format == "onnx" else synth
        return f"{self.text}#{made_by.GENERATOR_VERSION}"

    def make(self, out: Path, progress: Progress | None = None) -> Made:
        """Write it."""
        if self.format == "onnx":
            folder = onnx_synth.synthesise_onnx(self.shape, ONNX_QUANTS[self.quant], out, progress=progress)
            return Made(sha256=folder_sha256(folder, hash_file))
        return Made(sha256=synth.synthesise(self.shape, self.quant, out, progress=progress).sha256)

    def describe(self) -> ModelInfo:
        """What it will be is known exactly."""
        if self.format == "onnx":
            return onnx_synth.describe_onnx(self.shape, ONNX_QUANTS[self.quant], self.text)
        return synth.describe_gguf(self.shape, self.quant, self.text)

    def onnx_folder(self) -> Folder | None:
        """Its graph, ranges apart, which are found when it is made."""
        return onnx_synth.design_onnx(self.shape, ONNX_QUANTS[self.quant]) if self.format == "onnx" else None


def parse_synth(text: str, rest: str) -> SynthRef:
    """Understand NAME[@QUANT], the ``rest`` of a reference behind its scheme.

    Raises:
        ModelError: there is no such shape or quantisation, or not of the two together.
    """
    name, at, quant = rest.partition("@")
    if at and not quant:
        raise ModelError(f"{text!r} ends at its @", f"Write for example synth:{name}@{DEFAULT_QUANT}.")
    ref = SynthRef(find_shape(name), _check_quant(quant or DEFAULT_QUANT))
    if ref.format == "onnx":
        check_shape(ref.shape)
    return ref


def _check_quant(quant: str) -> str:
    for known in SYNTH_QUANTS:
        if quant.lower() == known.lower():
            return known
    hint = f"As ONNX: onnx-{quant.lower()}" if quant.lower() in PRECISIONS else suggest(quant, list(SYNTH_QUANTS))
    raise ModelError(f"cannot synthesise the quantisation {quant!r}", hint)
