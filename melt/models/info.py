"""What a model is."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from melt.models.gguf.architectures import Family
from melt.models.gguf.layers import KvLayout

Format = Literal["gguf", "onnx"]


@dataclass(frozen=True)
class ModelFile:
    """One file of a model of several; ``name`` is its path in their folder."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A model's identity, shape and size; zero where an architecture has no such thing.

    ``name`` is the file's own word, ``short_name`` what people would call it by its reference.
    ``sha256`` is empty until the file has been hashed, ``path`` until there is a file.
    ``context_trained`` is zero when the file does not say. ``kv_layout`` and the two ``*_state_elements`` (of one
    recurrent layer) are what memory is predicted from. What is *active* is what one token goes through: of a mixture
    of experts those that are used, of any other model everything. Of an architecture that melt does not know, the
    family is ``unknown`` and no layer is counted as attending or recurrent.
    """

    name: str
    short_name: str
    ref: str
    path: str
    revision: str = ""
    sha256: str = ""
    file_bytes: int
    arch: str
    family: Family
    quant: str
    synthetic: bool
    n_params: int
    n_params_active: int
    n_experts: int = 0
    n_experts_used: int = 0
    n_layers: int
    n_attention_layers: int = 0
    n_recurrent_layers: int = 0
    d_model: int = 0
    n_heads: int = 0
    n_kv_heads: int = 0
    head_dim: int = 0
    d_ff: int = 0
    d_ff_expert: int = 0
    d_inner: int = 0
    d_state: int = 0
    d_conv: int = 0
    n_groups: int = 0
    vocab_size: int
    context_trained: int
    bytes_by_type: dict[str, int]
    weights_bytes: int
    active_weights_bytes: int
    embedding_bytes: int = 0
    tied_embedding: bool
    conv_state_elements: int = 0
    ssm_state_elements: int = 0
    kv_layout: KvLayout
    format: Format = "gguf"
    # Of an ONNX graph, whose types are its own; zero where the engine chooses the cache's type.
    kv_element_bytes: int = 0
    state_element_bytes: int = 4
    widest_product: int = 0  # the widest output of a layer's products, in an ONNX graph
    # Of an ONNX graph with fixed shapes: tokens of a call that reads the prompt, and those that the cache holds.
    chunk_tokens: int = 0
    cache_tokens: int = 0
    n_files: int = 1  # that a GGUF model was split into
    files: tuple[ModelFile, ...] = ()  # of a model of several, once they have been hashed; an engine gets the first

    def to_dict(self) -> dict[str, Any]:
        """Plain values that ``json.dumps`` takes."""
        return asdict(self)
