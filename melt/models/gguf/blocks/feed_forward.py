"""Feed-forward layers: gated, plain, and mixtures of experts."""

from melt.models.gguf.blocks.tensor import Plan, TensorSpec
from melt.models.shapes.zoo import Shape


def gated_mlp(shape: Shape) -> Plan:
    """Gate, down and up."""
    yield TensorSpec("ffn_gate.weight", (shape.d_model, shape.ff))
    yield TensorSpec("ffn_down.weight", (shape.ff, shape.d_model))
    yield TensorSpec("ffn_up.weight", (shape.d_model, shape.ff))


def plain_mlp(shape: Shape) -> Plan:
    """Up and down, without a gate."""
    yield TensorSpec("ffn_up.weight", (shape.d_model, shape.ff))
    yield TensorSpec("ffn_down.weight", (shape.ff, shape.d_model))


def feed_forward(shape: Shape, index: int) -> Plan:
    """The layer's experts, or a gated MLP where it has none."""
    has_experts = shape.experts and index not in shape.plain_layers
    yield from _experts(shape) if has_experts else gated_mlp(shape)


def _experts(shape: Shape) -> Plan:
    """The router, and each matrix of all experts in one tensor; those that every token goes through apart."""
    d, width, count = shape.d_model, shape.expert_ff, shape.experts
    yield TensorSpec("ffn_gate_inp.weight", (d, count))
    yield TensorSpec("ffn_gate_exps.weight", (d, width, count))
    yield TensorSpec("ffn_down_exps.weight", (width, d, count))
    yield TensorSpec("ffn_up_exps.weight", (d, width, count))
    if shape.shared_experts:
        shared = shape.shared_experts * width
        yield TensorSpec("ffn_gate_shexp.weight", (d, shared))
        yield TensorSpec("ffn_down_shexp.weight", (shared, d))
        yield TensorSpec("ffn_up_shexp.weight", (d, shared))
