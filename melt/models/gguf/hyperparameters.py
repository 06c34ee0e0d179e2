"""The hyper-parameters of a Shape under GGUF's key names."""

from melt.models.gguf.header import Value
from melt.models.shapes.zoo import Shape

_SOFTMAX, _SIGMOID = 1, 2  # how a router weighs its experts, by llama.cpp's numbers


def metadata(shape: Shape) -> dict[str, Value]:
    """What llama.cpp reads of a file of ``shape``."""
    values: dict[str, Value] = {
        "vocab_size": shape.vocab,
        "context_length": shape.context,
        "embedding_length": shape.d_model,
        "block_count": shape.layers,
        "feed_forward_length": _feed_forward_length(shape),
        "attention.head_count": shape.heads,
        "attention.layer_norm_rms_epsilon": shape.norm_eps,
    }
    if shape.arch == "nemotron_h":
        values["attention.layer_norm_epsilon"] = shape.norm_eps
    parts = (_attention, _window, _state, _experts, _rwkv, _scales)
    for part in parts:
        values.update(part(shape))
    return {f"{shape.arch}.{key}": value for key, value in values.items()}


def _feed_forward_length(shape: Shape) -> Value:
    if not shape.mlp_layers:
        return shape.ff
    return tuple(shape.ff if i in shape.mlp_layers else 0 for i in range(shape.layers))


def _attention(shape: Shape) -> dict[str, Value]:
    if not shape.heads:
        return {}
    keys: dict[str, Value] = {"attention.head_count_kv": shape.kv_heads}
    if shape.arch == "qwen35":
        keys |= {"full_attention_interval": shape.attention_layers[0] + 1, "rope.dimension_sections": (11, 11, 10, 0)}
    elif shape.attention_layers:
        keys["attention.head_count_kv"] = shape.kv_heads_by_layer
    if shape.kv_lora:  # llama.cpp attends to the latent as to one wide head
        keys |= {
            "attention.kv_lora_rank": shape.kv_lora,
            "attention.key_length": shape.kv_lora + shape.rope_dim,
            "attention.value_length": shape.kv_lora,
            "attention.key_length_mla": shape.head_dim,
            "attention.value_length_mla": shape.value_dim,
        }
    else:
        keys |= {"attention.key_length": shape.head_dim, "attention.value_length": shape.head_dim}
    if shape.rope_theta:
        return keys | {
            "rope.dimension_count": shape.rope_dim or shape.head_dim,
            "rope.freq_base": shape.rope_theta,
        }
    return keys | {"rope.scaling.finetuned": False}


def _window(shape: Shape) -> dict[str, Value]:
    if not shape.window:
        return {}
    return {"attention.sliding_window": shape.window, "rope.freq_base_swa": shape.window_rope_theta}


def _state(shape: Shape) -> dict[str, Value]:
    if shape.arch == "lfm2":
        return {"shortconv.l_cache": shape.d_conv}
    if shape.kda_head:
        return {"kda.head_dim": shape.kda_head, "ssm.conv_kernel": shape.d_conv}
    if not shape.d_state:
        return {}
    keys: dict[str, Value] = {
        "ssm.conv_kernel": shape.d_conv,
        "ssm.inner_size": shape.d_inner,
        "ssm.state_size": shape.d_state,
        "ssm.time_step_rank": shape.dt_rank,
    }
    return keys | ({"ssm.group_count": shape.groups} if shape.groups else {"ssm.dt_b_c_rms": False})


def _experts(shape: Shape) -> dict[str, Value]:
    if not shape.experts:
        return {}
    leading = tuple(range(len(shape.plain_layers)))
    return {
        "expert_count": shape.experts,
        "expert_used_count": shape.experts_used,
        "expert_feed_forward_length": shape.expert_ff,
        "expert_shared_count": shape.shared_experts,
        "expert_gating_func": _SIGMOID if shape.arch == "kimi-linear" else _SOFTMAX,
        "expert_weights_scale": 1.0,
        "leading_dense_block_count": len(leading) if shape.plain_layers == leading else 0,
    }


def _rwkv(shape: Shape) -> dict[str, Value]:
    if not shape.wkv_head:
        return {}
    return {
        "attention.layer_norm_epsilon": shape.norm_eps,
        "wkv.head_size": shape.wkv_head,
        "attention.decay_lora_rank": shape.lora_decay,
        "attention.iclr_lora_rank": shape.lora_iclr,
        "attention.value_residual_mix_lora_rank": shape.lora_value,
        "attention.gate_lora_rank": shape.lora_gate,
        "token_shift_count": 2,
    }


def _scales(shape: Shape) -> dict[str, Value]:
    scales: dict[str, Value] = {
        "embedding_scale": shape.embedding_scale,
        "residual_scale": shape.residual_scale,
        "attention.scale": shape.attention_scale,
        "logit_scale": shape.logit_scale,
    }
    return {key: value for key, value in scales.items() if value}
