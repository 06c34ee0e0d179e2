"""The tensors that llama.cpp expects of each architecture, from a Shape."""

from collections.abc import Callable

from melt.errors import ModelError
from melt.models.gguf.blocks.attention import (
    attention,
    attention_bias,
    gated_attention,
    head_norms,
    latent_attention,
)
from melt.models.gguf.blocks.feed_forward import feed_forward, gated_mlp, plain_mlp
from melt.models.gguf.blocks.state_space import (
    gated_delta_net,
    kimi_delta_attention,
    mamba,
    mamba2,
    rwkv7,
    short_convolution,
)
from melt.models.gguf.blocks.tensor import Plan, TensorSpec, layer_norm, norm
from melt.models.shapes.zoo import Shape


def plan_tensors(shape: Shape) -> list[TensorSpec]:
    """Every tensor of ``shape``, in file order."""
    if shape.arch not in _LAYERS:
        raise ModelError(f"no recipe for the architecture {shape.arch!r}", f"There are {', '.join(_LAYERS)}.")
    tensors = list(_head(shape))
    for index in range(shape.layers):
        layer = _LAYERS[shape.arch](shape, index)
        tensors += [TensorSpec(f"blk.{index}.{t.name}", t.dims, t.fill) for t in layer]
    return tensors


def _head(shape: Shape) -> Plan:
    d = shape.d_model
    yield TensorSpec("token_embd.weight", (d, shape.vocab))
    if shape.arch == "rwkv7":
        yield from layer_norm("token_embd_norm", d)
    if shape.arch == "lfm2":
        yield norm("token_embd_norm", d)
    elif shape.arch == "rwkv7":
        yield from layer_norm("output_norm", d)
    else:
        yield norm("output_norm", d)
    if not shape.tied:
        yield TensorSpec("output.weight", (d, shape.vocab))
    if shape.rope_factors:
        # Frequency corrections of Llama 3; ones cost the same and keep every position distinct.
        yield TensorSpec("rope_freqs.weight", (shape.head_dim // 2,), 1.0)


def _transformer(shape: Shape, index: int) -> Plan:
    yield norm("attn_norm", shape.d_model)
    yield from attention(shape)
    if shape.arch == "qwen2":
        yield from attention_bias(shape)
    yield norm("ffn_norm", shape.d_model)
    yield from feed_forward(shape, index)


def _olmoe(shape: Shape, index: int) -> Plan:
    yield from _transformer(shape, index)
    # Of all heads together.
    yield norm("attn_q_norm", shape.d_model)
    yield norm("attn_k_norm", shape.d_model)


def _gemma3(shape: Shape, index: int) -> Plan:
    yield from _transformer(shape, index)
    yield from head_norms(shape)
    yield norm("post_attention_norm", shape.d_model)
    yield norm("post_ffw_norm", shape.d_model)


def _deepseek2(shape: Shape, index: int) -> Plan:
    yield norm("attn_norm", shape.d_model)
    yield from latent_attention(shape)
    yield norm("ffn_norm", shape.d_model)
    yield from feed_forward(shape, index)


def _mamba(shape: Shape, index: int) -> Plan:
    yield norm("attn_norm", shape.d_model)
    yield from mamba(shape)


def _mamba2(shape: Shape, index: int) -> Plan:
    yield norm("attn_norm", shape.d_model)
    yield from mamba2(shape)


def _falcon_h1(shape: Shape, index: int) -> Plan:
    yield norm("attn_norm", shape.d_model)
    yield from mamba2(shape, normed=False)
    yield from attention(shape)
    # llama.cpp knows this one norm without its ".weight".
    yield TensorSpec("ffn_norm", (shape.d_model,), 1.0)
    yield from gated_mlp(shape)


def _granite_hybrid(shape: Shape, index: int) -> Plan:
    yield norm("attn_norm", shape.d_model)
    yield from attention(shape) if index in shape.attention_layers else mamba2(shape)
    yield norm("ffn_norm", shape.d_model)
    yield from gated_mlp(shape)


def _jamba(shape: Shape, index: int) -> Plan:
    yield norm("attn_norm", shape.d_model)
    yield from attention(shape) if index in shape.attention_layers else mamba(shape, normed=True)
    yield norm("ffn_norm", shape.d_model)
    yield from feed_forward(shape, index)


def _nemotron_h(shape: Shape, index: int) -> Plan:
    yield norm("attn_norm", shape.d_model)
    if index in shape.mlp_layers:
        yield from plain_mlp(shape)
    else:
        yield from attention(shape) if index in shape.attention_layers else mamba2(shape)


def _qwen35(shape: Shape, index: int) -> Plan:
    yield norm("attn_norm", shape.d_model)
    yield from gated_attention(shape) if index in shape.attention_layers else gated_delta_net(shape)
    yield norm("post_attention_norm", shape.d_model)
    yield from gated_mlp(shape)


def _kimi_linear(shape: Shape, index: int) -> Plan:
    yield norm("attn_norm", shape.d_model)
    yield from latent_attention(shape) if index in shape.attention_layers else kimi_delta_attention(shape)
    yield norm("ffn_norm", shape.d_model)
    yield from feed_forward(shape, index)
    if index not in shape.plain_layers:
        yield TensorSpec("exp_probs_b.bias", (shape.experts,), 0.0)


def _lfm2(shape: Shape, index: int) -> Plan:
    yield norm("attn_norm", shape.d_model)
    if index in shape.attention_layers:
        yield from attention(shape)
        yield from head_norms(shape)
    else:
        yield from short_convolution(shape)
    yield norm("ffn_norm", shape.d_model)
    yield from gated_mlp(shape)


_LAYERS: dict[str, Callable[[Shape, int], Plan]] = {
    "llama": _transformer,
    "qwen2": _transformer,
    "olmoe": _olmoe,
    "gemma3": _gemma3,
    "deepseek2": _deepseek2,
    "mamba": _mamba,
    "mamba2": _mamba2,
    "rwkv7": rwkv7,
    "falcon-h1": _falcon_h1,
    "granitehybrid": _granite_hybrid,
    "jamba": _jamba,
    "nemotron_h": _nemotron_h,
    "qwen35": _qwen35,
    "kimi-linear": _kimi_linear,
    "lfm2": _lfm2,
}
