"""The zoo: published model shapes, from which synthetic models are made."""

import difflib
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import yaml

from melt.errors import ModelError


@dataclass(frozen=True)
class Shape:
    """Everything that fixes a model's tensors; zero where an architecture has no such thing.

    ``dt_rank`` is Mamba's time-step rank, and for Mamba-2 the number of heads (as in GGUF); of a gated delta net it
    is the number of value heads, ``groups`` that of key heads, ``d_state`` a key head's size and ``d_inner`` that of
    all value heads. ``attention_layers`` is empty where every layer (or none) attends, ``mlp_layers`` where an MLP is
    no layer of its own; ``plain_layers`` are those of a mixture of experts that have an MLP instead. ``kv_lora`` is
    the rank of a latent of keys and values; then ``head_dim`` has ``rope_dim`` rotary parts, and ``value_dim`` is a
    value's size.
    """

    name: str
    source: str
    arch: str
    layers: int
    d_model: int
    vocab: int
    context: int
    norm_eps: float
    tied: bool
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    ff: int = 0
    d_inner: int = 0
    d_state: int = 0
    d_conv: int = 0
    dt_rank: int = 0
    groups: int = 0
    attention_layers: tuple[int, ...] = ()
    mlp_layers: tuple[int, ...] = ()
    experts: int = 0
    experts_used: int = 0
    expert_ff: int = 0
    shared_experts: int = 0
    plain_layers: tuple[int, ...] = ()
    kv_lora: int = 0
    rope_dim: int = 0
    value_dim: int = 0
    kda_head: int = 0
    window: int = 0
    window_rope_theta: float = 0.0
    wkv_head: int = 0
    lora_decay: int = 0
    lora_iclr: int = 0
    lora_value: int = 0
    lora_gate: int = 0
    rope_theta: float = 0.0
    rope_factors: bool = False
    embedding_scale: float = 0.0
    residual_scale: float = 0.0
    attention_scale: float = 0.0
    logit_scale: float = 0.0

    @property
    def kv_heads_by_layer(self) -> tuple[int, ...]:
        """KV heads of each layer, zero where a layer does not attend."""
        if not self.attention_layers:
            return (self.kv_heads,) * self.layers
        return tuple(self.kv_heads if i in self.attention_layers else 0 for i in range(self.layers))


def load_zoo() -> dict[str, Shape]:
    """All shapes by name, in the order of the zoo file."""
    text = resources.files("melt.models.shapes").joinpath("zoo.yaml").read_text(encoding="utf-8")
    return {name: _shape(name, entry) for name, entry in yaml.safe_load(text).items()}


def find_shape(name: str) -> Shape:
    """The shape called ``name``; an unknown name is a ModelError that suggests the nearest."""
    zoo = load_zoo()
    if name in zoo:
        return zoo[name]
    raise ModelError(f"no model called {name!r} in the zoo", suggest(name, zoo))


def suggest(name: str, known: dict[str, Any] | list[str]) -> str:
    """A hint that names what is nearest to ``name``, or everything there is."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return f"Known: {', '.join(known)}."


def scaled_down(shape: Shape) -> Shape:
    """A tiny model of the same family, whose rows still fill K-quant blocks (multiples of 256)."""
    return replace(
        shape,
        name=f"tiny-{shape.name}",
        d_model=256,
        vocab=512,
        context=2048,
        window=min(shape.window, 256),
        ff=512 if shape.ff else 0,
        **_few_layers(shape),
        **_small_attention(shape),
        **_small_state(shape),
        **_few_experts(shape),
    )


def _few_layers(shape: Shape) -> dict[str, Any]:
    """Four layers of every kind that there is; more where the engine tells models apart by how many there are."""
    some = {"layers": 4, "attention_layers": (1, 3) if shape.attention_layers else ()}
    special: dict[str, dict[str, Any]] = {
        "deepseek2": {"layers": 26},  # with fewer it expects another attention
        "gemma3": {"layers": 7},  # so that one sees the whole context
        "nemotron_h": {"layers": 5, "attention_layers": (3,), "mlp_layers": (1, 4)},
        "qwen35": {"attention_layers": (3,)},
    }
    return some | special.get(shape.arch, {})


def _small_attention(shape: Shape) -> dict[str, Any]:
    if not shape.heads:
        return {}
    if shape.kv_lora:
        return {"heads": 4, "kv_heads": 1, "head_dim": 64, "rope_dim": 32, "kv_lora": 256, "value_dim": 64} | (
            {"kda_head": 64} if shape.kda_head else {}
        )
    kv_heads = 4 if shape.kv_heads == shape.heads else min(shape.kv_heads, 2)
    return {"heads": 4, "kv_heads": kv_heads, "head_dim": 64, "rope_dim": 32 if shape.rope_dim else 0}


def _small_state(shape: Shape) -> dict[str, Any]:
    is_mamba1 = shape.arch in ("mamba", "jamba")
    return {
        "d_inner": 512 if shape.d_inner else 0,
        "d_state": 16 if is_mamba1 else (64 if shape.d_state else 0),
        "dt_rank": (32 if is_mamba1 else 8) if shape.dt_rank else 0,
        "groups": min(shape.groups, 2),
        "lora_decay": 32 if shape.lora_decay else 0,
        "lora_iclr": 32 if shape.lora_iclr else 0,
        "lora_value": 32 if shape.lora_value else 0,
        "lora_gate": 32 if shape.lora_gate else 0,
    }


def _few_experts(shape: Shape) -> dict[str, Any]:
    """As many as to keep the recipe of quantisation, which knows eight from others."""
    if not shape.experts:
        return {}
    leading = len(shape.plain_layers) == 1
    return {
        "experts": 8 if shape.experts == 8 else 4,
        "experts_used": 2,
        "expert_ff": 512 if shape.expert_ff == shape.ff else 256,
        "plain_layers": (0,) if leading else ((0, 2) if shape.plain_layers else ()),
    }


_LAYER_LISTS = ("attention_layers", "mlp_layers", "plain_layers")


def _shape(name: str, entry: dict[str, Any]) -> Shape:
    return Shape(name=name, **{**entry, **{key: tuple(entry[key]) for key in _LAYER_LISTS if key in entry}})
