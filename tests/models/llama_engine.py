"""Loads and decodes a model with llama.cpp, and reads what it logs of its buffers."""

import ctypes
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BUFFER = re.compile(r"(\S+) +(KV|RS|compute|output) buffer size = +([\d.]+) MiB")


@dataclass
class Decoded:
    """What came out: every logit finite or not, and MiB of each kind of buffer."""

    finite: bool
    tokens: list[int]
    buffers_mib: dict[str, float] = field(default_factory=dict)
    log: str = ""
    n_params: int = 0
    model_bytes: int = 0
    recurrent: bool = False
    hybrid: bool = False


def decode(
    path: Path,
    *,
    n_ctx: int = 512,
    n_tokens: int = 8,
    prompt: int = 5,
    ubatch: int = 512,
    threads: int = 1,
    **context: Any,
) -> Decoded:
    """Prefill ``prompt`` tokens, then decode ``n_tokens`` greedily."""
    import llama_cpp as lc
    import numpy as np

    lines: list[str] = []

    @lc.llama_log_callback  # type: ignore[untyped-decorator,unused-ignore]
    def log(level: int, text: bytes, user: ctypes.c_void_p) -> None:
        lines.append(text.decode("utf-8", "replace"))

    lc.llama_log_set(log, ctypes.c_void_p(0))
    model_params = lc.llama_model_default_params()
    model_params.use_extra_bufts = False
    model_params.n_gpu_layers = 0
    model = lc.llama_model_load_from_file(str(path).encode(), model_params)
    assert model, "".join(lines)[-3000:]
    params = lc.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, max(ubatch, 512), ubatch
    params.n_threads = params.n_threads_batch = threads
    params.swa_full = False
    for name, value in context.items():
        setattr(params, name, value)
    ctx = lc.llama_init_from_model(model, params)
    assert ctx, "".join(lines)[-3000:]
    result = Decoded(True, [], recurrent=lc.llama_model_is_recurrent(model), hybrid=lc.llama_model_is_hybrid(model))
    result.n_params, result.model_bytes = lc.llama_model_n_params(model), lc.llama_model_size(model)
    n_vocab = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(model))
    batch = [(7 * i + 3) % n_vocab for i in range(prompt)]
    for _ in range(n_tokens):
        tokens = (lc.llama_token * len(batch))(*batch)
        assert lc.llama_decode(ctx, lc.llama_batch_get_one(tokens, len(batch))) == 0
        logits = np.ctypeslib.as_array(lc.llama_get_logits(ctx), shape=(n_vocab,))
        result.finite &= bool(np.isfinite(logits).all()) and float(np.ptp(logits)) > 0
        batch = [int(logits.argmax())]
        result.tokens += batch
    lc.llama_free(ctx)
    lc.llama_model_free(model)
    result.log = "".join(lines)
    lc.llama_log_set(_silence(lc), ctypes.c_void_p(0))
    for _device, kind, mib in _BUFFER.findall(result.log):
        result.buffers_mib[kind] = result.buffers_mib.get(kind, 0.0) + float(mib)
    return result


_kept: list[Any] = []


def _silence(lc: Any) -> Any:
    """A log callback that does nothing; the reference must outlive the library."""
    if not _kept:
        _kept.append(lc.llama_log_callback(lambda level, text, user: None))
    return _kept[0]
