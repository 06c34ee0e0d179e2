"""Layers that carry a state along: Mamba, Mamba-2, short convolutions, RWKV-7, gated delta nets."""

from melt.models.gguf.blocks.tensor import Plan, TensorSpec, layer_norm, norm
from melt.models.shapes.zoo import Shape


def mamba(shape: Shape, normed: bool = False) -> Plan:
    """Mamba's mixer; ``normed``: its time step, B and C have norms (Jamba)."""
    d, inner, state, rank = shape.d_model, shape.d_inner, shape.d_state, shape.dt_rank
    yield TensorSpec("ssm_in.weight", (d, 2 * inner))
    yield TensorSpec("ssm_conv1d.weight", (shape.d_conv, inner))
    yield TensorSpec("ssm_conv1d.bias", (inner,), 0.0)
    yield TensorSpec("ssm_x.weight", (inner, rank + 2 * state))
    if normed:
        yield from (norm("ssm_dt_norm", rank), norm("ssm_b_norm", state), norm("ssm_c_norm", state))
    yield TensorSpec("ssm_dt.weight", (rank, inner))
    yield TensorSpec("ssm_dt.bias", (inner,), -4.0)
    yield TensorSpec("ssm_a", (state, inner), "decay")
    yield TensorSpec("ssm_d", (inner,), 1.0)
    yield TensorSpec("ssm_out.weight", (inner, d))


def mamba2(shape: Shape, normed: bool = True) -> Plan:
    """Mamba-2's mixer; ``normed``: its output has a norm."""
    d, inner, heads = shape.d_model, shape.d_inner, shape.dt_rank
    convolved = inner + 2 * shape.groups * shape.d_state
    yield TensorSpec("ssm_in.weight", (d, inner + convolved + heads))
    yield TensorSpec("ssm_conv1d.weight", (shape.d_conv, convolved))
    yield TensorSpec("ssm_conv1d.bias", (convolved,), 0.0)
    yield TensorSpec("ssm_dt.bias", (heads,), -4.0)
    yield TensorSpec("ssm_a", (1, heads), "decay")
    yield TensorSpec("ssm_d", (1, heads), 1.0)
    if normed:
        yield TensorSpec("ssm_norm.weight", (inner // shape.groups, shape.groups), 1.0)
    yield TensorSpec("ssm_out.weight", (inner, d))


def short_convolution(shape: Shape) -> Plan:
    """LFM2's gated convolution."""
    d = shape.d_model
    yield TensorSpec("shortconv.conv.weight", (shape.d_conv, d))
    yield TensorSpec("shortconv.in_proj.weight", (d, 3 * d))
    yield TensorSpec("shortconv.out_proj.weight", (d, d))


def gated_delta_net(shape: Shape) -> Plan:
    """The linear attention of Qwen3-Next and Qwen3.5: ``groups`` key heads of ``d_state``, ``dt_rank`` value heads."""
    d, values, heads = shape.d_model, shape.d_inner, shape.dt_rank
    convolved = values + 2 * shape.groups * shape.d_state
    yield TensorSpec("attn_qkv.weight", (d, convolved))
    yield TensorSpec("attn_gate.weight", (d, values))
    yield TensorSpec("ssm_conv1d.weight", (shape.d_conv, convolved))
    yield TensorSpec("ssm_dt.bias", (heads,), -4.0)
    yield TensorSpec("ssm_a", (heads,), "decay")
    yield TensorSpec("ssm_beta.weight", (d, heads))
    yield TensorSpec("ssm_alpha.weight", (d, heads))
    yield norm("ssm_norm", values // heads)
    yield TensorSpec("ssm_out.weight", (values, d))


def kimi_delta_attention(shape: Shape) -> Plan:
    """Kimi's delta attention: a gate for each channel of a key, out of two thin matrices."""
    d, head, width = shape.d_model, shape.kda_head, shape.heads * shape.kda_head
    for part in ("q", "k", "v"):
        yield TensorSpec(f"ssm_conv1d_{part}.weight", (shape.d_conv, 1, width, 1))
        yield TensorSpec(f"attn_{part}.weight", (d, width))
    for gate in ("f", "g"):
        yield TensorSpec(f"ssm_{gate}_a.weight", (d, head))
        yield TensorSpec(f"ssm_{gate}_b.weight", (head, width))
    yield TensorSpec("ssm_beta.weight", (d, shape.heads))
    yield TensorSpec("ssm_a", (1, shape.heads), "decay")
    yield TensorSpec("ssm_dt.bias", (width,), -4.0)
    yield norm("ssm_norm", head)
    yield TensorSpec("attn_output.weight", (width, d))


def rwkv7(shape: Shape, index: int) -> Plan:
    """RWKV-7's time and channel mix, with their norms."""
    d = shape.d_model
    yield from layer_norm("attn_norm", d)
    yield from layer_norm("attn_norm_2", d)
    # The first layer has no value residual: llama.cpp wants a dummy, shaped like the "a" matrices.
    value_rank = shape.lora_value if index else shape.lora_iclr
    for letter, rank in (("w", shape.lora_decay), ("a", shape.lora_iclr), ("v", value_rank)):
        yield TensorSpec(f"time_mix_{letter}0.weight", (d,), 0.0)
        yield TensorSpec(f"time_mix_{letter}1.weight", (d, rank))
        yield TensorSpec(f"time_mix_{letter}2.weight", (rank, d))
    yield TensorSpec("time_mix_g1.weight", (d, shape.lora_gate))
    yield TensorSpec("time_mix_g2.weight", (shape.lora_gate, d))
    yield TensorSpec("time_mix_lerp_fused.weight", (d, 1, 1, 6), 0.5)
    yield TensorSpec("time_mix_k_k.weight", (d,), 1.0)
    yield TensorSpec("time_mix_k_a.weight", (d,), 1.0)
    yield TensorSpec("time_mix_r_k.weight", (d,))
    for role in ("key", "value", "receptance", "output"):
        yield TensorSpec(f"time_mix_{role}.weight", (d, d))
    yield from layer_norm("time_mix_ln", d)
    yield TensorSpec("channel_mix_lerp_k.weight", (d,), 0.5)
    yield TensorSpec("channel_mix_key.weight", (d, shape.ff))
    yield TensorSpec("channel_mix_value.weight", (shape.ff, d))
