"""Small hyper-parameters with which llama.cpp builds a model of each architecture.

Everything that some architecture reads is in the common part; what is below it is for those that need other values.
"""

from typing import Any

from melt.models.gguf.architectures import ARCHITECTURES

LAYERS = 12
WIDTH, HEADS, KV_HEADS, HEAD_DIM, FF = 256, 4, 2, 64, 384

_COMMON: dict[str, Any] = {
    "vocab_size": 128,
    "context_length": 4096,
    "embedding_length": WIDTH,
    "block_count": LAYERS,
    "feed_forward_length": FF,
    "leading_dense_block_count": 1,
    "attention.head_count": HEADS,
    "attention.head_count_kv": KV_HEADS,
    "attention.layer_norm_epsilon": 1e-5,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "attention.group_norm_epsilon": 1e-5,
    "attention.group_norm_groups": 8,
    "attention.relative_buckets_count": 8,
    "attention.max_alibi_bias": 8.0,
    "attention.clamp_kqv": 1.0,
    "attention.scale": 1.0,
    "attention.sliding_window": 512,
    "rope.dimension_count": HEAD_DIM,
    "rope.dimension_sections": [8, 8, 8, 8],
    "use_parallel_residual": False,
    "logit_scale": 1.0,
    "embedding_scale": 1.0,
    "residual_scale": 1.0,
    "final_logit_softcapping": 30.0,
}
_EXPERTS: dict[str, Any] = {
    "expert_count": 4,
    "expert_used_count": 2,
    "expert_feed_forward_length": 64,
    "expert_shared_count": 1,
    "expert_shared_feed_forward_length": 64,
    "expert_gating_func": 2,
    "expert_weights_scale": 1.0,
    "expert_weights_norm": True,
    "expert_group_scale": 1.0,
    "experts_per_group": 1,
    "interleave_moe_layer_step": 2,
    "moe_every_n_layers": 2,
}
_XIELU = {f"xielu.{key}": 1.0 for key in ("alpha_n", "alpha_p", "beta", "eps")}
_MAMBA = {"ssm.inner_size": 512, "ssm.state_size": 16, "ssm.conv_kernel": 4, "ssm.time_step_rank": 32}
_MAMBA2 = {**_MAMBA, "ssm.state_size": 64, "ssm.time_step_rank": 8, "ssm.group_count": 2}
_DELTA_NET = {**_MAMBA2, "ssm.inner_size": 8 * 64, "full_attention_interval": 4}
_RWKV = {
    "attention.head_count_kv": HEADS,
    "wkv.head_size": 64,
    "time_mix_extra_dim": 32,
    "time_decay_extra_dim": 32,
    "rescale_every_n_layers": 0,
    "attention.decay_lora_rank": 32,
    "attention.iclr_lora_rank": 32,
    "attention.value_residual_mix_lora_rank": 32,
    "attention.gate_lora_rank": 32,
}
# A latent of 64 and 32 positions, in place of 4 heads of 32 + 32 and 32.
_MLA = {
    "attention.head_count_kv": 1,
    "attention.q_lora_rank": 64,
    "attention.kv_lora_rank": 64,
    "attention.key_length": 96,
    "attention.value_length": 64,
    "attention.key_length_mla": 64,
    "attention.value_length_mla": 32,
    "rope.dimension_count": 32,
}
_SOME_ATTEND = [KV_HEADS if layer % 4 == 3 else 0 for layer in range(LAYERS)]
_KDA = {
    **_MLA,
    "kda.head_dim": 32,
    "ssm.conv_kernel": 4,
    "attention.head_count_kv": [bool(n) + 0 for n in _SOME_ATTEND],
}
_LATENT_BUT_WHOLE_CACHE = {"attention.q_lora_rank": 64, "attention.kv_lora_rank": 64, "rope.dimension_count": 32}
_LAYERWISE_WINDOWS = {"attention.sliding_window_pattern": [layer % 3 != 1 for layer in range(LAYERS)]}

_OF_ARCHITECTURE: dict[str, dict[str, Any]] = {
    "mamba": _MAMBA,
    "mamba2": _MAMBA2,
    "rwkv6": _RWKV,
    "rwkv7": _RWKV,
    "rwkv6qwen2": {**_RWKV, "token_shift_count": 1},
    "arwkv7": {**_RWKV, "token_shift_count": 1},
    "falcon-h1": _MAMBA2,
    "jamba": {**_MAMBA, "attention.head_count_kv": _SOME_ATTEND},
    "plamo2": {**_MAMBA2, "ssm.group_count": 0, "attention.head_count_kv": _SOME_ATTEND},
    "granitehybrid": {**_MAMBA2, "attention.head_count_kv": _SOME_ATTEND},
    "lfm2": {"shortconv.l_cache": 3, "attention.head_count_kv": _SOME_ATTEND},
    "lfm2moe": {"shortconv.l_cache": 3, "attention.head_count_kv": _SOME_ATTEND},
    "qwen3next": _DELTA_NET,
    "qwen35": _DELTA_NET,
    "qwen35moe": _DELTA_NET,
    "minimax-01": {"full_attention_interval": 4},
    "kimi-linear": _KDA,
    "kimi-k3": {
        **_KDA,
        "attn_res.block_size": 4,
        "activation.situ_beta": 1.0,
        "activation.situ_linear_beta": 1.0,
    },
    "bailingmoe3": {**_KDA, "kda.safe_gate": True, "kda.gate_lower_bound": -1.0},
    "deepseek2": _MLA,
    "minicpm3": {**_LATENT_BUT_WHOLE_CACHE, "attention.head_count_kv": HEADS},
    "plm": {**_LATENT_BUT_WHOLE_CACHE, "attention.head_count_kv": HEADS, "attention.value_length": 32},
    "chameleon": {"vocab_size": 10240},
    "deepseek2-ocr": {"attention.head_count_kv": HEADS},
    "dots1": {"attention.head_count_kv": HEADS},
    "olmoe": {"attention.head_count_kv": HEADS},
    "hrm_text": {"hrm.layers_per_stack": 2, "hrm.h_cycles": 2, "hrm.l_cycles": 2},
    "mistral4": _MLA,
    "llama4": {"attention.sliding_window": 8192},
    "gemma3n": {"block_count": 24},
    "gemma4": {
        **_LAYERWISE_WINDOWS,
        "attention.shared_kv_layers": 4,
        "attention.key_length_swa": 32,
        "attention.value_length_swa": 32,
        "embedding_length_per_layer_input": 0,
    },
    "granite_swa": _LAYERWISE_WINDOWS,
    "maple": {**_LAYERWISE_WINDOWS, "swiglu_clamp_exp": 1.0},
    "mimo2": _LAYERWISE_WINDOWS,
    "spark2_5": _LAYERWISE_WINDOWS,
    "step35": _LAYERWISE_WINDOWS,
}
for _name in ("nemotron_h", "nemotron_h_moe"):
    _OF_ARCHITECTURE[_name] = {
        **_MAMBA2,
        "attention.head_count_kv": [KV_HEADS if layer % 6 == 2 else 0 for layer in range(LAYERS)],
        "feed_forward_length": [FF if layer % 2 else 0 for layer in range(LAYERS)],
    }


def small_models(name: str) -> list[dict[str, Any]]:
    """Metadata with which the engine may build ``name``, with experts and without; some take only one of the two."""
    assert name in ARCHITECTURES
    own = {**_COMMON, **_OF_ARCHITECTURE.get(name, {})}
    general = {"general.architecture": name, "tokenizer.ggml.model": "no_vocab", **_XIELU}
    variants = ({**own, **_EXPERTS}, own)
    return [{**general, **{f"{name}.{key}": value for key, value in keys.items()}} for keys in variants]
