"""Time by operator, from ONNX Runtime's own profile of a session."""

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

_ATTENTION = {"GroupQueryAttention", "MultiHeadAttention", "Attention", "PagedAttention", "RotaryEmbedding", "Softmax"}
_SCAN = {"LinearAttention", "GatedDeltaNet", "Scan", "Loop"}
_CONV = {"CausalConvWithState", "VarlenCausalConvWithState", "Conv", "FusedConv"}
_COPY = {
    *("Transpose", "Reshape", "Concat", "Split", "Slice", "Gather", "Expand", "Cast", "Unsqueeze", "Squeeze", "Shape"),
    *("Identity", "MemcpyToHost", "MemcpyFromHost", "Pad", "Tile", "ScatterND", "Range", "ConstantOfShape"),
}
_ELEMENTWISE = {
    *(
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Neg",
        "Exp",
        "Log",
        "Pow",
        "Sqrt",
        "Sigmoid",
        "Tanh",
        "Softplus",
        "Silu",
        "QuickGelu",
    ),
    *("Gelu", "Relu", "BiasGelu", "ReduceSum", "Where", "Clip", "QuantizeLinear", "DequantizeLinear", "Equal", "Less"),
}


def category_of(op: str, node: str) -> str:
    """The kind of work, in the words of every runner's ``ops`` events."""
    if "MatMul" in op or op in ("Gemm", "MoE", "QMoE"):
        return "output" if "lm_head" in node else "gemm"
    if op.startswith("Gather") and "embed" in node:
        return "embedding"
    if "Normalization" in op:
        return "norm"
    kinds = {"attention": _ATTENTION, "scan": _SCAN, "conv": _CONV, "copy": _COPY, "elementwise": _ELEMENTWISE}
    # Of packed words, such as GatherBlockQuantized beside the embedding, only the first matters.
    return next((kind for kind, ops in kinds.items() if op in ops), "copy" if op.startswith("Gather") else "other")


def runs_in(profile: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The events of each run of the session, in order: those that start within it."""
    events = [e for e in profile if isinstance(e, dict) and "ts" in e and "dur" in e]
    runs = sorted((e for e in events if e.get("name") == "model_run"), key=lambda e: e["ts"])
    nodes = [e for e in events if e.get("cat") == "Node" and str(e.get("name", "")).endswith("_kernel_time")]
    return [[e for e in nodes if run["ts"] <= e["ts"] < run["ts"] + run["dur"]] for run in runs]


def rows_of(runs: Iterable[Iterable[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Time by operator, category and provider, summed over runs."""
    sums: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for run in runs:
        for event in run:
            told = event.get("args", {})
            op, node = str(told.get("op_name", "unknown")), str(event["name"]).removesuffix("_kernel_time")
            device = str(told.get("provider", "unknown")).removesuffix("ExecutionProvider")
            of_op = sums[(op, category_of(op, node), device)]
            of_op[0] += 1
            of_op[1] += round(event["dur"] * 1000)
    return [
        {"op": op, "category": category, "device": device, "count": count, "total_ns": total_ns}
        for (op, category, device), (count, total_ns) in sorted(sums.items())
    ]


def read_profile(path: str) -> list[dict[str, Any]]:
    """The events of a profile file."""
    with open(path, encoding="utf-8") as f:  # noqa: PTH123 - the device program keeps its imports few
        found = json.load(f)
    return found if isinstance(found, list) else []
