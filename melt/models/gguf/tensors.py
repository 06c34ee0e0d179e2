"""The tensors and metadata that llama.cpp expects of each architecture, from a Shape."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from melt.errors import ModelError
from melt.models.gguf.header import Value
from melt.models.shapes.zoo import Shape


@dataclass(frozen=True)
class TensorSpec:
    """One tensor to make: its name, its dimensions (fastest first) and what to fill it with.

    ``fill`` is "random", "decay" (the negative ramp of a state matrix) or a number.
    """

    name: str
    dims: tuple[int, ...]
    fill: str | float = "random"


Plan = Iterator[TensorSpec]


def plan_tensors(shape: Shape) -> list[TensorSpec]:
    """Every tensor of ``shape``, in file order."""
    if shape.arch not in _BLOCKS:
        raise ModelError(f"no recipe for the architecture {shape.arch!r}", f"There are {', '.join(_BLOCKS)}.")
    tensors = list(_head(shape))
    for index in range(shape.layers):
        block = _BLOCKS[shape.arch](shape, index)
        tensors += [TensorSpec(f"blk.{index}.{t.name}", t.dims, t.fill) for t in block]
    return tensors


def metadata(shape: Shape) -> dict[str, Value]:
    """The hyper-parameters of ``shape`` under GGUF's key names."""
    values: dict[str, Value] = {
        "vocab_size": shape.vocab,
        "context_length": shape.context,
        "embedding_length": shape.d_model,
        "block_count": shape.layers,
        "feed_forward_length": shape.ff,
        "attention.head_count": shape.heads,
        "attention.layer_norm_rms_epsilon": shape.norm_eps,
    }
    for part in (_attention_keys(shape), _ssm_keys(shape), _rwkv_keys(shape), _scale_keys(shape)):
        values.update(part)
    return {f"{shape.arch}.{key}": value for key, value in values.items()}


def _attention_keys(shape: Shape) -> dict[str, Value]:
    if not shape.heads:
        return {}
    kv_heads: Value = shape.kv_heads_by_layer if shape.attention_layers else shape.kv_heads
    keys: dict[str, Value] = {
        "attention.head_count_kv": kv_heads,
        "attention.key_length": shape.head_dim,
        "attention.value_length": shape.head_dim,
    }
    if shape.rope_theta:
        keys |= {"rope.dimension_count": shape.head_dim, "rope.freq_base": shape.rope_theta}
    else:
        keys["rope.scaling.finetuned"] = False
    return keys


def _ssm_keys(shape: Shape) -> dict[str, Value]:
    if shape.arch == "lfm2":
        return {"shortconv.l_cache": shape.d_conv}
    if not shape.d_state:
        return {}
    keys: dict[str, Value] = {
        "ssm.conv_kernel": shape.d_conv,
        "ssm.inner_size": shape.d_inner,
        "ssm.state_size": shape.d_state,
        "ssm.time_step_rank": shape.dt_rank,
    }
    return keys | ({"ssm.group_count": shape.groups} if shape.groups else {"ssm.dt_b_c_rms": False})


def _rwkv_keys(shape: Shape) -> dict[str, Value]:
    if not shape.wkv_head:
        return {}
    return {
        "attention.layer_norm_epsilon": shape.norm_eps,
        "wkv.head_size": shape.wkv_head,
        "attention.decay_lora_rank": shape.lora_decay,
        "attention.iclr_lora_rank": shape.lora_iclr,
        "attention.value_residual_mix_lora_rank": shape.lora_value,
        "attention.gate_lora_rank": shape.lora_gate,
        "token_shift_count": 2,
    }


def _scale_keys(shape: Shape) -> dict[str, Value]:
    scales: dict[str, Value] = {
        "embedding_scale": shape.embedding_scale,
        "residual_scale": shape.residual_scale,
        "attention.scale": shape.attention_scale,
        "logit_scale": shape.logit_scale,
    }
    return {key: value for key, value in scales.items() if value}


def _head(shape: Shape) -> Plan:
    d = shape.d_model
    yield TensorSpec("token_embd.weight", (d, shape.vocab))
    if shape.arch == "rwkv7":
        yield from _layer_norm("token_embd_norm", d)
    if shape.arch == "lfm2":
        yield TensorSpec("token_embd_norm.weight", (d,), 1.0)
    elif shape.arch == "rwkv7":
        yield from _layer_norm("output_norm", d)
    else:
        yield TensorSpec("output_norm.weight", (d,), 1.0)
    if not shape.tied:
        yield TensorSpec("output.weight", (d, shape.vocab))
    if shape.rope_factors:
        # Frequency corrections of Llama 3; ones cost the same and keep every position distinct.
        yield TensorSpec("rope_freqs.weight", (shape.head_dim // 2,), 1.0)


def _transformer(shape: Shape, index: int) -> Plan:
    yield TensorSpec("attn_norm.weight", (shape.d_model,), 1.0)
    yield from _attention(shape)
    if shape.arch == "qwen2":
        yield TensorSpec("attn_q.bias", (shape.heads * shape.head_dim,), 0.0)
        yield TensorSpec("attn_k.bias", (shape.kv_heads * shape.head_dim,), 0.0)
        yield TensorSpec("attn_v.bias", (shape.kv_heads * shape.head_dim,), 0.0)
    yield from _gated_mlp(shape)


def _mamba(shape: Shape, index: int) -> Plan:
    d, inner, state, rank = shape.d_model, shape.d_inner, shape.d_state, shape.dt_rank
    yield TensorSpec("attn_norm.weight", (d,), 1.0)
    yield TensorSpec("ssm_in.weight", (d, 2 * inner))
    yield TensorSpec("ssm_conv1d.weight", (shape.d_conv, inner))
    yield TensorSpec("ssm_conv1d.bias", (inner,), 0.0)
    yield TensorSpec("ssm_x.weight", (inner, rank + 2 * state))
    yield TensorSpec("ssm_dt.weight", (rank, inner))
    yield TensorSpec("ssm_dt.bias", (inner,), -4.0)
    yield TensorSpec("ssm_a", (state, inner), "decay")
    yield TensorSpec("ssm_d", (inner,), 1.0)
    yield TensorSpec("ssm_out.weight", (inner, d))


def _mamba2(shape: Shape, index: int) -> Plan:
    yield TensorSpec("attn_norm.weight", (shape.d_model,), 1.0)
    yield from _mamba2_mixer(shape, normed=True)


def _mamba2_mixer(shape: Shape, normed: bool) -> Plan:
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


def _falcon_h1(shape: Shape, index: int) -> Plan:
    yield TensorSpec("attn_norm.weight", (shape.d_model,), 1.0)
    yield from _mamba2_mixer(shape, normed=False)
    yield from _attention(shape)
    # llama.cpp knows this one norm without its ".weight".
    yield from _gated_mlp(shape, norm="ffn_norm")


def _granite_hybrid(shape: Shape, index: int) -> Plan:
    yield TensorSpec("attn_norm.weight", (shape.d_model,), 1.0)
    if index in shape.attention_layers:
        yield from _attention(shape)
    else:
        yield from _mamba2_mixer(shape, normed=True)
    yield from _gated_mlp(shape)


def _lfm2(shape: Shape, index: int) -> Plan:
    d = shape.d_model
    yield TensorSpec("attn_norm.weight", (d,), 1.0)
    if index in shape.attention_layers:
        yield from _attention(shape)
        yield TensorSpec("attn_q_norm.weight", (shape.head_dim,), 1.0)
        yield TensorSpec("attn_k_norm.weight", (shape.head_dim,), 1.0)
    else:
        yield TensorSpec("shortconv.conv.weight", (shape.d_conv, d))
        yield TensorSpec("shortconv.in_proj.weight", (d, 3 * d))
        yield TensorSpec("shortconv.out_proj.weight", (d, d))
    yield from _gated_mlp(shape)


def _rwkv7(shape: Shape, index: int) -> Plan:
    d = shape.d_model
    yield from _layer_norm("attn_norm", d)
    yield from _layer_norm("attn_norm_2", d)
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
    yield from _layer_norm("time_mix_ln", d)
    yield TensorSpec("channel_mix_lerp_k.weight", (d,), 0.5)
    yield TensorSpec("channel_mix_key.weight", (d, shape.ff))
    yield TensorSpec("channel_mix_value.weight", (shape.ff, d))


def _attention(shape: Shape) -> Plan:
    d, query, kv = shape.d_model, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    yield TensorSpec("attn_q.weight", (d, query))
    yield TensorSpec("attn_k.weight", (d, kv))
    yield TensorSpec("attn_v.weight", (d, kv))
    yield TensorSpec("attn_output.weight", (query, d))


def _gated_mlp(shape: Shape, norm: str = "ffn_norm.weight") -> Plan:
    yield TensorSpec(norm, (shape.d_model,), 1.0)
    yield TensorSpec("ffn_gate.weight", (shape.d_model, shape.ff))
    yield TensorSpec("ffn_down.weight", (shape.ff, shape.d_model))
    yield TensorSpec("ffn_up.weight", (shape.d_model, shape.ff))


def _layer_norm(name: str, width: int) -> Plan:
    yield TensorSpec(f"{name}.weight", (width,), 1.0)
    yield TensorSpec(f"{name}.bias", (width,), 0.0)


_BLOCKS: dict[str, Callable[[Shape, int], Plan]] = {
    "llama": _transformer,
    "qwen2": _transformer,
    "mamba": _mamba,
    "mamba2": _mamba2,
    "rwkv7": _rwkv7,
    "falcon-h1": _falcon_h1,
    "granitehybrid": _granite_hybrid,
    "lfm2": _lfm2,
}
