"""Graphs of 8-bit weights and 16-bit activations: every tensor between two operators is rounded to a range of its own.

Quantised in the form that providers for neural processors read: a QuantizeLinear and a DequantizeLinear behind each
operator. Ranges come from running the same graph unrounded (``calibrate``).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from melt.models.onnx.graph import Graph, Weight

if TYPE_CHECKING:
    import onnx
    from numpy.typing import ArrayLike

Range = tuple[float, float]
ConstantType = Literal["uint16", "int16", "int8"]

OPSET = 23  # the first with RMSNormalization
WEIGHT_SPREAD = 0.02  # of trained weights; even bytes have one of 256 / sqrt(12)
WEIGHT_SCALE = WEIGHT_SPREAD / (256 / math.sqrt(12))
LEVELS, MIDDLE = 2**16 - 1, 2**15
# Operators that move numbers and change none: what goes in and what comes out has one range.
_MOVES = ("Reshape", "Transpose", "Slice", "Split", "Concat")
_BETWEEN_0_AND_1 = ("Softmax", "Sigmoid")
_MANTISSA_STEPS = 32
_SMALLEST = 1e-6


@dataclass
class QuantisedGraph(Graph):
    """A graph whose weights and constants are integers; what lies between operators is not rounded yet."""

    states: dict[str, str] = field(default_factory=dict)  # the output of each input that is carried on

    def matrix(self, name: str, dims: tuple[int, ...]) -> str:
        """Random 8-bit weights of one scale, as numbers."""
        self.weights.append(Weight(name, "INT8", dims))
        return self._numbers(name)

    def _numbers(self, name: str) -> str:
        """A reading of 8-bit weights; each reader has its own, which is how providers tell them from activations."""
        import numpy as np

        count = sum(n.op_type == "DequantizeLinear" and n.input[0] == name for n in self.nodes)
        scale = self._scalar("/constants/weight/scale", np.float32(WEIGHT_SCALE))
        zero = self._scalar("/constants/weight/zero", np.int8(0))
        out = f"{name}/numbers_{count}"
        return self.ops("DequantizeLinear", f"{name}/DequantizeLinear_{count}", (name, scale, zero), (out,))[0]

    def _scalar(self, name: str, value: Any) -> str:
        import numpy as np
        from onnx import numpy_helper

        self.constants[name] = numpy_helper.from_array(np.array(value), name)
        return name

    def constant(self, name: str, values: "ArrayLike", kind: ConstantType = "uint16") -> str:
        """Known numbers, kept in the graph itself; in types with a sign zero is zero exactly."""
        import numpy as np
        from onnx import numpy_helper

        numbers = np.asarray(values, dtype=np.float64)
        scale, zero = scale_of((float(numbers.min()), float(numbers.max())))
        if kind != "uint16":
            scale, zero = max(float(np.abs(numbers).max()), _SMALLEST) / int(np.iinfo(kind).max), 0
        stored = (np.rint(numbers / np.float32(scale)) + zero).astype(kind)
        self.constants[name] = numpy_helper.from_array(stored, name)
        operands = (
            name,
            self._scalar(f"{name}/scale", np.float32(scale)),
            self._scalar(f"{name}/zero", np.array(zero, kind)),
        )
        count = sum(n.op_type == "DequantizeLinear" and n.input[0] == name for n in self.nodes)
        out = f"{name}/numbers_{count}"
        return self.ops("DequantizeLinear", f"{name}/DequantizeLinear_{count}", operands, (out,))[0]

    def filled(self, name: str, dims: int | tuple[int, ...], value: float = 0.0) -> str:
        """A parameter of one value."""
        import numpy as np

        return self.constant(name, np.full(dims, value))

    def linear(self, name: str, x: str, width_in: int, width_out: int, bias: float | None = None) -> str:
        """A product with a matrix of weights."""
        weight = self.matrix(f"{name}.weight", (width_in, width_out))
        return self.op("MatMul", f"/{name.replace('.', '/')}/MatMul", x, weight)

    def embedding(self, ids: str, vocab: int, width: int) -> str:
        """The rows of the vocabulary."""
        table = self.matrix("model.embed_tokens.weight", (vocab, width))
        return self.op("Gather", "/model/embed_tokens/Gather", table, ids)

    def output(self, x: str, width: int, vocab: int, tied: bool) -> str:
        """Logits of the last position alone; a tied matrix is the embedding's own."""
        tokens = next(i.type.tensor_type.shape.dim[1].dim_value for i in self.inputs if i.name == "input_ids")
        last = self.cut("/model/last_token/Slice", x, 1, tokens - 1, tokens) if tokens > 1 else x
        if not tied:
            return self.linear("lm_head", last, width, vocab)
        row = self.op("Reshape", "/lm_head/Reshape", last, self.integers(1, width))
        weight = self._numbers("model.embed_tokens.weight")
        product = self.op("Gemm", "/lm_head/Gemm", row, weight, transB=1)
        return self.op("Reshape", "/lm_head/Reshape_1", product, self.integers(1, 1, vocab))

    def split(self, node: str, x: str, axis: int, *widths: int) -> tuple[str, ...]:
        """Cuts in parts of such widths."""
        outputs = tuple(f"{node}/output_{i}" for i in range(len(widths)))
        return self.ops("Split", node, (x, self.integers(*widths)), outputs, axis=axis)

    def cut(self, node: str, x: str, axis: int, start: int, end: int) -> str:
        """A piece along one axis."""
        return self.op("Slice", node, x, self.integers(start), self.integers(end), self.integers(axis))

    def rename(self, output: str, name: str) -> None:
        """The last node's output gets the name of one of the graph's."""
        node = next(n for n in reversed(self.nodes) if output in n.output)
        node.output[list(node.output).index(output)] = name

    def state(self, past: str, present: str, dims: tuple[int | str, ...], type_: str = "") -> None:
        """State that goes in as ``past`` and comes out as ``present``, rounded alike."""
        super().state(past, present, dims, type_)
        self.states[past] = present


def scale_of(between: Range, *, symmetric: bool = False) -> tuple[float, int]:
    """Scale and zero of 16 bits without a sign, so that zero is a number among them."""
    low, high = min(between[0], 0.0), max(between[1], 0.0)
    if symmetric:
        return max(-low, high, _SMALLEST) / (MIDDLE - 1), MIDDLE
    scale = max(high - low, _SMALLEST) / LEVELS
    return scale, round(-low / scale)


def widened(between: Range, margin: float) -> Range:
    """With room on both sides, ends rounded outwards: the last bits of a float sum differ between machines."""

    def outwards(value: float) -> float:
        mantissa, exponent = math.frexp(abs(value) * margin)
        return math.copysign(math.ldexp(math.ceil(mantissa * _MANTISSA_STEPS) / _MANTISSA_STEPS, exponent), value)

    return outwards(between[0]), outwards(between[1])


def quantised(graph: QuantisedGraph, ranges: Mapping[str, Range]) -> "list[onnx.NodeProto]":
    """The graph's nodes with a rounding behind each; states are integers outside.

    Args:
        graph: its inputs and outputs already have the types of the result.
        ranges: of every tensor that a node gives, by its name; what is missing is taken as -1 to 1.
    """
    scales = _scales(graph, ranges)
    numbers: dict[str, str] = {}  # what to read in place of a tensor
    out: list[onnx.NodeProto] = []
    for past in graph.states:
        numbers[past] = _dequantised(out, graph, past, past, scales[past])
    constants = {n.output[0] for n in graph.nodes if n.op_type == "DequantizeLinear"}
    finals = {o.name for o in graph.outputs}
    for node in graph.nodes:
        copy = type(node)()
        copy.CopyFrom(node)
        out.append(copy)
        if node.op_type == "DequantizeLinear":
            continue
        copy.input[:] = [numbers.get(i, i) for i in node.input]
        for place, name in enumerate(node.output):
            raw = f"{name}/raw"
            copy.output[place] = raw
            if node.op_type == "Gather" and node.input[0] in constants:  # rows of a table are rounded as the table is
                raw = _as_table(out, graph, raw, node.input[0])
            stored = name if name in graph.states.values() else f"{name}/rounded"
            _node(out, "QuantizeLinear", name, (raw, *_operands(graph, scales[name])), stored)
            if name not in graph.states.values():
                readable = name if name in finals else f"{name}/numbers"
                numbers[name] = _dequantised(out, graph, name, stored, scales[name], readable)
    return out


Scale = tuple[float, int]


def _scales(graph: QuantisedGraph, ranges: Mapping[str, Range]) -> dict[str, Scale]:
    groups = _groups(graph)
    carried = {groups[name] for pair in graph.states.items() for name in pair}
    bounded = {o for n in graph.nodes if n.op_type in _BETWEEN_0_AND_1 for o in n.output}
    union: dict[str, Range] = {}
    for name, group in groups.items():
        low, high = (0.0, 1.0) if name in bounded else ranges.get(name, (-1.0, 1.0))
        before = union.get(group, (low, high))
        union[group] = min(low, before[0]), max(high, before[1])
    softmax = {o for n in graph.nodes if n.op_type == "Softmax" for o in n.output}
    for node in graph.nodes:  # a mean of values is among them, wherever the few tokens of a calibration had it
        if node.op_type == "MatMul" and node.input[0] in softmax:
            union[groups[node.output[0]]] = union[groups[node.input[1]]]
    return {name: scale_of(union[group], symmetric=group in carried) for name, group in groups.items()}


def _groups(graph: QuantisedGraph) -> dict[str, str]:
    """A name in common for tensors that have to have one range."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        leader.setdefault(name, name)
        while leader[name] != name:
            name = leader[name]
        return name

    for past, present in graph.states.items():
        leader[find(present)] = find(past)
    for node in graph.nodes:
        if node.op_type == "DequantizeLinear":
            continue
        together: Sequence[str] = list(node.output)
        if node.op_type in _MOVES:
            data = node.input if node.op_type == "Concat" else node.input[:1]
            together = [*data, *node.output]
        for name in together:
            leader[find(name)] = find(together[0]) if node.op_type in _MOVES else find(name)
    return {name: find(name) for name in list(leader)}


def _node(out: "list[onnx.NodeProto]", kind: str, name: str, inputs: Sequence[str], output: str) -> str:
    from onnx import helper

    out.append(helper.make_node(kind, list(inputs), [output], name=f"{name}/{kind}"))
    return output


def _operands(graph: QuantisedGraph, scale: Scale) -> tuple[str, str]:
    import numpy as np

    name = f"/constants/{float(np.float32(scale[0]))!r},{scale[1]}"
    return graph._scalar(f"{name}/scale", np.float32(scale[0])), graph._scalar(f"{name}/zero", np.uint16(scale[1]))


def _dequantised(
    out: "list[onnx.NodeProto]", graph: QuantisedGraph, name: str, stored: str, scale: Scale, readable: str = ""
) -> str:
    return _node(out, "DequantizeLinear", name, (stored, *_operands(graph, scale)), readable or f"{name}/numbers")


def _as_table(out: "list[onnx.NodeProto]", graph: QuantisedGraph, raw: str, table: str) -> str:
    operands = next(n.input[1:] for n in graph.nodes if n.output[0] == table)
    stored = _node(out, "QuantizeLinear", f"{raw}/row", (raw, *operands), f"{raw}/row")
    return _node(out, "DequantizeLinear", f"{raw}/row", (stored, *operands), f"{raw}/row/numbers")
