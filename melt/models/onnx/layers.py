"""The layers of each architecture as ONNX Runtime's operators, from a Shape of the zoo.

Sources: Vaswani et al. 2017, Shazeer 2020 (SwiGLU), Zhang and Sennrich 2019 (RMSNorm), Su et al. 2021 (rotary
positions), Ainslie et al. 2023 (grouped queries); Dao and Gu 2024, section 6 (Mamba-2's block).
"""

from melt.errors import ModelError
from melt.models.onnx.graph import MICROSOFT, Graph, Precision
from melt.models.shapes.zoo import Shape

ARCHITECTURES = ("llama", "qwen2", "mamba2", "granitehybrid", "falcon-h1")
# A synthetic model may be measured beyond its training; the angles have to be there.
MIN_POSITIONS = 32768


def positions(shape: Shape) -> int:
    """How many tokens the graph can take: the rows of its rotary angles."""
    return max(shape.context, MIN_POSITIONS)


def build(shape: Shape, precision: Precision) -> Graph:
    """The whole graph of ``shape``.

    Raises:
        ModelError: the architecture is not written as ONNX, or its rows do not fill blocks.
    """
    check_shape(shape)
    decoder = Decoder(shape, Graph(precision))
    decoder.build()
    return decoder.graph


def check_shape(shape: Shape) -> None:
    """Raises ModelError where no graph is written for the shape's architecture."""
    if shape.arch not in ARCHITECTURES or shape.groups > 1:
        raise ModelError(
            f"{shape.name}: no ONNX graph is written for the architecture {shape.arch!r}",
            f"There is one for {', '.join(ARCHITECTURES)}; as GGUF: synth:{shape.name}@Q4_0",
        )


class Decoder:
    """A residual stream through the layers. ``_branch`` is what the next norm adds to it, in one operator."""

    def __init__(self, shape: Shape, graph: Graph) -> None:
        self.shape = shape
        self.graph = graph
        self._residual = ""
        self._branch = ""

    def build(self) -> None:
        """Every node, input and output."""
        s, g = self.shape, self.graph
        g.inputs.append(g.value("input_ids", "INT64", ("batch_size", "sequence_length")))
        if any(s.kv_heads_by_layer):
            self._positions()
        x = g.embedding("input_ids", s.vocab, s.d_model)
        self._residual = self._scaled("/model/embed_tokens/Mul", x, s.embedding_scale)
        for index in range(s.layers):
            self._layer(index)
        logits = g.output(self._norm("model.norm"), s.d_model, s.vocab, s.tied)
        logits = self._scaled("/lm_head/Mul", logits, 1 / s.logit_scale if s.logit_scale else 0.0)
        if g.type != "FLOAT":
            g.op("Cast", "/lm_head/Cast", logits, to=1)
        g.nodes[-1].output[0] = "logits"
        g.outputs.insert(0, g.value("logits", "FLOAT", ("batch_size", 1, s.vocab)))

    def _positions(self) -> None:
        """The lengths that GroupQueryAttention wants, from the mask; and the rotary angles."""
        s, g = self.shape, self.graph
        g.inputs.append(g.value("attention_mask", "INT64", ("batch_size", "total_sequence_length")))
        base = "/model/attn_mask_reformat"
        total = g.op("ReduceSum", f"{base}/ReduceSum", "attention_mask", g.integers(1), keepdims=0)
        last = g.op("Sub", f"{base}/Sub", total, g.integers(1))
        g.ops("Cast", f"{base}/Sub/Cast", (last,), ("seqlens_k",), to=6)
        lengths = g.op("Shape", f"{base}/Shape", "attention_mask")
        length = g.op("Squeeze", f"{base}/Squeeze", g.op("Gather", f"{base}/Gather", lengths, g.integers(1)))
        g.ops("Cast", f"{base}/Gather/Cast", (length,), ("total_seq_len",), to=6)
        if s.rope_theta:
            rows = (positions(s), s.head_dim // 2)
            g.weight("cos_cache", rows, "cos", theta=s.rope_theta)
            g.weight("sin_cache", rows, "sin", theta=s.rope_theta)

    def _layer(self, index: int) -> None:
        s, name = self.shape, f"model.layers.{index}"
        x = self._norm(f"{name}.input_layernorm")
        attends, recurs = bool(s.kv_heads_by_layer[index]), self._recurs(index)
        branches = [self._attention(index, x)] if attends else []
        branches += [self._mamba2(index, x)] if recurs else []
        if len(branches) == 2:
            branches = [self.graph.op("Add", f"/{name.replace('.', '/')}/Add", *branches)]
        self._branch = self._scaled(f"/{name.replace('.', '/')}/Mul", branches[0], s.residual_scale)
        if s.ff:
            y = self._mlp(name, self._norm(f"{name}.post_attention_layernorm"))
            self._branch = self._scaled(f"/{name.replace('.', '/')}/mlp/Mul_2", y, s.residual_scale)

    def _recurs(self, index: int) -> bool:
        s = self.shape
        return bool(s.d_state) and (s.arch == "falcon-h1" or not s.kv_heads_by_layer[index])

    def _scaled(self, node: str, x: str, scale: float) -> str:
        return self.graph.op("Mul", node, x, self.graph.number(scale)) if scale else x

    def _norm(self, name: str) -> str:
        """RMSNorm of the stream, which takes in the last branch."""
        g, node = self.graph, f"/{name.replace('.', '/')}"
        weight = g.weight(f"{name}.weight", (self.shape.d_model,), 1.0)
        if not self._branch:
            return self._rms_norm(f"{node}/LayerNorm", self._residual, weight)
        inputs = (self._residual, self._branch, weight)
        outputs = (f"{node}/output_0", "", "", f"{node}/output_3")
        kind, epsilon = "SkipSimplifiedLayerNormalization", self.shape.norm_eps
        out, _, _, self._residual = g.ops(kind, f"{node}/SkipLayerNorm", inputs, outputs, MICROSOFT, epsilon=epsilon)
        return out

    def _rms_norm(self, node: str, x: str, weight: str) -> str:
        kind, epsilon = "SimplifiedLayerNormalization", self.shape.norm_eps
        return self.graph.op(kind, node, x, weight, axis=-1, epsilon=epsilon, stash_type=1)

    def _attention(self, index: int, x: str) -> str:
        s, g = self.shape, self.graph
        name = f"model.layers.{index}.attn"
        heads, kv_heads = s.heads * s.head_dim, s.kv_heads * s.head_dim
        qkv = g.linear(f"{name}.qkv_proj", x, s.d_model, heads + 2 * kv_heads, 0.0 if s.arch == "qwen2" else None)
        past = [f"past_key_values.{index}.{part}" for part in ("key", "value")]
        present = [f"present.{index}.{part}" for part in ("key", "value")]
        for before, after in zip(past, present, strict=True):
            g.state(before, after, ("batch_size", s.kv_heads, "past_sequence_length", s.head_dim))
        node = f"/model/layers/{index}/attn/GroupQueryAttention"
        angles = ("cos_cache", "sin_cache") if s.rope_theta else ()
        out = g.ops(
            "GroupQueryAttention",
            node,
            (qkv, "", "", *past, "seqlens_k", "total_seq_len", *angles),
            (f"{node}/output_0", *present),
            MICROSOFT,
            num_heads=s.heads,
            kv_num_heads=s.kv_heads,
            do_rotary=int(bool(angles)),
            scale=s.attention_scale or s.head_dim**-0.5,
        )
        return g.linear(f"{name}.o_proj", out[0], heads, s.d_model)

    def _mlp(self, name: str, x: str) -> str:
        """SwiGLU: (silu(x W_gate) * x W_up) W_down."""
        s, g = self.shape, self.graph
        node = f"/{name.replace('.', '/')}/mlp"
        gate = g.linear(f"{name}.mlp.gate_proj", x, s.d_model, s.ff)
        up = g.linear(f"{name}.mlp.up_proj", x, s.d_model, s.ff)
        gated = g.op("Mul", f"{node}/Mul", self._silu(f"{node}/act_fn", gate), up)
        return g.linear(f"{name}.mlp.down_proj", gated, s.ff, s.d_model)

    def _silu(self, node: str, x: str) -> str:
        return self.graph.op("Mul", f"{node}/Mul", x, self.graph.op("Sigmoid", f"{node}/Sigmoid", x))

    def _mamba2(self, index: int, x: str) -> str:
        """h = exp(dt A) h + B (dt x)', y = C h + D x; then a norm gated by z."""
        s, g = self.shape, self.graph
        name, node = f"model.layers.{index}.mamba", f"/model/layers/{index}/mamba"
        heads, state = s.dt_rank, s.d_state
        convolved = s.d_inner + 2 * state
        zxbcdt = g.linear(f"{name}.in_proj", x, s.d_model, s.d_inner + convolved + heads)
        z, xbc, dt = self._split(f"{node}/Split", zxbcdt, s.d_inner, convolved, heads)
        u, b, c = self._split(f"{node}/Split_1", self._convolution(index, xbc, convolved), s.d_inner, state, state)
        dt = g.op("Add", f"{node}/dt/Add", dt, g.weight(f"{name}.dt_bias", (heads,), -4.0))
        dt = g.op("Softplus", f"{node}/dt/Softplus", dt)
        decay = g.op("Mul", f"{node}/decay/Mul", dt, g.weight(f"{name}.A", (heads,), "decay"))
        by_head = g.op("Reshape", f"{node}/Reshape", u, g.integers(0, 0, heads, s.d_inner // heads))
        value = g.op("Mul", f"{node}/value/Mul", by_head, g.op("Unsqueeze", f"{node}/Unsqueeze", dt, g.integers(-1)))
        flat = g.integers(0, 0, s.d_inner)
        y = self._recurrence(index, c, b, g.op("Reshape", f"{node}/value/Reshape", value, flat), decay)
        skip = g.op("Mul", f"{node}/D/Mul", by_head, g.weight(f"{name}.D", (heads, 1), 1.0))
        skip = g.op("Reshape", f"{node}/D/Reshape", skip, flat)
        y = g.op("Mul", f"{node}/gate/Mul", g.op("Add", f"{node}/Add", y, skip), self._silu(f"{node}/act_fn", z))
        if s.arch != "falcon-h1":  # which has no norm here
            y = self._rms_norm(f"{node}/norm/LayerNorm", y, g.weight(f"{name}.norm.weight", (s.d_inner,), 1.0))
        return g.linear(f"{name}.out_proj", y, s.d_inner, s.d_model)

    def _split(self, node: str, x: str, *widths: int) -> tuple[str, ...]:
        outputs = tuple(f"{node}/output_{i}" for i in range(len(widths)))
        return self.graph.ops("Split", node, (x, self.graph.integers(*widths)), outputs, axis=-1)

    def _convolution(self, index: int, x: str, channels: int) -> str:
        """silu(conv(x)) over time, each channel by itself; the operator wants time last."""
        s, g = self.shape, self.graph
        name, node = f"model.layers.{index}.mamba.conv1d", f"/model/layers/{index}/mamba/conv"
        weight = g.weight(f"{name}.weight", (channels, 1, s.d_conv))
        bias = g.weight(f"{name}.bias", (channels,), 0.0)
        past, present = f"past.{index}.conv", f"present.{index}.conv"
        g.state(past, present, ("batch_size", channels, s.d_conv - 1))
        time_last = g.op("Transpose", f"{node}/Transpose", x, perm=[0, 2, 1])
        inputs, outputs = (time_last, weight, bias, past), (f"{node}/output_0", present)
        out = g.ops(
            "CausalConvWithState", f"{node}/CausalConvWithState", inputs, outputs, MICROSOFT, ndim=1, activation="silu"
        )
        return g.op("Transpose", f"{node}/Transpose_1", out[0], perm=[0, 2, 1])

    def _recurrence(self, index: int, c: str, b: str, value: str, decay: str) -> str:
        s, g = self.shape, self.graph
        node = f"/model/layers/{index}/mamba/LinearAttention"
        past, present = f"past.{index}.recurrent", f"present.{index}.recurrent"
        g.state(past, present, ("batch_size", s.dt_rank, s.d_state, s.d_inner // s.dt_rank))
        out = g.ops(
            "LinearAttention",
            node,
            (c, b, value, past, decay),
            (f"{node}/output_0", present),
            MICROSOFT,
            q_num_heads=1,
            kv_num_heads=s.dt_rank,
            update_rule="gated",
            scale=1.0,
        )
        return out[0]
