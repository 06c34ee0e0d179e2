"""The layers of each architecture in plain ONNX operators and fixed shapes, as a neural processor wants them.

One graph reads a chunk of the prompt, the other a single token; both carry caches of one length. New keys and values
are put behind the old ones, and the oldest fall out at the front, so that no operator has to scatter. A prompt that
does not fill its chunks begins with tokens that the mask leaves out. Sources as in ``layers``; the state-space
layers are in the quadratic form of Dao and Gu 2024, section 6.
"""

from melt.models.onnx.layers import check_shape
from melt.models.onnx.qdq import QuantisedGraph
from melt.models.shapes.zoo import Shape

CHUNK_TOKENS = 128
CONTEXT_TOKENS = 1024
CAST_TO_FLOAT = 1
# What the mask adds to a score. Wide enough that nothing is left of it in 16 bits, narrow enough to keep them fine.
MASKED = -32.0
STATE = "UINT16"


def build_static(shape: Shape, tokens: int, context: int) -> QuantisedGraph:
    """The graph that takes ``tokens`` tokens a call beside ``context`` that were there before; not yet quantised.

    Raises:
        ModelError: the architecture is not written as ONNX.
    """
    check_shape(shape)
    decoder = StaticDecoder(shape, QuantisedGraph("w8a16"), tokens, context)
    decoder.build()
    return decoder.graph


class StaticDecoder:
    """A residual stream through the layers, every length a number."""

    def __init__(self, shape: Shape, graph: QuantisedGraph, tokens: int, context: int) -> None:
        self.shape = shape
        self.graph = graph
        self.tokens = tokens
        self.context = context
        self._attends = any(shape.kv_heads_by_layer)
        self._mask = self._valid = self._cos = self._sin = ""

    def build(self) -> None:
        """Every node, input and output."""
        s, g = self.shape, self.graph
        g.inputs.append(g.value("input_ids", "INT32", (1, self.tokens)))
        self._inputs()
        x = self._scaled("/model/embed_tokens/Mul", g.embedding("input_ids", s.vocab, s.d_model), s.embedding_scale)
        for index in range(s.layers):
            x = self._layer(index, x)
        logits = g.output(self._norm("model.norm", x, s.d_model), s.d_model, s.vocab, s.tied)
        logits = self._scaled("/lm_head/Mul", logits, 1 / s.logit_scale if s.logit_scale else 0.0)
        g.rename(logits, "logits")
        g.outputs.insert(0, g.value("logits", "FLOAT", (1, 1, s.vocab)))

    def _inputs(self) -> None:
        """Which tokens count, as a factor for the recurrent layers and as a summand for the scores; rotary angles."""
        s, g = self.shape, self.graph
        seen = self.tokens + (self.context if self._attends else 0)
        g.inputs.append(g.value("attention_mask", "INT32", (1, seen)))
        counts = g.op("Cast", "/model/mask/Cast", "attention_mask", to=CAST_TO_FLOAT)
        if s.d_state:
            last = g.cut("/model/mask/Slice", counts, 1, seen - self.tokens, seen) if self._attends else counts
            self._valid = g.op("Reshape", "/model/mask/Reshape", last, g.integers(1, self.tokens, 1))
        if not self._attends:
            return
        left_out = g.op("Sub", "/model/mask/Sub", counts, g.constant("/model/mask/one", [1.0]))
        left_out = g.op("Mul", "/model/mask/Mul", left_out, g.constant("/model/mask/most", [-MASKED]))
        left_out = g.op("Reshape", "/model/mask/Reshape_1", left_out, g.integers(1, 1, 1, seen))
        import numpy as np

        ahead = np.triu(np.ones((self.tokens, seen)), self.context + 1) * MASKED
        mask = g.op("Min", "/model/mask/Min", left_out, g.constant("/model/mask/ahead", ahead[None, None]))
        group = s.heads // s.kv_heads
        self._mask = g.op("Concat", "/model/mask/Concat", *[mask] * group, axis=2) if group > 1 else mask
        if s.rope_theta:
            g.inputs.append(g.value("position_ids", "INT32", (1, self.tokens)))
            self._cos, self._sin = (self._angles(name) for name in ("cos", "sin"))

    def _angles(self, name: str) -> str:
        import numpy as np

        g, half = self.graph, self.shape.head_dim // 2
        angles = np.outer(np.arange(self.context), self.shape.rope_theta ** (-np.arange(half) / half))
        table = np.cos(angles) if name == "cos" else np.sin(angles)
        # 16 bits with a sign: of those without, the Hexagon libraries make no table (QNN 2.7.0).
        rows = g.op("Gather", f"/model/{name}/Gather", g.constant(f"{name}_cache", table, "int16"), "position_ids")
        return g.op("Reshape", f"/model/{name}/Reshape", rows, g.integers(1, self.tokens, 1, half))

    def _layer(self, index: int, x: str) -> str:
        s, name = self.shape, f"model.layers.{index}"
        node = f"/model/layers/{index}"
        y = self._norm(f"{name}.input_layernorm", x, s.d_model)
        branches = [self._attention(index, y)] if s.kv_heads_by_layer[index] else []
        if s.d_state and (s.arch == "falcon-h1" or not s.kv_heads_by_layer[index]):
            branches.append(self._mamba2(index, y))
        branch = self.graph.op("Add", f"{node}/Add", *branches) if len(branches) == 2 else branches[0]
        x = self.graph.op("Add", f"{node}/Add_1", x, self._scaled(f"{node}/Mul", branch, s.residual_scale))
        if s.ff:
            y = self._mlp(name, self._norm(f"{name}.post_attention_layernorm", x, s.d_model))
            x = self.graph.op("Add", f"{node}/mlp/Add", x, self._scaled(f"{node}/mlp/Mul_2", y, s.residual_scale))
        return x

    def _scaled(self, node: str, x: str, scale: float) -> str:
        return self.graph.op("Mul", node, x, self.graph.constant(f"{node}/scale", [scale])) if scale else x

    def _norm(self, name: str, x: str, width: int) -> str:
        node, weight = f"/{name.replace('.', '/')}/RMSNormalization", self.graph.filled(f"{name}.weight", width, 1.0)
        return self.graph.op("RMSNormalization", node, x, weight, axis=-1, epsilon=self.shape.norm_eps)

    def _mlp(self, name: str, x: str) -> str:
        """SwiGLU: (silu(x W_gate) * x W_up) W_down."""
        s, g = self.shape, self.graph
        node = f"/{name.replace('.', '/')}/mlp"
        gate = self._silu(f"{node}/act_fn", g.linear(f"{name}.mlp.gate_proj", x, s.d_model, s.ff))
        up = g.linear(f"{name}.mlp.up_proj", x, s.d_model, s.ff)
        return g.linear(f"{name}.mlp.down_proj", g.op("Mul", f"{node}/Mul", gate, up), s.ff, s.d_model)

    def _silu(self, node: str, x: str) -> str:
        return self.graph.op("Mul", f"{node}/Mul", x, self.graph.op("Sigmoid", f"{node}/Sigmoid", x))

    def _attention(self, index: int, x: str) -> str:
        """Each group of query heads is one matrix beside its key head's."""
        s, g, n = self.shape, self.graph, self.tokens
        name, node, head = f"model.layers.{index}.attn", f"/model/layers/{index}/attn", s.head_dim
        heads, keys = s.heads, s.kv_heads
        qkv = g.linear(f"{name}.qkv_proj", x, s.d_model, (heads + 2 * keys) * head)
        if s.arch == "qwen2":
            qkv = g.op("Add", f"{node}/qkv_proj/Add", qkv, g.filled(f"{name}.qkv_proj.bias", (heads + 2 * keys) * head))
        qkv = g.op("Reshape", f"{node}/Reshape", qkv, g.integers(1, n, heads + 2 * keys, head))
        qk, v = g.split(f"{node}/Split", qkv, 2, heads + keys, keys)
        qk = g.op("Transpose", f"{node}/Transpose", self._rotated(node, qk), perm=[0, 2, 1, 3])
        q, k = g.split(f"{node}/Split_1", qk, 1, heads, keys)
        v = g.op("Transpose", f"{node}/Transpose_1", v, perm=[0, 2, 1, 3])
        k, v = (self._cached(index, part, new) for part, new in (("key", k), ("value", v)))
        q = self._scaled(f"{node}/q/Mul", q, s.attention_scale or head**-0.5)
        q = g.op("Reshape", f"{node}/q/Reshape", q, g.integers(1, keys, heads // keys * n, head))
        k = g.op("Transpose", f"{node}/k/Transpose", k, perm=[0, 1, 3, 2])
        scores = g.op("Add", f"{node}/scores/Add", g.op("MatMul", f"{node}/scores/MatMul", q, k), self._mask)
        y = g.op("MatMul", f"{node}/MatMul", g.op("Softmax", f"{node}/Softmax", scores, axis=-1), v)
        y = g.op("Reshape", f"{node}/Reshape_1", y, g.integers(1, heads, n, head))
        y = g.op("Transpose", f"{node}/Transpose_2", y, perm=[0, 2, 1, 3])
        y = g.op("Reshape", f"{node}/Reshape_2", y, g.integers(1, n, heads * head))
        return g.linear(f"{name}.o_proj", y, heads * head, s.d_model)

    def _rotated(self, node: str, x: str) -> str:
        if not self._cos:
            return x
        g, half = self.graph, self.shape.head_dim // 2
        a, b = g.split(f"{node}/rotary/Split", x, 3, half, half)
        one, other = (g.op("Mul", f"{node}/rotary/Mul_{i}", part, self._cos) for i, part in enumerate((a, b)))
        one = g.op("Sub", f"{node}/rotary/Sub", one, g.op("Mul", f"{node}/rotary/Mul_2", b, self._sin))
        other = g.op("Add", f"{node}/rotary/Add", other, g.op("Mul", f"{node}/rotary/Mul_3", a, self._sin))
        return g.op("Concat", f"{node}/rotary/Concat", one, other, axis=3)

    def _cached(self, index: int, part: str, new: str) -> str:
        """What was there and what is new; of it all, the last go on to the next call."""
        s, g, node = self.shape, self.graph, f"/model/layers/{index}/attn/{part}"
        past, present = f"past_key_values.{index}.{part}", f"present.{index}.{part}"
        g.state(past, present, (1, s.kv_heads, self.context, s.head_dim), STATE)
        whole = g.op("Concat", f"{node}/Concat", past, new, axis=2)
        g.rename(g.cut(f"{node}/Slice", whole, 2, self.tokens, self.tokens + self.context), present)
        return whole

    def _mamba2(self, index: int, x: str) -> str:
        """h = exp(dt A) h + B (dt x)', y = C h + D x; then a norm gated by z."""
        s, g, n = self.shape, self.graph, self.tokens
        name, node = f"model.layers.{index}.mamba", f"/model/layers/{index}/mamba"
        heads, width = s.dt_rank, s.d_inner // s.dt_rank
        convolved = s.d_inner + 2 * s.d_state
        zxbcdt = g.linear(f"{name}.in_proj", x, s.d_model, s.d_inner + convolved + heads)
        z, xbc, dt = g.split(f"{node}/Split", zxbcdt, 2, s.d_inner, convolved, heads)
        xbc = self._convolution(index, g.op("Mul", f"{node}/mask/Mul", xbc, self._valid), convolved)
        u, b, c = g.split(f"{node}/Split_1", xbc, 2, s.d_inner, s.d_state, s.d_state)
        dt = g.op("Add", f"{node}/dt/Add", dt, g.filled(f"{name}.dt_bias", heads, -4.0))
        dt = g.op("Softplus", f"{node}/dt/Softplus", dt)
        dt = g.op("Mul", f"{node}/mask/Mul_1", dt, self._valid)
        decay = g.op("Mul", f"{node}/decay/Mul", dt, g.constant(f"{name}.A", [-float(i + 1) for i in range(heads)]))
        by_head = g.op("Reshape", f"{node}/Reshape", u, g.integers(1, n, heads, width))
        steps = g.op("Reshape", f"{node}/dt/Reshape", dt, g.integers(1, n, heads, 1))
        value = g.op("Mul", f"{node}/value/Mul", by_head, steps)
        value = g.op("Transpose", f"{node}/value/Transpose", value, perm=[0, 2, 1, 3])
        y = g.op("Transpose", f"{node}/Transpose", self._recurrence(index, c, b, value, decay), perm=[0, 2, 1, 3])
        skip = g.op("Mul", f"{node}/D/Mul", by_head, g.filled(f"{name}.D", (1, 1, heads, 1), 1.0))
        y = g.op("Reshape", f"{node}/Reshape_1", g.op("Add", f"{node}/Add", y, skip), g.integers(1, n, s.d_inner))
        y = g.op("Mul", f"{node}/gate/Mul", y, self._silu(f"{node}/act_fn", z))
        if s.arch != "falcon-h1":  # which has no norm here
            y = self._norm(f"{name}.norm", y, s.d_inner)
        return g.linear(f"{name}.out_proj", y, s.d_inner, s.d_model)

    def _convolution(self, index: int, x: str, channels: int) -> str:
        """silu(conv(x)) over time, each channel by itself."""
        s, g = self.shape, self.graph
        name, node = f"model.layers.{index}.mamba.conv1d", f"/model/layers/{index}/mamba/conv"
        past, present, kept = f"past.{index}.conv", f"present.{index}.conv", s.d_conv - 1
        g.state(past, present, (1, channels, kept), STATE)
        whole = g.op(
            "Concat", f"{node}/Concat", past, g.op("Transpose", f"{node}/Transpose", x, perm=[0, 2, 1]), axis=2
        )
        g.rename(g.cut(f"{node}/Slice", whole, 2, self.tokens, self.tokens + kept), present)
        weight = g.matrix(f"{name}.weight", (channels, 1, s.d_conv))
        y = g.op("Conv", f"{node}/Conv", whole, weight, group=channels, kernel_shape=[s.d_conv])
        y = g.op("Add", f"{node}/Add", y, g.filled(f"{name}.bias", (1, channels, 1)))
        return g.op("Transpose", f"{node}/Transpose_1", self._silu(f"{node}/act_fn", y), perm=[0, 2, 1])

    def _recurrence(self, index: int, c: str, b: str, value: str, decay: str) -> str:
        """The chunk as products of matrices; ``value`` is (1, heads, tokens, width), ``decay`` (1, tokens, heads).

        With cum(i) the sum of the decays up to i: y(i) = sum over j <= i of exp(cum(i) - cum(j)) C(i)B(j) value(j),
        and what the state before the chunk gives, exp(cum(i)) C(i) h.
        """
        import numpy as np

        s, g, n = self.shape, self.graph, self.tokens
        heads, node = s.dt_rank, f"/model/layers/{index}/mamba/scan"
        past, present = f"past.{index}.recurrent", f"present.{index}.recurrent"
        g.state(past, present, (1, heads, s.d_state, s.d_inner // heads), STATE)
        c = g.op("Reshape", f"{node}/C/Reshape", c, g.integers(1, 1, n, s.d_state))
        b = g.op("Transpose", f"{node}/B/Transpose", b, perm=[0, 2, 1])
        b = g.op("Reshape", f"{node}/B/Reshape", b, g.integers(1, 1, s.d_state, n))
        decay = g.op("Transpose", f"{node}/decay/Transpose", decay, perm=[0, 2, 1])
        cum = g.op(
            "MatMul", f"{node}/cum/MatMul", decay, g.constant("/model/scan/sum", np.triu(np.ones((n, n))), "int8")
        )
        rows = g.op("Reshape", f"{node}/cum/Reshape", cum, g.integers(1, heads, n, 1))
        columns = g.op("Reshape", f"{node}/cum/Reshape_1", cum, g.integers(1, heads, 1, n))
        between = g.op("Sub", f"{node}/between/Sub", rows, columns)
        ahead = g.constant("/model/scan/ahead", np.triu(np.ones((n, n)), 1)[None, None] * MASKED)
        between = g.op("Exp", f"{node}/between/Exp", g.op("Min", f"{node}/between/Min", between, ahead))
        products = g.op("MatMul", f"{node}/CB/MatMul", c, b)
        inside = g.op("MatMul", f"{node}/MatMul", g.op("Mul", f"{node}/Mul", between, products), value)
        faded = g.op("Mul", f"{node}/C/Mul", c, g.op("Exp", f"{node}/cum/Exp", rows))
        y = g.op("Add", f"{node}/Add", inside, g.op("MatMul", f"{node}/MatMul_1", faded, past))
        last = g.cut(f"{node}/last/Slice", columns, 3, n - 1, n)
        to_end = g.op("Exp", f"{node}/end/Exp", g.op("Sub", f"{node}/end/Sub", last, columns))
        added = g.op("MatMul", f"{node}/MatMul_2", g.op("Mul", f"{node}/B/Mul", b, to_end), value)
        kept = g.op("Mul", f"{node}/kept/Mul", past, g.op("Exp", f"{node}/last/Exp", last))
        g.rename(g.op("Add", f"{node}/Add_1", kept, added), present)
        return y
