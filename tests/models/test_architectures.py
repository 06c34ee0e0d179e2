"""The table of architectures against the engine's own functions, and memory by it against the engine's buffers."""

from typing import Any

import pytest

from melt.models import ModelInfo, kv_bytes_per_token, predict_memory, state_bytes, why_unpredictable
from melt.models.gguf.architectures import ARCHITECTURES, architecture
from melt.models.gguf.header import Header
from melt.models.gguf.info import info_from_header
from melt.models.memory import kv_bytes
from tests.models.engine_metadata import small_models
from tests.models.engine_oracle import Built, Request, build_all, families

MIB = 2**20
CONTEXT, UBATCH = 2048, 256
SETTINGS = {"n_ctx": CONTEXT, "n_ubatch": UBATCH}
# No models of language: llama.cpp uses these as parts of others.
LEFT_UNKNOWN = {"clip", "wavtokenizer-dec"}
# Their graphs cannot be built of metadata alone, as they depend on which optional tensors a file has.
NEED_A_FILE = {"plm", "rwkv6qwen2"}
PREDICTED = [name for name, row in ARCHITECTURES.items() if not row.unpredicted and name not in NEED_A_FILE]


def described(metadata: dict[str, Any]) -> ModelInfo:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in metadata.items()}
    return info_from_header(Header(3, values, (), 32, 0))


@pytest.fixture(scope="module")
def built() -> dict[str, tuple[ModelInfo, Built]]:
    """Of each architecture a small model as melt describes it, and as the engine built it."""
    found: dict[str, tuple[ModelInfo, Built]] = {}
    for variant in range(2):
        names = [name for name in PREDICTED if name not in found or found[name][1].error]
        models = [small_models(name)[variant] for name in names]
        results = build_all(Request(model, SETTINGS) for model in models)
        for name, model, result in zip(names, models, results, strict=True):
            found[name] = (described(model), result)
    return found


def test_every_family_is_the_engines() -> None:
    ours = {name: architecture(name).family for name in families()}
    theirs = {name: "unknown" if name in LEFT_UNKNOWN else family for name, family in families().items()}
    assert ours == theirs
    assert set(ARCHITECTURES) <= set(theirs), "an architecture that the engine does not know"


@pytest.mark.parametrize("name", PREDICTED)
def test_cache_and_state_are_what_the_engine_allots(name: str, built: dict[str, tuple[ModelInfo, Built]]) -> None:
    info, engine = built[name]
    assert not engine.error
    assert (engine.recurrent, engine.hybrid) == (info.family == "ssm", info.family == "hybrid")
    assert kv_bytes(info, CONTEXT, ubatch=UBATCH) / MIB == pytest.approx(engine.kv_mib, abs=0.011)
    assert state_bytes(info) / MIB == pytest.approx(engine.state_mib, abs=0.011)


def test_layers_that_draft_tokens_are_counted_as_the_engine_does() -> None:
    for name in ("qwen3next", "bailingmoe3", "glm4moe", "mimo2", "cohere2moe", "deepseek2"):
        model = {**small_models(name)[0], f"{name}.nextn_predict_layers": 1}
        (engine,) = build_all([Request(model, SETTINGS)])
        assert not engine.error
        assert kv_bytes(described(model), CONTEXT, ubatch=UBATCH) / MIB == pytest.approx(engine.kv_mib, abs=0.011)


def test_an_architecture_that_melt_does_not_know_is_unknown() -> None:
    metadata = {key.replace("llama.", "llama9."): value for key, value in small_models("llama")[1].items()}
    info = described({**metadata, "general.architecture": "llama9"})
    assert (info.family, info.n_attention_layers, info.n_recurrent_layers) == ("unknown", 0, 0)
    assert "does not know" in why_unpredictable(info)
    assert kv_bytes_per_token(info) == 0
    with pytest.raises(Exception, match="llama9 cannot be predicted"):
        predict_memory(info, 512)


def test_what_has_a_cache_of_its_own_kind_is_not_predicted() -> None:
    for name in ("deepseek4", "deepseek32", "minimax-m3", "bert"):
        info = described(small_models(name)[0])
        assert info.family in ("transformer", "hybrid")
        assert why_unpredictable(info)


def test_a_hybrid_counts_its_layers() -> None:
    """The header of case 16: two attending layers of eight, the others recurrent."""
    arch = "kimi-linear"
    keys = {
        "block_count": 8,
        "embedding_length": 2304,
        "context_length": 1048576,
        "feed_forward_length": 9216,
        "attention.head_count": 32,
        "attention.head_count_kv": [0, 0, 0, 32, 0, 0, 0, 32],
        "ssm.conv_kernel": 4,
        "kda.head_dim": 128,
        "attention.key_length": 576,
        "attention.value_length": 512,
    }
    info = described({"general.architecture": arch, **{f"{arch}.{key}": value for key, value in keys.items()}})
    assert (info.family, info.n_attention_layers, info.n_recurrent_layers) == ("hybrid", 2, 6)
    assert state_bytes(info) == 6 * 4 * (32 * 128**2 + 3 * 3 * 32 * 128)
