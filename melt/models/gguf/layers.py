"""Which layers of a model attend, which carry a recurrent state, and how large each is.

The rules are llama.cpp's (its src/llama-hparams.cpp and src/llama-model.cpp): some architectures say it layer by
layer, others follow from their row in ``architectures``.
"""

from dataclasses import dataclass

from melt.errors import ModelError
from melt.models.gguf.architectures import Architecture, RecurrentLayers, architecture
from melt.models.gguf.metadata import Metadata

MAX_LAYERS = 10_000

# Of these the layers for multi-token prediction, behind the others, have a cache in the main context too.
_WITH_DRAFT_LAYERS: tuple[RecurrentLayers, ...] = ("without KV heads", "all, beside attention")


@dataclass(frozen=True)
class KvLayout:
    """The attention cache: KV heads of each layer (zero: none), head sizes, and windows."""

    heads_by_layer: tuple[int, ...]
    head_dim_k: int
    head_dim_v: int
    window: int
    windowed_by_layer: tuple[bool, ...]
    window_head_dim_k: int = 0  # of layers with a window, where it differs; zero: the same
    window_head_dim_v: int = 0
    is_latent: bool = False  # MLA: values are read out of the keys, so only those are kept
    kept_layers: int = 0  # only so many layers keep a cache, the others read theirs; zero: all

    def width_k(self, layer: int) -> int:
        """Elements of K that one token adds in ``layer``."""
        return self._heads_kept(layer) * self.head_dims(layer)[0]

    def width_v(self, layer: int) -> int:
        """Elements of V that one token adds in ``layer``."""
        return 0 if self.is_latent else self._heads_kept(layer) * self.head_dims(layer)[1]

    def head_dims(self, layer: int) -> tuple[int, int]:
        """Sizes of a head's key and value in ``layer``."""
        if not self.windowed_by_layer[layer]:
            return self.head_dim_k, self.head_dim_v
        return self.window_head_dim_k or self.head_dim_k, self.window_head_dim_v or self.head_dim_v

    def _heads_kept(self, layer: int) -> int:
        return 0 if 0 < self.kept_layers <= layer else self.heads_by_layer[layer]


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
        """Layers that attend."""
        return sum(heads > 0 for heads in self.kv.heads_by_layer)


def layer_layout(arch: str, meta: Metadata) -> LayerLayout:
    """Read the layers of a model of ``arch`` from its metadata; of an unknown one neither kind is counted."""
    row = architecture(arch)
    n_layers = meta.count("block_count")
    if not 0 < n_layers <= MAX_LAYERS:
        raise ModelError(f"{meta.label}: it claims {n_layers} layers", "It is no language model, or it is damaged.")
    heads = meta.counts("attention.head_count", n_layers)
    kv_heads = meta.counts("attention.head_count_kv", n_layers) if _has(meta, "attention.head_count_kv") else heads
    recurrent = _recurrent_layers(row, meta, kv_heads)
    attends = _attending_layers(row, meta, recurrent)
    kv_by_layer = tuple(kv if attends[i] else 0 for i, kv in enumerate(kv_heads))
    conv, ssm = _state_elements(meta, heads[0]) if any(recurrent) else (0, 0)
    return LayerLayout(
        n_layers=n_layers,
        n_heads=max(heads),
        n_recurrent=sum(recurrent),
        kv=_kv_layout(row, meta, kv_by_layer, heads[0]),
        conv_state_elements=conv,
        ssm_state_elements=ssm,
    )


def _has(meta: Metadata, key: str) -> bool:
    return meta.prefix + key in meta.values


def _recurrent_layers(row: Architecture, meta: Metadata, kv_heads: tuple[int, ...]) -> list[bool]:
    """Which layers carry a state; those for multi-token prediction, behind the others, never do."""
    n_layers = len(kv_heads)
    stated = meta.flags("attention.recurrent_layers", n_layers) if row.recurrent == "by interval" else None
    interval = meta.count("full_attention_interval", default=row.interval) or 1
    rules: dict[RecurrentLayers, tuple[bool, ...] | list[bool]] = {
        "none": [False] * n_layers,
        "all": [True] * n_layers,
        "all, beside attention": [True] * n_layers,
        "without KV heads": [heads == 0 for heads in kv_heads],
        "without KV heads and MLP": [
            h == m == 0 for h, m in zip(kv_heads, _mlp_widths(row, meta, n_layers), strict=True)
        ],
        "by interval": stated or [(i + 1) % interval != 0 for i in range(n_layers)],
    }
    n_trunk = n_layers - meta.count("nextn_predict_layers")
    return [recurs and i < n_trunk for i, recurs in enumerate(rules[row.recurrent])]


def _attending_layers(row: Architecture, meta: Metadata, recurrent: list[bool]) -> list[bool]:
    n_layers = len(recurrent)
    if row.family == "unknown":
        return [False] * n_layers
    if row.recurrent == "all, beside attention":
        return [True] * n_layers
    if row.recurrent == "without KV heads and MLP":
        return [not r and not m for r, m in zip(recurrent, _mlp_widths(row, meta, n_layers), strict=True)]
    n_drafts = 0 if row.recurrent in _WITH_DRAFT_LAYERS else meta.count("nextn_predict_layers")
    return [not recurs and i < n_layers - n_drafts for i, recurs in enumerate(recurrent)]


def _mlp_widths(row: Architecture, meta: Metadata, n_layers: int) -> tuple[int, ...]:
    """Of an architecture whose MLPs are layers of their own; zeros of any other."""
    is_apart = row.recurrent == "without KV heads and MLP"
    return meta.counts("feed_forward_length", n_layers) if is_apart else (0,) * n_layers


def _kv_layout(row: Architecture, meta: Metadata, kv_by_layer: tuple[int, ...], n_heads: int) -> KvLayout:
    attends = any(kv_by_layer)
    derived = meta.count("embedding_length") // n_heads if n_heads else 0
    window, windowed = _windows(row, meta, len(kv_by_layer))
    shared = meta.count("attention.shared_kv_layers")
    return KvLayout(
        heads_by_layer=kv_by_layer,
        head_dim_k=meta.count("attention.key_length", default=derived) if attends else 0,
        head_dim_v=meta.count("attention.value_length", default=derived) if attends else 0,
        window=window if any(windowed) else 0,
        windowed_by_layer=windowed,
        window_head_dim_k=meta.count("attention.key_length_swa") if any(windowed) else 0,
        window_head_dim_v=meta.count("attention.value_length_swa") if any(windowed) else 0,
        is_latent=meta.count("attention.key_length_mla") > 0 and meta.count("attention.value_length_mla") > 0,
        kept_layers=row.kept_layers or (max(len(kv_by_layer) - shared, 0) if shared else 0),
    )


def _windows(row: Architecture, meta: Metadata, n_layers: int) -> tuple[int, tuple[bool, ...]]:
    """The window's size in tokens, and which layers have it."""
    none = (0, (False,) * n_layers)
    rule = row.window
    if rule is None or (rule.only_layers and n_layers != rule.only_layers):
        return none
    key = "attention.sliding_window"
    if _has(meta, key) and meta.count(key) == 0:
        return none
    if not _has(meta, key) and rule.optional:
        return none
    tokens = rule.always_tokens or meta.count(key, default=rule.tokens)
    if rule.pattern == 0:
        return tokens, (True,) * n_layers
    flags = meta.flags(f"{key}_pattern", n_layers)
    if flags is not None:
        return tokens, flags
    if rule.pattern is None:
        return none
    pattern = meta.count(f"{key}_pattern", default=rule.pattern)
    whole = 0 if rule.whole_first else pattern - 1
    return tokens, tuple(not pattern or i % pattern != whole for i in range(n_layers))


def _state_elements(meta: Metadata, n_heads: int) -> tuple[int, int]:
    """Elements of convolution (or token shift) and of recurrent state, of one layer."""
    d_model = meta.count("embedding_length")
    kernel, groups = meta.count("ssm.conv_kernel"), meta.count("ssm.group_count")
    if wkv_head := meta.count("wkv.head_size"):
        return meta.count("token_shift_count", default=2) * d_model, d_model * wkv_head
    if taps := meta.count("shortconv.l_cache"):
        return d_model * (taps - 1), 0
    if kda_head := meta.count("kda.head_dim"):
        return 3 * (kernel - 1 if kernel else 3) * n_heads * kda_head, kda_head * kda_head * n_heads
    inner, state = meta.count("ssm.inner_size"), meta.count("ssm.state_size")
    if not inner:  # linear attention, whose state is a square for each head
        return 0, meta.count("attention.key_length", default=d_model // n_heads if n_heads else 0) ** 2 * n_heads
    return max(kernel - 1, 0) * (inner + 2 * groups * state), inner * state
