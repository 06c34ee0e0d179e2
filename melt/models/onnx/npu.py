"""Whether a graph can fit a neural processor at all: told on the host, before any device is asked.

These are rules that every such provider has. What more a provider refuses, the runner tells when it compiles.
"""

from typing import TYPE_CHECKING

from melt.errors import ModelError
from melt.models.onnx.folder import Folder
from melt.models.onnx.graph import MICROSOFT

if TYPE_CHECKING:
    import onnx

_TAKE = "Take a graph with fixed shapes of plain, quantised operators, for example synth:smollm2-135m@onnx-w8a16"
_ALLOW = "or let the CPU compute what the NPU does not take: cpu_fallback: true."
_TYPES = ("FLOAT", "FLOAT16", "UINT8", "INT8", "UINT16", "INT16", "INT32", "UINT32", "INT64", "BOOL")


def check_for_npu(folder: Folder, ref: str) -> None:
    """Raises ModelError where no NPU can take the model: it names an operator or input, with shape and type."""
    for name in folder.graphs:
        problems = [*_lengths(folder, name), *_operators(folder.graphs[name])]
        if problems:
            raise ModelError(f"{ref}: {name} does not fit an NPU: {'; '.join(problems)}", f"{_TAKE}, {_ALLOW}")


def _lengths(folder: Folder, name: str) -> list[str]:
    """The first input whose shape varies, or whose type no NPU has."""
    graph = folder.graphs[name].graph
    weights = {t.name for t in graph.initializer}
    for given in (i for i in graph.input if i.name not in weights):
        words = _words(given)
        if any(not d.dim_value for d in given.type.tensor_type.shape.dim):
            return [f"input {given.name!r} is {words}, and its lengths have to be fixed"]
        if words.partition("[")[0].upper() not in _TYPES:
            return [f"input {given.name!r} is {words}, a type that no NPU has"]
    return []


def _operators(model: "onnx.ModelProto") -> list[str]:
    """The first of ONNX Runtime's own fused operators, with what it takes, and how many there are.

    None of those that decoders are made of is taken on Hexagon (seen with onnxruntime-qnn 2.7.0).
    """
    fused = [n for n in model.graph.node if n.domain == MICROSOFT]
    if not fused:
        return []
    known = {t.name: _words_of(t.data_type, list(t.dims)) for t in model.graph.initializer}
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    known |= {v.name: _words(v) for v in values}
    first = fused[0]
    takes = ", ".join(f"{i} {known.get(i, 'of unknown shape')}" for i in first.input if i)
    kinds = ", ".join(sorted({n.op_type for n in fused}))
    return [f"{first.op_type} {first.name!r} of {takes} is a fused operator of ONNX Runtime's own (it has {kinds})"]


def _words(value: "onnx.ValueInfoProto") -> str:
    tensor = value.type.tensor_type
    return _words_of(tensor.elem_type, [d.dim_value or d.dim_param or "?" for d in tensor.shape.dim])


def _words_of(kind: int, dims: list[int] | list[int | str]) -> str:
    from onnx import TensorProto

    name = TensorProto.DataType.Name(kind) if kind in TensorProto.DataType.values() else f"type {kind}"
    return f"{name.lower()}[{', '.join(map(str, dims))}]"
