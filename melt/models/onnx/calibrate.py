"""The range of every tensor of a decoder: found by running it, unrounded, over random tokens on the CPU."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melt.errors import ModelError
from melt.models.onnx.qdq import OPSET, QuantisedGraph, Range, widened

if TYPE_CHECKING:
    import onnx

MARGIN = 1.25  # other tokens than these give numbers a little larger
_SEED = 0
_BEGINNINGS = 3  # the first tokens of a text see little before them, and give the largest numbers
_STEPS = 8  # single tokens after the chunks
_IR_VERSION = 10
_BYTES_PER_WEIGHT = 12  # SmolLM2-135M took 1.5 GB


def calibrate(
    prefill: QuantisedGraph,
    decode: QuantisedGraph,
    initializers_of: "Callable[[QuantisedGraph], list[onnx.TensorProto]]",
    folder: Path,
    name: str,
) -> dict[str, Range]:
    """Ranges by the tensors' names, which both graphs have in common.

    Args:
        prefill: the graph that reads a chunk; as many of them are read as fill the caches, four at least, after some
            that begin anew.
        decode: the graph of one token.
        initializers_of: the constants and weights of a graph, these in files of ``folder``.
        folder: where the weights lie; a graph is written there for the time.
        name: the model's, for errors.

    Raises:
        ModelError: ONNX Runtime is not installed.
    """
    import numpy as np

    rng = np.random.default_rng(_SEED)
    state: dict[str, Any] = {}
    found: dict[str, Range] = {}
    seen = 0
    for graph in (prefill, decode):
        watched = _Watched(graph, initializers_of(graph), folder, name)
        tokens, context = _lengths(graph)
        n_calls = _BEGINNINGS + max(4, -(-context // tokens)) if graph is prefill else _STEPS
        for call in range(n_calls):
            if graph is prefill and call <= _BEGINNINGS:
                state, seen = {}, 0
            ids = rng.integers(0, watched.vocab, (1, tokens), dtype=np.int32)
            state, extremes = watched.run(ids, seen, state)
            seen += tokens
            found = _widest(found, extremes)
        del watched  # so that one session is there at a time
    return {tensor: widened(between, MARGIN) for tensor, between in found.items()}


def _widest(found: Mapping[str, Range], more: Mapping[str, Range]) -> dict[str, Range]:
    """The range that holds both, of each tensor of ``more``."""
    before = {tensor: found.get(tensor, one) for tensor, one in more.items()}
    return {**found, **{t: (min(low, before[t][0]), max(high, before[t][1])) for t, (low, high) in more.items()}}


def check_memory(graph: QuantisedGraph, name: str) -> None:
    """Raises ModelError where running the graph takes more memory than this machine has."""
    needed = _BYTES_PER_WEIGHT * sum(w.elements for w in graph.weights)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise ModelError(
            f"{name}: its ranges are found by running it, which takes some {needed / 2**30:.0f} GiB of memory; this "
            f"machine has {there / 2**30:.0f}",
            "Make it on a larger machine, or take a smaller model.",
        )


def _lengths(graph: QuantisedGraph) -> tuple[int, int]:
    """Tokens of a call, and how many the caches hold."""
    dims = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in graph.inputs}
    tokens = dims["input_ids"][1]
    return tokens, dims["attention_mask"][1] - tokens


class _Watched:
    """A session that gives the smallest and the largest number of every tensor."""

    def __init__(
        self, graph: QuantisedGraph, initializers: "Sequence[onnx.TensorProto]", folder: Path, name: str
    ) -> None:
        try:
            import onnxruntime as ort
        except ImportError as e:
            raise ModelError(
                f"{name}: its ranges are found by running it, and onnxruntime is not installed",
                "pip install 'melt-bench[local]'",
            ) from e
        self.states = graph.states
        self.tensors = [o for n in graph.nodes if n.op_type != "DequantizeLinear" for o in n.output]
        self.given = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in graph.inputs}
        self.tokens, self.context = _lengths(graph)
        self.vocab = next(o for o in graph.outputs if o.name == "logits").type.tensor_type.shape.dim[2].dim_value
        path = folder / "calibration.onnx"
        path.write_bytes(self._model(graph, initializers).SerializeToString())
        try:
            options = ort.SessionOptions()
            options.log_severity_level = 3
            # So that weights are turned into floats when they are needed, and not all of them at once.
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.enable_cpu_mem_arena = False
            self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        finally:
            path.unlink()

    def _model(self, graph: QuantisedGraph, initializers: "Sequence[onnx.TensorProto]") -> "onnx.ModelProto":
        from onnx import TensorProto, helper

        float_ = TensorProto.FLOAT
        inputs = [
            helper.make_tensor_value_info(i.name, float_, self.given[i.name]) if i.name in self.states else i
            for i in graph.inputs
        ]
        nodes, ends = list(graph.nodes), []
        for i, tensor in enumerate(self.tensors):
            for kind in ("ReduceMin", "ReduceMax"):
                ends.append(helper.make_tensor_value_info(f"/{kind}/{i}", float_, []))
                nodes.append(helper.make_node(kind, [tensor], [f"/{kind}/{i}"], keepdims=0))
        ends += [helper.make_tensor_value_info(present, float_, None) for present in self.states.values()]
        made = helper.make_graph(nodes, "calibration", inputs, ends, list(initializers))
        return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)

    def run(self, ids: Any, seen: int, state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Range]]:
        """One call; the state after it, and the extremes."""
        import numpy as np

        fed: dict[str, Any] = {"input_ids": ids}
        length = self.given["attention_mask"][1]
        fed["attention_mask"] = (np.arange(length) >= length - seen - self.tokens).astype(np.int32)[None]
        if "position_ids" in self.given:
            last = max(0, self.context - self.tokens)
            fed["position_ids"] = (np.arange(self.tokens) + min(seen, last)).astype(np.int32)[None]
        for past in self.states:
            fed[past] = state.get(past, np.zeros(self.given[past], np.float32))
        out = self.session.run(None, fed)
        ends = 2 * len(self.tensors)
        extremes = {t: (float(out[2 * i]), float(out[2 * i + 1])) for i, t in enumerate(self.tensors)}
        return dict(zip(self.states, out[ends:], strict=True)), extremes
