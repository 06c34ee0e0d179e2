"""What llama.cpp itself says of an architecture or of a model's metadata; no file and no weights are needed.

    python -m tests.models.engine_oracle < metadata, one JSON object a line

It builds a model from each line and prints, a line each, what it is and what its context took. A model that the engine
cannot build may end the whole process, so tests run it as one of its own.
"""

import ctypes
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Metadata = Mapping[str, Any]
CONTEXT, UBATCH = 2048, 256
_MOST_ARCHITECTURES = 1000
_BUFFER = re.compile(r"(KV|RS) buffer size = +([\d.]+) MiB")
_INT32, _FLOAT32, _BOOL = 5, 6, 7  # GGUF's types
_CTYPES: dict[int, Any] = {_INT32: ctypes.c_int32, _FLOAT32: ctypes.c_float, _BOOL: ctypes.c_bool}


@dataclass
class Built:
    """A model that the engine made of metadata, and MiB of its caches."""

    error: str = ""
    recurrent: bool = False
    hybrid: bool = False
    tensors: dict[str, list[int]] = field(default_factory=dict)
    mib: dict[str, float] = field(default_factory=dict)


def families() -> dict[str, str]:
    """The family of every architecture that the engine knows, by its own functions."""
    library = _library("libllama.so")
    name_of = library._Z13llm_arch_name8llm_arch
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.c_int]
    is_recurrent, is_hybrid = library._Z21llm_arch_is_recurrentRK8llm_arch, library._Z18llm_arch_is_hybridRK8llm_arch
    found = {}
    for number in range(_MOST_ARCHITECTURES):
        name = name_of(number).decode()
        if name in ("unknown", "(unknown)"):
            continue
        arch = ctypes.byref(ctypes.c_int(number))
        is_recurrent.restype = is_hybrid.restype = ctypes.c_bool
        found[name] = "ssm" if is_recurrent(arch) else "hybrid" if is_hybrid(arch) else "transformer"
    return found


def build_all(models: Iterable[Metadata]) -> list[Built]:
    """What the engine makes of each model's metadata, in processes of its own: one that kills it is an error."""
    left, built = list(models), []
    while left:
        found, died = _build_until_death(left)
        built += [*found, *([Built(error=died)] if died else [])]
        left = left[len(found) + bool(died) :]
    return built


def _build_until_death(models: list[Metadata]) -> tuple[list[Built], str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.engine_oracle"],
        input="".join(json.dumps(dict(m)) + "\n" for m in models),
        text=True,
        capture_output=True,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        check=False,
    )
    built = [Built(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]
    return built, f"the engine died: {done.stderr[-500:]}" if done.returncode else ""


def _library(name: str) -> Any:
    import llama_cpp

    return ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / name))


class _Tensor(ctypes.Structure):
    """The beginning of ggml's tensor."""

    _fields_ = (("type", ctypes.c_int), ("buffer", ctypes.c_void_p), ("dims", ctypes.c_int64 * 4))


def _gguf(ggml: Any, metadata: Metadata) -> ctypes.c_void_p:
    ggml.gguf_init_empty.restype = ctypes.c_void_p
    context = ctypes.c_void_p(ggml.gguf_init_empty())
    for key, value in metadata.items():
        _set(ggml, context, key.encode(), value)
    return context


def _set(ggml: Any, context: ctypes.c_void_p, key: bytes, value: Any) -> None:
    if isinstance(value, str):
        ggml.gguf_set_val_str(context, key, value.encode())
    elif isinstance(value, bool):
        ggml.gguf_set_val_bool(context, key, ctypes.c_bool(value))
    elif isinstance(value, int):
        ggml.gguf_set_val_u32(context, key, ctypes.c_uint32(value))
    elif isinstance(value, float):
        ggml.gguf_set_val_f32(context, key, ctypes.c_float(value))
    else:
        kind = {bool: _BOOL, int: _INT32, float: _FLOAT32}[type(value[0])]
        array = (_CTYPES[kind] * len(value))(*value)
        ggml.gguf_set_arr_data(context, key, kind, ctypes.byref(array), ctypes.c_size_t(len(value)))


def _build(metadata: Metadata) -> Built:
    import llama_cpp as lc

    ggml = _library("libggml-base.so")
    ggml.ggml_get_name.restype = ctypes.c_char_p
    log: list[str] = []
    built = Built()

    @lc.llama_log_callback  # type: ignore[untyped-decorator,unused-ignore]
    def keep(level: int, text: bytes, user: ctypes.c_void_p) -> None:
        log.append(text.decode("utf-8", "replace"))

    @lc.llama_model_set_tensor_data_t  # type: ignore[untyped-decorator,unused-ignore]
    def note(tensor: int, user: ctypes.c_void_p) -> None:
        name = ggml.ggml_get_name(ctypes.c_void_p(tensor)).decode()
        built.tensors[name] = list(ctypes.cast(tensor, ctypes.POINTER(_Tensor)).contents.dims)

    lc.llama_log_set(keep, ctypes.c_void_p(0))
    params = lc.llama_model_default_params()
    params.use_extra_bufts, params.n_gpu_layers, params.load_mtp = False, 0, True
    model = lc.llama_model_init_from_user(_gguf(ggml, metadata), note, ctypes.c_void_p(0), params)
    if not model:
        return Built(error="".join(log)[-600:])
    built.recurrent, built.hybrid = lc.llama_model_is_recurrent(model), lc.llama_model_is_hybrid(model)
    settings = lc.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_ubatch = CONTEXT, 512, UBATCH
    settings.swa_full, settings.n_threads = False, 1
    settings.flash_attn_type = 1
    context = lc.llama_init_from_model(model, settings)
    if not context:
        return Built(error="".join(log)[-600:])
    for kind, mib in _BUFFER.findall("".join(log)):
        built.mib[kind] = built.mib.get(kind, 0.0) + float(mib)
    lc.llama_free(context)
    lc.llama_model_free(model)
    return built


def _main() -> None:
    for line in sys.stdin:
        print(json.dumps(vars(_build(json.loads(line)))), flush=True)
    sys.stdout.flush()
    os._exit(0)  # the library outlives its log callback otherwise


if __name__ == "__main__":
    _main()
