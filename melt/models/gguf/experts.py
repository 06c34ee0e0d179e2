"""What part of a mixture of experts one token goes through."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from melt.errors import ModelError
from melt.models.gguf.header import TensorInfo
from melt.models.gguf.metadata import Metadata

# llama.cpp keeps a layer's experts in one tensor, and the expert is its last dimension.
_OF_EXPERTS = re.compile(r"blk\.(\d{1,5})\.ffn_(?:gate|up|down|gate_up)_exps\.")


@dataclass(frozen=True)
class Active:
    """Parameters and bytes that one token uses; of a model without experts, all of them.

    ``expert_width`` is the feed-forward length of one expert.
    """

    n_experts: int
    n_experts_used: int
    expert_width: int
    n_params: int
    weights_bytes: int


def active_part(tensors: Iterable[TensorInfo], meta: Metadata) -> Active:
    """What one token uses of ``tensors``: of a layer's experts the share that is used, of the rest everything.

    Raises:
        ModelError: more experts are used than there are.
    """
    n_experts = meta.count("expert_count")
    used_by_layer = meta.counts("expert_used_count", meta.count("block_count"))
    n_used = max(used_by_layer, default=0)
    if n_used > n_experts:
        raise ModelError(
            f"{meta.label}: it claims to use {n_used} of {n_experts} experts",
            "The file is damaged; download it again, from a source you trust.",
        )
    n_params = weights_bytes = 0
    for tensor in tensors:
        found = _OF_EXPERTS.match(tensor.name)
        used, of = 1, 1
        if found and n_experts and tensor.dims[-1] == n_experts and int(found[1]) < len(used_by_layer):
            used, of = used_by_layer[int(found[1])], n_experts
        n_params += tensor.elements * used // of
        weights_bytes += tensor.size_bytes * used // of
    width = meta.count("expert_feed_forward_length", default=meta.count("feed_forward_length")) if n_experts else 0
    return Active(n_experts, n_used, width, n_params, weights_bytes)
