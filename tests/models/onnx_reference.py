"""The published equations of a Transformer, Mamba-2 and their hybrids in plain NumPy, over a folder's own weights.

One token after another in 64-bit floats, with none of the operators that the graph is made of.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from melt.models.shapes.zoo import Shape

Array = NDArray[np.float64]


def weights_of(folder: Path) -> dict[str, NDArray[Any]]:
    """Each by its name; those that are kept as integers of one scale, as the numbers that they stand for."""
    files = (folder / name for name in ("model.onnx", "decode.onnx"))
    graph = onnx.load(next(file for file in files if file.exists())).graph
    found = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    stored = [n.input for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in found]
    numbers = {name: (found[name].astype(np.float64) - found[zero]) * found[scale] for name, scale, zero in stored}
    flat = {".bias": (-1,), ".D": (-1, 1)}
    shaped = {name: n.reshape(flat.get("." + name.rpartition(".")[2], n.shape)) for name, n in numbers.items()}
    return found | shaped


def unpacked(codes: NDArray[Any], scales: NDArray[Any]) -> Array:
    """4-bit weights, the first in the low half of a byte, each block of 32 with its scale; 8 stands for zero."""
    rows = scales.shape[0]
    flat = codes.reshape(rows, -1)
    numbers = np.stack([flat & 15, flat >> 4], axis=-1).reshape(rows, -1, 32).astype(np.float64) - 8
    return np.asarray((numbers * scales.reshape(rows, -1, 1)).reshape(rows, -1))


@dataclass
class State:
    """What one layer keeps."""

    keys: list[Array] = field(default_factory=list)
    values: list[Array] = field(default_factory=list)
    window: Array | None = None
    h: Array | None = None


class Reference:
    def __init__(self, shape: Shape, folder: Path) -> None:
        self.s = shape
        self.w = weights_of(folder)
        self.states = [State() for _ in range(shape.layers)]
        self.position = 0

    def matrix(self, name: str) -> Array:
        """As (in, out)."""
        if f"{name}.scales" in self.w:
            return unpacked(self.w[f"{name}.weight"], self.w[f"{name}.scales"]).T
        return self.w[f"{name}.weight"].astype(np.float64)

    def linear(self, name: str, x: Array) -> Array:
        bias = self.w.get(f"{name}.bias")
        return np.asarray(x @ self.matrix(name) + (0 if bias is None else bias))

    def vocabulary(self) -> Array:
        matrix = self.matrix("model.embed_tokens")
        return matrix.T if "model.embed_tokens.scales" in self.w else matrix

    def vector(self, name: str) -> Array:
        return self.w[name].astype(np.float64)

    def step(self, token: int) -> Array:
        """The logits after one more token."""
        s = self.s
        x = self.vocabulary()[token] * (s.embedding_scale or 1)
        residual = s.residual_scale or 1
        for i in range(s.layers):
            name = f"model.layers.{i}"
            y = rms(x, self.vector(f"{name}.input_layernorm.weight"), s.norm_eps)
            branch = np.zeros_like(x)
            attends = bool(s.kv_heads_by_layer[i])
            if attends:
                branch = branch + self.attention(i, y)
            if s.d_state and (s.arch == "falcon-h1" or not attends):
                branch = branch + self.mamba2(i, y)
            x = x + branch * residual
            if s.ff:
                y = rms(x, self.vector(f"{name}.post_attention_layernorm.weight"), s.norm_eps)
                gate, up = self.linear(f"{name}.mlp.gate_proj", y), self.linear(f"{name}.mlp.up_proj", y)
                x = x + self.linear(f"{name}.mlp.down_proj", silu(gate) * up) * residual
        self.position += 1
        x = rms(x, self.vector("model.norm.weight"), s.norm_eps)
        head = self.vocabulary().T if s.tied else self.matrix("lm_head")
        return np.asarray(x @ head / (s.logit_scale or 1))

    def attention(self, i: int, x: Array) -> Array:
        s, state = self.s, self.states[i]
        qkv = self.linear(f"model.layers.{i}.attn.qkv_proj", x)
        q, k, v = np.split(qkv, [s.heads * s.head_dim, (s.heads + s.kv_heads) * s.head_dim])
        q, k, v = q.reshape(s.heads, -1), k.reshape(s.kv_heads, -1), v.reshape(s.kv_heads, -1)
        if s.rope_theta:
            q, k = self.rotated(q), self.rotated(k)
        state.keys.append(k)
        state.values.append(v)
        group = s.heads // s.kv_heads
        out = []
        for head in range(s.heads):
            keys = np.array([t[head // group] for t in state.keys])
            values = np.array([t[head // group] for t in state.values])
            scores = keys @ q[head] * (s.attention_scale or s.head_dim**-0.5)
            share = np.exp(scores - scores.max())
            out.append(share / share.sum() @ values)
        return self.linear(f"model.layers.{i}.attn.o_proj", np.concatenate(out))

    def rotated(self, x: Array) -> Array:
        half = self.s.head_dim // 2
        angle = self.position * self.s.rope_theta ** (-np.arange(half) / half)
        a, b = x[:, :half], x[:, half:]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], axis=1)

    def mamba2(self, i: int, x: Array) -> Array:
        s, state, name = self.s, self.states[i], f"model.layers.{i}.mamba"
        heads, inner = s.dt_rank, s.d_inner
        z, xbc, dt = np.split(self.linear(f"{name}.in_proj", x), [inner, 2 * inner + 2 * s.d_state])
        if state.window is None or state.h is None:
            state.window = np.zeros((len(xbc), s.d_conv - 1))
            state.h = np.zeros((heads, s.d_state, inner // heads))
        window = np.concatenate([state.window, xbc[:, None]], axis=1)
        state.window = window[:, 1:]
        kernel = self.vector(f"{name}.conv1d.weight")[:, 0]
        u, b, c = np.split(
            silu((window * kernel).sum(1) + self.vector(f"{name}.conv1d.bias")), [inner, inner + s.d_state]
        )
        dt = np.log1p(np.exp(dt + self.vector(f"{name}.dt_bias")))
        a = np.exp(dt * self.vector(f"{name}.A"))
        u = u.reshape(heads, -1)
        state.h = a[:, None, None] * state.h + b[None, :, None] * (dt[:, None] * u)[:, None, :]
        y = np.einsum("n,hnp->hp", c, state.h).ravel() + (self.vector(f"{name}.D") * u).ravel()
        y = y * silu(z)
        if s.arch != "falcon-h1":
            y = rms(y, self.vector(f"{name}.norm.weight"), s.norm_eps)
        return self.linear(f"{name}.out_proj", y)


def rms(x: Array, weight: Array, eps: float) -> Array:
    return np.asarray(x / np.sqrt((x * x).mean() + eps) * weight)


def silu(x: Array) -> Array:
    return np.asarray(x / (1 + np.exp(-x)))
