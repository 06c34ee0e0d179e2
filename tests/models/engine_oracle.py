"""What llama.cpp itself says of an architecture or of a model's metadata; no file and no weights are needed.

    python -m tests.models.engine_oracle < requests, one JSON object a line

It plans a model and its context from each line, without allotting any memory, and prints, a line each, what it is and
what it would take. What the engine cannot build may end the whole process, so tests run it as one of its own.
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
_MOST_ARCHITECTURES = 1000
_CACHE = re.compile(r": size = +([\d.]+) MiB \(.*?\), ([KR]) \(")
_COMPUTE = re.compile(r"compute buffer size = +([\d.]+) MiB")
_INT32, _FLOAT32, _BOOL = 5, 6, 7  # GGUF's types
_CTYPES: dict[int, Any] = {_INT32: ctypes.c_int32, _FLOAT32: ctypes.c_float, _BOOL: ctypes.c_bool}


@dataclass(frozen=True)
class Request:
    """A model by its metadata, and the settings of its context by llama.cpp's names."""

    metadata: Metadata
    settings: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Built:
    """A model that the engine planned, and MiB of its KV cache, recurrent state and compute buffer."""

    error: str = ""
    recurrent: bool = False
    hybrid: bool = False
    kv_mib: float = 0.0
    state_mib: float = 0.0
    compute_mib: float = 0.0


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


def build_all(requests: Iterable[Request]) -> list[Built]:
    """What the engine makes of each request, in processes of its own: one that kills it is an error."""
    left, built = list(requests), []
    while left:
        found, died = _build_until_death(left)
        built += [*found, *([Built(error=died)] if died else [])]
        left = left[len(found) + bool(died) :]
    return built


def _build_until_death(requests: list[Request]) -> tuple[list[Built], str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.engine_oracle"],
        input="".join(json.dumps([dict(r.metadata), dict(r.settings)]) + "\n" for r in requests),
        text=True,
        capture_output=True,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        cwd=Path(__file__).parents[2],
        check=False,
    )
    built = [Built(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]
    return built, f"the engine died: {done.stderr[-500:]}" if done.returncode else ""


def _library(name: str) -> Any:
    import llama_cpp

    return ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / name))


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


def _build(request: Request) -> Built:
    import llama_cpp as lc

    log: list[str] = []

    @lc.llama_log_callback  # type: ignore[untyped-decorator,unused-ignore]
    def keep(level: int, text: bytes, user: ctypes.c_void_p) -> None:
        log.append(text.decode("utf-8", "replace"))

    @lc.llama_model_set_tensor_data_t  # type: ignore[untyped-decorator,unused-ignore]
    def leave_empty(tensor: int, user: ctypes.c_void_p) -> None:
        pass

    lc.llama_log_set(keep, ctypes.c_void_p(0))
    params = lc.llama_model_default_params()
    params.use_extra_bufts, params.n_gpu_layers, params.load_mtp, params.no_alloc = False, 0, True, True
    metadata = _gguf(_library("libggml-base.so"), request.metadata)
    model = lc.llama_model_init_from_user(metadata, leave_empty, ctypes.c_void_p(0), params)
    if not model:
        return Built(error="".join(log)[-600:])
    settings = lc.llama_context_default_params()
    settings.n_batch, settings.n_threads, settings.swa_full, settings.flash_attn_type = 512, 1, False, 1
    for name, value in request.settings.items():
        setattr(settings, name, value)
    context = lc.llama_init_from_model(model, settings)
    if not context:
        return Built(error="".join(log)[-600:])
    caches = _CACHE.findall("".join(log))
    built = Built(
        recurrent=lc.llama_model_is_recurrent(model),
        hybrid=lc.llama_model_is_hybrid(model),
        kv_mib=sum(float(mib) for mib, kind in caches if kind == "K"),
        state_mib=sum(float(mib) for mib, kind in caches if kind == "R"),
        compute_mib=sum(float(mib) for mib in _COMPUTE.findall("".join(log))),
    )
    lc.llama_free(context)
    lc.llama_model_free(model)
    return built


def _main() -> None:
    for line in sys.stdin:
        print(json.dumps(vars(_build(Request(*json.loads(line))))), flush=True)
    os._exit(0)  # the library outlives its log callback otherwise


if __name__ == "__main__":
    _main()
