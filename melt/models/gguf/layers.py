"""Which layers of a model attend, which carry a recurrent state, and how large each is.

The rules are llama.cpp's: some architectures say it layer by layer, others follow from their name.
"""

from dataclasses import dataclass

from melt.errors import ModelError
from melt.models.gguf.metadata import Metadata

MAX_LAYERS = 10_000

# Recurrent in every layer, without attention.
_PURE_RECURRENT = {"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"}
# A layer is recurrent exactly where it has no KV heads.
_RECURRENT_WITHOUT_KV = {"jamba", "granitehybrid", "lfm2", "lfm2moe", "plamo2"}
# As above, but a layer with an MLP is neither.
_RECURRENT_WITHOUT_KV_AND_MLP = {"nemotron_h", "nemotron_h_moe"}
# Attention every n-th layer (the key full_attention_interval), recurrent between.
_INTERVAL = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4}

# Every n-th layer sees the whole context, the others a window (0: all); the file may say otherwise.
_WINDOW_PATTERN = {
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gemma4": 6,
    "cohere2": 4,
    "exaone4": 4,
    "olmo2": 4,
    "gpt-oss": 2,
    "plamo3": 8,
    "lfm2": 0,
    "lfm2moe": 0,
}


@dataclass(frozen=True)
class KvLayout:
    """The attention cache: KV heads of each layer (zero: none), head sizes, and windows."""

    heads_by_layer: tuple[int, ...]
    head_dim_k: int
    head_dim_v: int
    window: int
    windowed_by_layer: tuple[bool, ...]

    def width_k(self, layer: int) -> int:
        """Elements of K that one token adds in ``layer``."""
        return self.heads_by_layer[layer] * self.head_dim_k

    def width_v(self, layer: int) -> int:
        """Elements of V that one token adds in ``layer``."""
        return self.heads_by_layer[layer] * self.head_dim_v


@dataclass(frozen=True)
class LayerLayout:
    """How many layers attend and recur, and the state one recurrent layer keeps."""

    n_layers: int
    n_heads: int
    n_recurrent: int
    kv: KvLayout
    conv_state_elements: int
    ssm_state_elements: int

    @property
    def n_attention(self) -> int:
        """Layers with a KV cache."""
        return sum(heads > 0 for heads in self.kv.heads_by_layer)


def layer_layout(arch: str, meta: Metadata) -> LayerLayout:
    """Read the layers of a model of ``arch`` from its metadata."""
    n_layers = meta.count("block_count")
    if not 0 < n_layers <= MAX_LAYERS:
        raise ModelError(f"{meta.label}: it claims {n_layers} layers", "It is no language model, or it is damaged.")
    heads = meta.counts("attention.head_count", n_layers)
    kv_heads = meta.counts("attention.head_count_kv", n_layers) if _has(meta, "attention.head_count_kv") else heads
    recurrent = _recurrent_layers(arch, meta, kv_heads)
    attends = [arch == "falcon-h1" or not recurrent[i] for i in range(n_layers)]
    kv_by_layer = tuple(kv if attends[i] else 0 for i, kv in enumerate(kv_heads))
    conv, ssm = _state_elements(meta) if any(recurrent) else (0, 0)
    return LayerLayout(
        n_layers=n_layers,
        n_heads=max(heads),
        n_recurrent=sum(recurrent),
        kv=_kv_layout(arch, meta, kv_by_layer, max(heads)),
        conv_state_elements=conv,
        ssm_state_elements=ssm,
    )


def _has(meta: Metadata, key: str) -> bool:
    return meta.prefix + key in meta.values


def _recurrent_layers(arch: str, meta: Metadata, kv_heads: tuple[int, ...]) -> list[bool]:
    n_layers = len(kv_heads)
    if arch in _PURE_RECURRENT or arch == "falcon-h1":
        return [True] * n_layers
    if arch in _RECURRENT_WITHOUT_KV:
        return [heads == 0 for heads in kv_heads]
    if arch in _RECURRENT_WITHOUT_KV_AND_MLP:
        ff = meta.counts("feed_forward_length", n_layers)
        return [heads == 0 and width == 0 for heads, width in zip(kv_heads, ff, strict=True)]
    if arch in _INTERVAL:
        interval = meta.count("full_attention_interval", default=_INTERVAL[arch]) or 1
        return [(i + 1) % interval != 0 for i in range(n_layers)]
    return [False] * n_layers


def _kv_layout(arch: str, meta: Metadata, kv_by_layer: tuple[int, ...], n_heads: int) -> KvLayout:
    derived = meta.count("embedding_length") // n_heads if n_heads else 0
    window = meta.count("attention.sliding_window")
    n_layers = len(kv_by_layer)
    windowed = (False,) * n_layers
    if arch in _WINDOW_PATTERN and window:
        flags = meta.flags("attention.sliding_window_pattern", n_layers)
        pattern = (
            _WINDOW_PATTERN[arch]
            if flags
            else meta.count("attention.sliding_window_pattern", default=_WINDOW_PATTERN[arch])
        )
        windowed = flags or tuple(not pattern or i % pattern < pattern - 1 for i in range(n_layers))
    return KvLayout(
        heads_by_layer=kv_by_layer,
        head_dim_k=meta.count("attention.key_length", default=derived) if any(kv_by_layer) else 0,
        head_dim_v=meta.count("attention.value_length", default=derived) if any(kv_by_layer) else 0,
        window=window if any(windowed) else 0,
        windowed_by_layer=windowed,
    )


def _state_elements(meta: Metadata) -> tuple[int, int]:
    """Elements of convolution (or token shift) and of recurrent state, of one layer."""
    d_model = meta.count("embedding_length")
    wkv_head = meta.count("wkv.head_size")
    if wkv_head:
        return meta.count("token_shift_count", default=2) * d_model, d_model * wkv_head
    taps = meta.count("shortconv.l_cache")
    if taps:
        return d_model * (taps - 1), 0
    inner, state = meta.count("ssm.inner_size"), meta.count("ssm.state_size")
    kernel, groups = meta.count("ssm.conv_kernel"), meta.count("ssm.group_count")
    return max(kernel - 1, 0) * (inner + 2 * groups * state), inner * state
