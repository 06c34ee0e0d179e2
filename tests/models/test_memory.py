import json
from dataclasses import replace
from pathlib import Path

import pytest

from melt.errors import ModelError
from melt.models import (
    ModelInfo,
    decode_bytes_per_token,
    find_shape,
    flops_prefill,
    inspect,
    kv_bytes_per_token,
    peek,
    predict_memory,
    state_bytes,
    synthesise,
)
from melt.models.gguf.header import Header, Value
from melt.models.gguf.hyperparameters import metadata
from melt.models.gguf.info import info_from_header
from melt.models.memory import kv_bytes, padded_context
from melt.models.shapes.zoo import Shape, load_zoo, scaled_down
from tests.models.engine_oracle import Request, build_all
from tests.models.llama_engine import decode

MIB = 2**20


def described(ref: str) -> ModelInfo:
    info = peek(ref)
    assert info is not None
    return info


def test_cache_and_state_are_what_llama_cpp_allots(tiny: Shape, tmp_path: Path) -> None:
    path = synthesise(tiny, "Q4_0", tmp_path / "m.gguf").path
    info = inspect(path)
    for n_ctx, ubatch in ((256, 512), (700, 128), (1024, 512)):
        logged = decode(path, n_ctx=n_ctx, n_tokens=1, ubatch=ubatch).buffers_mib
        predicted = predict_memory(info, n_ctx, ubatch=ubatch)
        assert predicted.kv_bytes / MIB == pytest.approx(logged.get("KV", 0), abs=0.01)
        assert predicted.state_bytes / MIB == pytest.approx(logged.get("RS", 0), abs=0.01)
        assert predicted.output_bytes / MIB == pytest.approx(logged["output"], abs=0.01)


def test_quantised_caches_too(tmp_path: Path) -> None:
    path = synthesise(scaled_down(find_shape("llama-3.2-1b")), "Q4_0", tmp_path / "m.gguf").path
    types = {"q8_0": 8, "q4_0": 2, "f32": 0}
    for name, number in types.items():
        logged = decode(path, n_ctx=512, n_tokens=1, type_k=number, type_v=number, flash_attn_type=1).buffers_mib
        predicted = predict_memory(inspect(path), 512, type_k=name, type_v=name)
        assert predicted.kv_bytes / MIB == pytest.approx(logged["KV"], abs=0.01)


def test_windows_stop_the_cache_from_growing(tmp_path: Path) -> None:
    """Gemma 3: all layers but every sixth have a window."""
    path = synthesise(scaled_down(find_shape("gemma-3-270m")), "Q4_0", tmp_path / "m.gguf").path
    info = inspect(path)
    assert (info.kv_layout.window, sum(info.kv_layout.windowed_by_layer), info.n_layers) == (256, 6, 7)
    for ubatch in (128, 512):
        logged = decode(path, n_ctx=2048, n_tokens=2, ubatch=ubatch).buffers_mib
        predicted = predict_memory(info, 2048, ubatch=ubatch)
        assert predicted.kv_bytes / MIB == pytest.approx(logged["KV"], abs=0.01)
        assert predicted.kv_bytes < kv_bytes(info, 2048, swa_full=True)
    full = decode(path, n_ctx=2048, n_tokens=2, swa_full=True).buffers_mib
    assert kv_bytes(info, 2048, swa_full=True) / MIB == pytest.approx(full["KV"], abs=0.01)
    grown = decode_bytes_per_token(info, 8192) - decode_bytes_per_token(info, 4096)
    assert grown == 4096 * kv_bytes_per_token(info) / info.n_layers, "only the layer that sees it all reads more"


@pytest.mark.parametrize("settings", [{}, {"n_outputs_max": 1}, {"n_outputs_max": 1, "flash_attn_type": 0}])
def test_predictions_of_every_shape_in_the_zoo(settings: dict[str, int]) -> None:
    """At full size: the engine plans its buffers without allotting them."""
    zoo = load_zoo()
    built = build_all(Request(engine_metadata(shape), {"n_ctx": 4096, **settings}) for shape in zoo.values())
    for name, engine in zip(zoo, built, strict=True):
        assert not engine.error, name
        predicted = predict_memory(
            described(f"synth:{name}"),
            4096,
            n_outputs=settings.get("n_outputs_max"),
            flash_attn="flash_attn_type" not in settings,
        )
        assert predicted.kv_bytes / MIB == pytest.approx(engine.kv_mib, abs=0.011), name
        assert predicted.state_bytes / MIB == pytest.approx(engine.state_mib, abs=0.011), name
        assert predicted.compute_bytes / MIB == pytest.approx(engine.compute_mib, rel=0.15), name


def engine_metadata(shape: Shape) -> dict[str, Value]:
    general: dict[str, Value] = {"general.architecture": shape.arch, "tokenizer.ggml.model": "no_vocab"}
    return {**general, **metadata(shape)}


def test_cost_laws_against_numbers_worked_out_by_hand() -> None:
    smol = described("synth:smollm2-135m@F16")
    assert kv_bytes_per_token(smol) == 2 * 30 * 3 * 64 * 2
    assert state_bytes(smol) == 0
    assert kv_bytes(smol, 300) == 512 * kv_bytes_per_token(smol)
    mamba = described("synth:mamba-130m@F16")
    assert kv_bytes_per_token(mamba) == 0
    assert state_bytes(mamba) == 24 * (1536 * 16 + 1536 * 3) * 4
    mamba2 = described("synth:mamba2-130m@F16")
    assert state_bytes(mamba2) == 24 * (1536 * 128 + (1536 + 2 * 128) * 3) * 4
    matrices = 30 * (2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536)
    by_hand = 2 * matrices * 1000 + 30 * 2 * 9 * 64 * 1000**2 + 2 * 576 * 49152
    assert flops_prefill(smol, 1000) == pytest.approx(by_hand, rel=0.001)
    assert decode_bytes_per_token(smol, 1000) == smol.weights_bytes + 1000 * kv_bytes_per_token(smol)
    assert decode_bytes_per_token(mamba, 1000) == mamba.weights_bytes + 2 * state_bytes(mamba)
    untied = described("synth:tinyllama-1.1b@F16")
    assert decode_bytes_per_token(untied, 0) == untied.weights_bytes - 32000 * 2048 * 2


def test_only_the_experts_that_are_used_are_read() -> None:
    """OLMoE: 8 of 64 experts, each three matrices of 2048 x 1024 in each of 16 layers."""
    olmoe = described("synth:olmoe-1b-7b@F16")
    experts = 16 * 64 * 3 * 2048 * 1024
    assert (olmoe.n_experts, olmoe.n_experts_used) == (64, 8)
    assert olmoe.n_params_active == olmoe.n_params - experts * 56 // 64
    assert olmoe.active_weights_bytes == olmoe.weights_bytes - 2 * experts * 56 // 64
    row = olmoe.embedding_bytes
    assert decode_bytes_per_token(olmoe, 0) == olmoe.active_weights_bytes - row
    assert predict_memory(olmoe, 512).weights_bytes == olmoe.weights_bytes, "all of them are in memory"
    matrices = 16 * (4 * 2048**2 + 8 * 3 * 2048 * 1024)
    assert flops_prefill(olmoe, 100) == pytest.approx(2 * matrices * 100, rel=0.05)
    dense = described("synth:smollm2-135m@F16")
    assert (dense.n_params_active, dense.active_weights_bytes) == (dense.n_params, dense.weights_bytes)


def test_a_latent_is_kept_once_in_place_of_keys_and_values() -> None:
    lite = described("synth:deepseek-v2-lite@F16")
    assert kv_bytes_per_token(lite) == 27 * (512 + 64) * 2
    assert lite.kv_layout.is_latent
    kimi = described("synth:kimi-linear-48b@F16")
    assert (kimi.n_attention_layers, kimi.n_recurrent_layers) == (7, 20)
    assert kv_bytes_per_token(kimi) == 7 * (512 + 64) * 2
    assert state_bytes(kimi) == 20 * 4 * (32 * 128**2 + 3 * 3 * 32 * 128)


def test_a_cost_grows_with_context_only_through_attention() -> None:
    for name in load_zoo():
        info = described(f"synth:{name}")
        grows = predict_memory(info, 8192).kv_bytes > predict_memory(info, 512).kv_bytes
        assert grows == (info.family != "ssm"), name
        assert predict_memory(info, 8192).state_bytes == predict_memory(info, 512).state_bytes


def test_layers_of_hybrids() -> None:
    granite = described("synth:granite-4.0-h-350m")
    assert (granite.family, granite.n_attention_layers, granite.n_recurrent_layers) == ("hybrid", 4, 28)
    falcon = described("synth:falcon-h1-0.5b")
    assert (falcon.family, falcon.n_attention_layers, falcon.n_recurrent_layers) == ("hybrid", 36, 36)
    assert described("synth:rwkv7-0.1b").family == "ssm"
    assert described("synth:lfm2-350m").n_attention_layers == 6


def test_gemma_2_has_a_window_in_every_other_layer() -> None:
    metadata: dict[str, Value] = {
        "general.architecture": "gemma2",
        "gemma2.block_count": 26,
        "gemma2.embedding_length": 2304,
        "gemma2.attention.head_count": 8,
        "gemma2.attention.head_count_kv": 4,
        "gemma2.attention.key_length": 256,
        "gemma2.attention.value_length": 256,
        "gemma2.attention.sliding_window": 4096,
    }
    info = info_from_header(Header(3, metadata, (), 32, 0))
    assert sum(info.kv_layout.windowed_by_layer) == 13
    per_layer = 2 * 4 * 256 * 2
    assert kv_bytes(info, 8192, ubatch=512) == 13 * per_layer * 8192 + 13 * per_layer * padded_context(4096 + 512)


def test_unknown_cache_types_are_refused() -> None:
    with pytest.raises(ModelError) as caught:
        predict_memory(described("synth:smollm2-135m"), 512, type_k="q8")
    assert "q8_0" in caught.value.hint


def test_info_is_plain_data() -> None:
    info = described("synth:lfm2-350m")
    assert json.loads(json.dumps(info.to_dict()))["family"] == "hybrid"
    assert replace(info, sha256="x").sha256 == "x"
