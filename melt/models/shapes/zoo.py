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

    ``dt_rank`` is Mamba's time-step rank, and for Mamba-2 the number of heads (as in GGUF).
    ``attention_layers`` is empty where every layer (or none) attends.
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
    attends = bool(shape.heads)
    is_mamba1 = shape.arch == "mamba"
    some_layers = (1, 3) if shape.attention_layers else ()
    return replace(
        shape,
        name=f"tiny-{shape.name}",
        layers=4,
        attention_layers=some_layers,
        d_model=256,
        vocab=512,
        context=2048,
        heads=4 if attends else 0,
        kv_heads=2 if attends else 0,
        head_dim=64 if attends else 0,
        ff=512 if shape.ff else 0,
        d_inner=512 if shape.d_inner else 0,
        d_state=16 if is_mamba1 else (64 if shape.d_state else 0),
        dt_rank=(32 if is_mamba1 else 8) if shape.dt_rank else 0,
        lora_decay=32 if shape.lora_decay else 0,
        lora_iclr=32 if shape.lora_iclr else 0,
        lora_value=32 if shape.lora_value else 0,
        lora_gate=32 if shape.lora_gate else 0,
    )


def _shape(name: str, entry: dict[str, Any]) -> Shape:
    attention_layers = tuple(entry.get("attention_layers", ()))
    return Shape(name=name, **{**entry, "attention_layers": attention_layers})
