"""Puts together the graph of a decoder: nodes, the weights they read, and the state that goes in and out.

Names and layouts are those that onnxruntime-genai's model builder gives (its ``builders/base.py``, version 0.18), so
that its runtime reads the same folders.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from melt.errors import ModelError

if TYPE_CHECKING:
    import onnx

Precision = Literal["int4", "fp16", "fp32", "w8a16"]
PRECISIONS: tuple[Precision, ...] = ("int4", "fp16", "fp32", "w8a16")
BLOCK_SIZE = 32  # weights that share a scale, as onnxruntime-genai's builder has it
OPSET = 21
IR_VERSION = 10
MICROSOFT = "com.microsoft"

_ELEMENT_BYTES = {"FLOAT": 4, "FLOAT16": 2, "UINT8": 1, "INT8": 1}


@dataclass(frozen=True)
class Weight:
    """A tensor of the data file.

    ``fill`` is "random", "scale" (of a block of 4-bit weights), "decay" (the negative ramp of a state matrix), "cos",
    "sin" (rotary angles; ``theta`` is their base) or a number. ``same_as`` names a weight whose bytes this one shares
    under another shape.
    """

    name: str
    type: str
    dims: tuple[int, ...]
    fill: str | float = "random"
    theta: float = 0.0
    same_as: str = ""

    @property
    def elements(self) -> int:
        """How many numbers."""
        return math.prod(self.dims)

    @property
    def size_bytes(self) -> int:
        """Bytes in the file."""
        return self.elements * _ELEMENT_BYTES[self.type]


@dataclass
class Graph:
    """A graph in the making. Methods that add nodes give the name of their output."""

    precision: Precision
    nodes: "list[onnx.NodeProto]" = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)
    constants: "dict[str, onnx.TensorProto]" = field(default_factory=dict)
    inputs: "list[onnx.ValueInfoProto]" = field(default_factory=list)
    outputs: "list[onnx.ValueInfoProto]" = field(default_factory=list)

    @property
    def type(self) -> str:
        """The type of activations, and of weights that are not quantised."""
        return "FLOAT16" if self.precision == "fp16" else "FLOAT"

    def op(self, kind: str, name: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Adds a node with one output."""
        return self.ops(kind, name, inputs, (f"{name}/output_0",), domain, **attributes)[0]

    def ops(
        self,
        kind: str,
        name: str,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        domain: str = "",
        **attributes: Any,
    ) -> tuple[str, ...]:
        """Adds a node; an output with no name is one that nobody wants."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), list(outputs), name=name, domain=domain, **attributes))
        return outputs

    def weight(self, name: str, dims: tuple[int, ...], fill: str | float = "random", **more: Any) -> str:
        """A tensor of the data file, in the graph's own type where no other is named."""
        self.weights.append(Weight(name, more.pop("type", self.type), dims, fill, **more))
        return name

    def integers(self, *values: int) -> str:
        """A constant of 64-bit integers, kept in the graph itself."""
        import numpy as np
        from onnx import numpy_helper

        name = f"/constants/{','.join(map(str, values))}"
        self.constants[name] = numpy_helper.from_array(np.array(values, dtype=np.int64), name)
        return name

    def number(self, value: float) -> str:
        """A scalar in the graph's type."""
        import numpy as np
        from onnx import numpy_helper

        name = f"/constants/{value!r}"
        type_ = np.float16 if self.type == "FLOAT16" else np.float32
        self.constants[name] = numpy_helper.from_array(np.array(value, dtype=type_), name)
        return name

    def linear(self, name: str, x: str, width_in: int, width_out: int, bias: float | None = None) -> str:
        """A product with a matrix of weights, in the graph's precision."""
        node = f"/{name.replace('.', '/')}"
        if self.precision == "int4":
            y = self.op(
                "MatMulNBits",
                f"{node}/MatMulNBits",
                x,
                *self._packed(name, width_in, width_out),
                domain=MICROSOFT,
                **self._bits(width_in, width_out),
            )
        else:
            y = self.op("MatMul", f"{node}/MatMul", x, self.weight(f"{name}.weight", (width_in, width_out)))
        return y if bias is None else self.op("Add", f"{node}/Add", y, self.weight(f"{name}.bias", (width_out,), bias))

    def embedding(self, ids: str, vocab: int, width: int) -> str:
        """The rows of the vocabulary; 4-bit ones are unpacked row by row."""
        name = "model.embed_tokens"
        if self.precision != "int4":
            return self.op("Gather", "/model/embed_tokens/Gather", self.weight(f"{name}.weight", (vocab, width)), ids)
        _check_blocks(name, width)
        flat = self.weight(f"{name}.weight", (vocab, width // 2), type="UINT8")
        scales = self.weight(f"{name}.scales", (vocab, width // BLOCK_SIZE), "scale")
        attributes = {"bits": 4, "block_size": BLOCK_SIZE, "gather_axis": 0, "quantize_axis": 1}
        gather = "/model/embed_tokens/GatherBlockQuantized"
        return self.op("GatherBlockQuantized", gather, flat, ids, scales, domain=MICROSOFT, **attributes)

    def output(self, x: str, width: int, vocab: int, tied: bool) -> str:
        """Logits of the last position alone; a tied matrix is the embedding's own bytes."""
        last = self.op("Gather", "/model/last_token/Gather", x, self.integers(-1), axis=1)
        if not tied:
            return self.linear("lm_head", last, width, vocab)
        if self.precision == "int4":
            packed = self.weight(
                "lm_head.weight",
                (vocab, width // BLOCK_SIZE, BLOCK_SIZE // 2),
                type="UINT8",
                same_as="model.embed_tokens.weight",
            )
            scales = "model.embed_tokens.scales"
            attributes = self._bits(width, vocab)
            return self.op("MatMulNBits", "/lm_head/MatMulNBits", last, packed, scales, domain=MICROSOFT, **attributes)
        row = self.op("Reshape", "/lm_head/Reshape", last, self.integers(-1, width))
        product = self.op("Gemm", "/lm_head/Gemm", row, "model.embed_tokens.weight", transB=1)
        return self.op("Unsqueeze", "/lm_head/Unsqueeze", product, self.integers(1))

    def _packed(self, name: str, width_in: int, width_out: int) -> tuple[str, str]:
        _check_blocks(name, width_in)
        blocks = width_in // BLOCK_SIZE
        packed = self.weight(f"{name}.weight", (width_out, blocks, BLOCK_SIZE // 2), type="UINT8")
        return packed, self.weight(f"{name}.scales", (width_out, blocks), "scale")

    def _bits(self, width_in: int, width_out: int) -> dict[str, int]:
        # Level 4: activations are rounded to 8 bits for the product, which is what makes 4-bit weights fast on a CPU.
        return {"K": width_in, "N": width_out, "bits": 4, "block_size": BLOCK_SIZE, "accuracy_level": 4}

    def value(self, name: str, type_: str, dims: tuple[int | str, ...]) -> "onnx.ValueInfoProto":
        """An input or output of the graph; a word stands for a length that varies."""
        from onnx import TensorProto, helper

        return helper.make_tensor_value_info(name, getattr(TensorProto, type_), list(dims))

    def state(self, past: str, present: str, dims: tuple[int | str, ...], type_: str = "") -> None:
        """State that goes in as ``past`` and comes out as ``present``."""
        self.inputs.append(self.value(past, type_ or self.type, dims))
        self.outputs.append(self.value(present, type_ or self.type, tuple(_present(d) for d in dims)))


def _check_blocks(name: str, width: int) -> None:
    if width % BLOCK_SIZE:
        raise ModelError(f"{name}: rows of {width} do not fill blocks of {BLOCK_SIZE}", "Take fp32 or fp16 weights.")


def _present(dim: int | str) -> int | str:
    return "total_sequence_length" if dim == "past_sequence_length" else dim
