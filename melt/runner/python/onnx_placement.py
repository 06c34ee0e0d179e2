"""Which provider computes which node, as ONNX Runtime tells it once a graph is loaded."""

from collections import Counter
from typing import Any

from job import Job

SUFFIX = "ExecutionProvider"
Placed = dict[str, "Counter[str]"]  # by provider, how many nodes of each operator
_PRODUCTS = ("MatMul", "MatMulNBits", "Gemm", "FusedMatMul", "DequantizeLinear", "EPContext")
_SHOWN = 4


def placement(session: Any) -> Placed:
    """Which provider computes how many nodes of each operator; empty where this build cannot tell (before 1.24)."""
    found: Placed = {}
    for part in _parts(session):
        counts = found.setdefault(part.ep_name.removesuffix(SUFFIX), Counter())
        counts.update(node.op_type for node in part.get_nodes())
    return found


def _parts(session: Any) -> list[Any]:
    return list(getattr(session, "get_provider_graph_assignment_info", list)())


def effective_accelerator(placed: Placed, job: Job, provider: str) -> str | None:
    """What was asked for where at least half of the products with weights are computed there, else the CPU.

    None where nobody can tell; what has no other provider than the CPU's is the CPU's.
    """
    if not placed:
        return "cpu" if provider == "CPU" else None
    products = {name: sum(counts[op] for op in _PRODUCTS) for name, counts in placed.items()}
    there = products.get(provider, 0)
    return job.accelerator if 2 * there >= max(1, sum(products.values())) else "cpu"


def fallback(placed: Placed, provider: str) -> str:
    """What another provider computes than the one that was asked for; empty where there is nothing of the kind."""
    others = {name: counts for name, counts in placed.items() if name != provider}
    parts = [
        f"{sum(counts.values())} nodes on {name} ({', '.join(f'{op} {n}' for op, n in counts.most_common(8))})"
        for name, counts in others.items()
    ]
    return f"asked for {provider}: " + "; ".join(parts) if parts else ""


def refused(session: Any, graph: str, provider: str) -> str:
    """The nodes that the provider left to others, with shapes and types; empty where there are none."""
    nodes = [n for part in _parts(session) if part.ep_name.removesuffix(SUFFIX) != provider for n in part.get_nodes()]
    if not nodes:
        return ""
    operands = _operands_of(graph)
    shown = [f"{n.op_type} {n.name!r}{operands.get(n.name, '')}" for n in nodes[:_SHOWN]]
    more = f" and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else ""
    return f"{provider} does not take {'; '.join(shown)}{more}. The job's cpu_fallback would let the CPU compute them"


def _operands_of(graph: str) -> dict[str, str]:
    """What each node takes, as type and shape in words; empty where the device's Python has no onnx to tell it."""
    try:
        import onnx

        model = onnx.shape_inference.infer_shapes(onnx.load(graph, load_external_data=False))
    except Exception:  # it only adds to a message
        return {}
    told = {t.name: (t.data_type, list(t.dims)) for t in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        tensor = value.type.tensor_type
        told[value.name] = (tensor.elem_type, [d.dim_value or d.dim_param or "?" for d in tensor.shape.dim])
    words = {name: f"{onnx.TensorProto.DataType.Name(kind).lower()}{dims}" for name, (kind, dims) in told.items()}
    return {n.name: f" of {', '.join(words.get(i, 'unknown') for i in n.input if i)}" for n in model.graph.node}
