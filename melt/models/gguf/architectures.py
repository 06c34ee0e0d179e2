"""What melt knows of llama.cpp's architectures: one row each. Any other architecture is unknown, and never guessed.

The rows say what llama.cpp does (src/llama-arch.cpp, src/llama-model.cpp and src/models/ of the version that melt
pins); the tests hold each of them against the engine's own functions and buffers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Family = Literal["transformer", "ssm", "hybrid", "unknown"]

RecurrentLayers = Literal[
    "none",
    "all",  # and none attends
    "all, beside attention",
    "without KV heads",
    "without KV heads and MLP",  # a layer is one of attention, recurrence and MLP
    "by interval",  # as attention.recurrent_layers says, or all but every full_attention_interval-th
]


@dataclass(frozen=True)
class Window:
    """Layers that attend to a window of the context, sliding or in chunks.

    Every ``pattern``-th layer sees the whole context and the others the window, unless the file says it layer by layer
    (0: all have the window; None: the file has to say it).
    """

    pattern: int | None
    whole_first: bool = False  # of each ``pattern`` layers the first sees the whole context, not the last
    optional: bool = False  # a file that states no size has no windows
    tokens: int = 0  # the size where the file states none
    always_tokens: int = 0  # the size whatever the file states
    only_layers: int = 0  # only the model of so many layers has windows; 0: every one


@dataclass(frozen=True)
class Architecture:
    """One of llama.cpp's architectures: its family, which layers recur, which have a window."""

    family: Family
    recurrent: RecurrentLayers = "none"
    interval: int = 0  # where the file gives none
    window: Window | None = None
    rwkv: bool = False  # its layers recur by RWKV's time mixing
    kept_layers: int = 0  # only so many layers keep keys and values of their own, the others share them; 0: all
    unpredicted: str = ""  # why its memory cannot be predicted; empty where it can


_NO_CACHE = "it keeps no cache, as it does not generate text token by token"
_INDEXED = "its attention is sparse, by an index that has a cache of its own"
_COMPRESSED = "its cache is compressed by a rule of its own"
_DRAFT = "it drafts for another model, with which it shares memory"
_LOOPED = "it passes through its layers several times"

_TRANSFORMERS = """
apertus arcee arctic baichuan bailingmoe bailingmoe2 bitnet bloom chameleon chatglm codeshell cogvlm command-r dbrx deci
deepseek deepseek2 deepseek2-ocr dots1 ernie4_5 ernie4_5-moe exaone falcon gemma glm4 glm4moe gpt2 gptneox granite
granitemoe grok grovemoe hrm_text hunyuan-dense hunyuan-moe hunyuan_vl hy_v3 internlm2 jais jais2 llama llama-embed
maincoder minicpm minicpm3 minimax-m2 mistral3 mistral4 mpt nemotron olmo olmoe openelm orion paddleocr pangu-embedded
phi2 phi3 phimoe plamo plm pockettts qwen qwen2 qwen2moe qwen2vl qwen3 qwen3moe qwen3vl qwen3vlmoe refact
seed_oss smollm3 stablelm starcoder starcoder2 talkie xverse
"""
_WITHOUT_CACHE = """
bert dream eurobert gemma-embedding jina-bert-v2 jina-bert-v3 llada llada-moe modern-bert neo-bert nomic-bert
nomic-bert-moe rnd1 t5encoder
"""
_UNPREDICTED = {
    "deepseek32": _INDEXED,
    "dflash": _DRAFT,
    "dots3note": _INDEXED,
    "eagle3": _DRAFT,
    "gemma4-assistant": _DRAFT,
    "glm-dsa": _INDEXED,
    "gptj": "llama.cpp names it and cannot run it",
    "graniteswitch": "a layer of its own chooses adapters",
    "hy_v4": _INDEXED,
    "minimax-m3": _INDEXED,
    "nanbeige": _LOOPED,
    "qwen3tts": "llama.cpp runs it as a part of a speech model",
    "t5": "it has an encoder beside its decoder",
}
_WINDOWED = {
    "afmoe": Window(4, optional=True),
    "cohere2": Window(4),
    "cohere2moe": Window(4, whole_first=True),
    "exaone-moe": Window(4),
    "exaone4": Window(4, tokens=4096, only_layers=64),
    "gemma2": Window(2, tokens=4096),
    "gemma3": Window(6, optional=True),
    "gpt-oss": Window(2),
    "granite_swa": Window(None),
    "laguna": Window(4, whole_first=True, optional=True),
    "llama4": Window(4, always_tokens=8192),  # in chunks
    "maple": Window(None),
    "mellum": Window(4, optional=True),
    "mimo2": Window(None),
    "muse-glimmer": Window(4),
    "olmo2": Window(4, optional=True),
    "plamo3": Window(8, optional=True),
    "smallthinker": Window(4, whole_first=True, always_tokens=4096, optional=True),
    "spark2_5": Window(None),
    "step35": Window(None),
}
_MAMBAS = "mamba mamba2"
_RWKVS = "arwkv7 rwkv6 rwkv6qwen2 rwkv7"
_OTHERS = {
    "gemma3n": Architecture("transformer", window=Window(5), kept_layers=20),
    "gemma4": Architecture("transformer", window=Window(None)),
    "bailingmoe3": Architecture("hybrid", "without KV heads"),
    "deepseek4": Architecture("hybrid", unpredicted=_COMPRESSED),
    "falcon-h1": Architecture("hybrid", "all, beside attention"),
    "glm5-next": Architecture("hybrid", "without KV heads", unpredicted=_INDEXED),
    "granitehybrid": Architecture("hybrid", "without KV heads"),
    "jamba": Architecture("hybrid", "without KV heads"),
    "kimi-k3": Architecture("hybrid", "without KV heads"),
    "kimi-linear": Architecture("hybrid", "without KV heads"),
    "lfm2": Architecture("hybrid", "without KV heads", window=Window(0, optional=True)),
    "lfm2moe": Architecture("hybrid", "without KV heads"),
    "minimax-01": Architecture("hybrid", "by interval", interval=8),
    "nemotron_h": Architecture("hybrid", "without KV heads and MLP"),
    "nemotron_h_moe": Architecture("hybrid", "without KV heads and MLP"),
    "plamo2": Architecture("hybrid", "without KV heads"),
    "qwen35": Architecture("hybrid", "by interval", interval=4),
    "qwen35moe": Architecture("hybrid", "by interval", interval=4),
    "qwen3next": Architecture("hybrid", "by interval", interval=4),
    "qwen4exp": Architecture("hybrid", "by interval", interval=4, unpredicted=_INDEXED),
}


def _rows() -> Iterator[tuple[str, Architecture]]:
    yield from ((name, Architecture("transformer")) for name in _TRANSFORMERS.split())
    yield from ((name, Architecture("transformer", unpredicted=_NO_CACHE)) for name in _WITHOUT_CACHE.split())
    yield from ((name, Architecture("transformer", unpredicted=why)) for name, why in _UNPREDICTED.items())
    yield from ((name, Architecture("transformer", window=window)) for name, window in _WINDOWED.items())
    yield from ((name, Architecture("ssm", "all")) for name in _MAMBAS.split())
    yield from ((name, Architecture("ssm", "all", rwkv=True)) for name in _RWKVS.split())
    yield from _OTHERS.items()


ARCHITECTURES: dict[str, Architecture] = dict(_rows())
UNKNOWN = Architecture("unknown", unpredicted="melt does not know this architecture")


def architecture(name: str) -> Architecture:
    """The row of the architecture called ``name``; ``UNKNOWN`` where there is none."""
    return ARCHITECTURES.get(name, UNKNOWN)
