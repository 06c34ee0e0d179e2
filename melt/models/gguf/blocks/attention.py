"""Attention: grouped queries, gated, and with a latent of keys and values (MLA)."""

from melt.models.gguf.blocks.tensor import Plan, TensorSpec, norm
from melt.models.shapes.zoo import Shape


def attention(shape: Shape, query_width: int = 0) -> Plan:
    """Queries, keys, values and output; ``query_width`` where the queries are wider than the heads."""
    d, heads, kv = shape.d_model, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    yield TensorSpec("attn_q.weight", (d, query_width or heads))
    yield TensorSpec("attn_k.weight", (d, kv))
    yield TensorSpec("attn_v.weight", (d, kv))
    yield TensorSpec("attn_output.weight", (heads, d))


def attention_bias(shape: Shape) -> Plan:
    """The bias of queries, keys and values."""
    yield TensorSpec("attn_q.bias", (shape.heads * shape.head_dim,), 0.0)
    yield TensorSpec("attn_k.bias", (shape.kv_heads * shape.head_dim,), 0.0)
    yield TensorSpec("attn_v.bias", (shape.kv_heads * shape.head_dim,), 0.0)


def head_norms(shape: Shape) -> Plan:
    """Norms of each head's query and key."""
    yield norm("attn_q_norm", shape.head_dim)
    yield norm("attn_k_norm", shape.head_dim)


def gated_attention(shape: Shape) -> Plan:
    """Attention whose output a gate scales, which comes out of the query's matrix (Qwen3-Next, Qwen3.5)."""
    yield from attention(shape, query_width=2 * shape.heads * shape.head_dim)
    yield from head_norms(shape)


def latent_attention(shape: Shape) -> Plan:
    """Keys and values as one latent beside a rotary part, with the products absorbed (DeepSeek-V2, section 2.1)."""
    d, heads, rank = shape.d_model, shape.heads, shape.kv_lora
    yield TensorSpec("attn_q.weight", (d, heads * shape.head_dim))
    yield TensorSpec("attn_kv_a_mqa.weight", (d, rank + shape.rope_dim))
    yield norm("attn_kv_a_norm", rank)
    yield TensorSpec("attn_k_b.weight", (shape.head_dim - shape.rope_dim, rank, heads))
    yield TensorSpec("attn_v_b.weight", (rank, shape.value_dim, heads))
    yield TensorSpec("attn_output.weight", (heads * shape.value_dim, d))
