"""llama.cpp through llama-cpp-python's low-level calls."""

import ctypes
import os
from collections.abc import Iterator
from typing import Any

import llama_cpp.llama_cpp as llama
import numpy as np
from channel import JobError
from job import Job
from llamacpp_log import buffers, is_cpu, last_error
from memory import anonymous_bytes

_DEVICE_KINDS = {0: "cpu", 1: "gpu", 2: "gpu", 3: "cpu"}  # ggml_backend_dev_type
_FLASH_ATTN = {"auto": -1, "off": 0, "on": 1}
_LOAD_MODES = {"read": 0, "mmap": 1}  # llama_load_mode: NONE, MMAP
_ALL_LAYERS = -1
_KV_TYPES = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "q8_0": 8,
    "iq4_nl": 20,
    "bf16": 30,
}  # ggml_type


class Library:
    """llama.cpp, loaded and silenced; its log lines are kept."""

    def __init__(self) -> None:
        self.log: list[tuple[int, str]] = []
        # The callback must outlive every call into the library, or the process crashes.
        self._callback = llama.llama_log_callback(self._on_log)
        llama.llama_log_set(self._callback, None)
        llama.llama_backend_init()
        folder = os.path.dirname(llama.__file__)  # noqa: PTH120 - the device program keeps its imports few
        self._ggml = ctypes.CDLL(os.path.join(folder, "lib", "libggml.so"))  # noqa: PTH118
        self._base = ctypes.CDLL(os.path.join(folder, "lib", "libggml-base.so"))  # noqa: PTH118

    def _on_log(self, level: int, text: bytes, _user: object) -> None:
        self.log.append((level, text.decode(errors="replace")))

    def lines(self) -> list[str]:
        """The log so far, without levels."""
        return [text for _, text in self.log]

    def compile(self, job: Job) -> Iterator[dict[str, Any]]:
        """Nothing is compiled for a device beforehand."""
        return iter(())

    def hello(self, job: Job) -> dict[str, Any]:
        """What the ``hello`` event says of this engine."""
        import llama_cpp

        info = llama.llama_print_system_info().decode(errors="replace")
        return {
            "engine": "llama.cpp",
            "engine_version": llama.llama_version().decode(errors="replace"),
            "engine_build": {"commit": self._text("ggml_commit"), "llama_cpp_python": llama_cpp.__version__},
            "system_info": info.strip(),
            "accelerators": [
                {"name": name, "kind": kind, "description": description, "memory_bytes": total}
                for name, kind, description, total, _ in self.devices()
            ],
        }

    def devices(self) -> list[tuple[str, str, str, int, int]]:
        """Every compute device: name, kind, description, memory in bytes, handle."""
        count = self._ggml.ggml_backend_dev_count
        get = self._ggml.ggml_backend_dev_get
        count.restype, get.restype, get.argtypes = ctypes.c_size_t, ctypes.c_void_p, [ctypes.c_size_t]
        out = []
        for i in range(count()):
            handle = get(i)
            free, total = ctypes.c_size_t(), ctypes.c_size_t()
            self._base.ggml_backend_dev_memory(ctypes.c_void_p(handle), ctypes.byref(free), ctypes.byref(total))
            kind = _DEVICE_KINDS.get(self._base.ggml_backend_dev_type(ctypes.c_void_p(handle)), "cpu")
            name = self._text("ggml_backend_dev_name", handle)
            out.append((name, kind, self._text("ggml_backend_dev_description", handle), total.value, handle))
        return out

    def _text(self, function: str, handle: int | None = None) -> str:
        f = self._base[function]
        f.restype = ctypes.c_char_p
        value = f() if handle is None else f(ctypes.c_void_p(handle))
        return value.decode(errors="replace") if value else ""


class LlamaCpp:
    """One model and one context, ready to be timed. See ``workload.Engine``."""

    def __init__(self, library: Library, job: Job) -> None:
        self._library = library
        devices = _chosen_devices(library, job)
        # Kept: the library reads the array after the call that takes its address.
        self._devices = (ctypes.c_void_p * (len(devices) + 1))(*[d[4] for d in devices], None)
        before = anonymous_bytes()
        self._model = self._load(job)
        self.tables_bytes = _tables_bytes(before, anonymous_bytes(), library.lines())
        self.n_vocab = int(llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model)))
        if self.n_vocab < 1:
            raise JobError("model_load", "the model has no vocabulary")
        self._context = self._make_context(job)
        self._memory = llama.llama_get_memory(self._context)
        self.n_ctx = int(llama.llama_n_ctx(self._context))
        self._n_batch = int(llama.llama_n_batch(self._context))
        self._one = (llama.llama_token * 1)()
        self._one_batch = llama.llama_batch_get_one(self._one, 1)
        self._prompt: Any = None
        self._batches: list[Any] = []
        raw = ctypes.CDLL(llama._lib._name)
        self._logits = raw.llama_get_logits_ith
        self._logits.restype, self._logits.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int32]
        self._view_at, self._view = 0, np.empty(0, np.float32)

    def _load(self, job: Job) -> Any:
        params = llama.llama_model_default_params()
        params.devices = ctypes.cast(self._devices, ctypes.c_void_p)
        params.n_gpu_layers = 0 if job.accelerator == "cpu" else _ALL_LAYERS
        params.load_mode = _LOAD_MODES[job.load_mode]
        params.use_extra_bufts = job.extra_buffers
        model = llama.llama_model_load_from_file(job.model.encode(), params)
        if not model:
            raise JobError("model_load", last_error(self._library.log) or "the engine could not load the model")
        return model

    def _make_context(self, job: Job) -> Any:
        params = llama.llama_context_default_params()
        params.n_ctx = job.workload.prompt_tokens + job.workload.gen_tokens
        params.n_batch, params.n_ubatch = max(job.batch, job.ubatch), job.ubatch
        params.n_outputs_max = 1  # logits for the last token only, so no memory for the others'
        params.n_threads = params.n_threads_batch = job.threads
        params.flash_attn_type = _FLASH_ATTN[job.flash_attn]
        params.type_k, params.type_v = _kv_type(job.type_k, "type_k"), _kv_type(job.type_v, "type_v")
        params.offload_kqv = params.op_offload = job.accelerator != "cpu"
        params.swa_full = False  # a layer with a window keeps the window, as llama.cpp's own tools do
        params.no_perf = True
        context = llama.llama_init_from_model(self._model, params)
        if not context:
            raise JobError("context", last_error(self._library.log) or "the engine could not allocate the context")
        return context

    def describe(self) -> dict[str, Any]:
        """What the ``model`` event says: shape, buffers, and where the weights really are."""
        found = buffers(self._library.lines())
        model = self._model
        outside = [b for b in found if not is_cpu(b["device"]) and b["kind"] in ("weights", "kv", "state")]
        return {
            "architecture": self._meta("general.architecture"),
            "recurrent": bool(llama.llama_model_is_recurrent(model)),
            "hybrid": bool(llama.llama_model_is_hybrid(model)),
            "n_params": int(llama.llama_model_n_params(model)),
            "file_bytes": int(llama.llama_model_size(model)),
            "n_layers": int(llama.llama_model_n_layer(model)),
            "d_model": int(llama.llama_model_n_embd(model)),
            "n_heads": max(0, int(llama.llama_model_n_head(model))),
            "n_kv_heads": max(0, int(llama.llama_model_n_head_kv(model))),
            "context_trained": int(llama.llama_model_n_ctx_train(model)),
            "n_ctx": self.n_ctx,
            "n_vocab": self.n_vocab,
            "threads": int(llama.llama_n_threads(self._context)),
            "effective_accelerator": _effective_accelerator(outside, int(llama.llama_model_size(model))),
            "effective_device": ",".join(sorted({b["device"] for b in outside})) or "CPU",
            "buffers": found,
            "tables_bytes": self.tables_bytes,
        }

    def warnings(self) -> list[tuple[str, str]]:
        """What the reader of the numbers should know."""
        return []

    def profile(self) -> Iterator[dict[str, Any]]:
        """The operator pass, which this engine's public interface does not allow from Python.

        Raises:
            JobError: always.
        """
        raise JobError("profile_ops", "this runner has no operator profile; the native runner makes one")

    def _meta(self, key: str) -> str:
        text = ctypes.create_string_buffer(256)
        size = llama.llama_model_meta_val_str(self._model, key.encode(), text, len(text))
        return text.value.decode(errors="replace") if size > 0 else ""

    def reset(self) -> None:
        """Forgets every token."""
        llama.llama_memory_clear(self._memory, True)

    def prepare(self, tokens: list[int]) -> None:
        """Cuts the prompt into batches over one array of ids."""
        self._prompt = (llama.llama_token * len(tokens))(*tokens)
        at = ctypes.addressof(self._prompt)
        size = ctypes.sizeof(llama.llama_token)
        self._batches = []
        for start in range(0, len(tokens), self._n_batch):
            count = min(self._n_batch, len(tokens) - start)
            pointer = ctypes.cast(at + start * size, ctypes.POINTER(llama.llama_token))
            self._batches.append(llama.llama_batch_get_one(pointer, count))

    def prefill(self) -> None:
        """Processes the prepared prompt; returns when the device is done."""
        for batch in self._batches:
            self._decode(batch)
        llama.llama_synchronize(self._context)

    def decode(self, token: int) -> None:
        """Processes one token."""
        self._one[0] = token
        self._decode(self._one_batch)

    def _decode(self, batch: Any) -> None:
        code = llama.llama_decode(self._context, batch)
        if code != 0:
            what = last_error(self._library.log) or "no reason logged"
            raise JobError("decode", f"llama_decode returned {code}: {what}")

    def greedy(self) -> int:
        """The most likely next token, waiting for the device; -1 where the logits hold a NaN.

        ``argmax`` gives the first NaN where there is one, so one comparison checks the whole row.
        """
        address = self._logits(self._context, -1)
        if address != self._view_at:
            pointer = ctypes.cast(address, ctypes.POINTER(ctypes.c_float))
            self._view, self._view_at = np.ctypeslib.as_array(pointer, (self.n_vocab,)), address
        token = int(self._view.argmax())
        value = self._view[token]
        return token if value == value else -1


def _tables_bytes(before: int | None, after: int | None, log: list[str]) -> int | None:
    """Anonymous memory that loading took beyond the weights it copied: the vocabulary's tables, mostly.

    Mapped weights have a file behind them, so they are not in the difference.
    """
    if before is None or after is None:
        return None
    copied: int = sum(b["bytes"] for b in buffers(log) if is_cpu(b["device"]) and not b["device"].endswith("_Mapped"))
    return max(0, after - before - copied)


def _chosen_devices(library: Library, job: Job) -> list[tuple[str, str, str, int, int]]:
    """The compute devices the engine may use: none beside the CPU for ``cpu``, else those of the kind asked for."""
    if job.accelerator == "cpu":
        return []
    present = [d for d in library.devices() if d[1] == job.accelerator]
    chosen = [d for d in present if job.device in (None, d[0])]
    if not chosen:
        names = ", ".join(f"{d[0]} ({d[1]})" for d in library.devices()) or "none"
        asked = f"{job.accelerator} device {job.device!r}" if job.device else f"{job.accelerator} device"
        raise JobError("accelerator", f"no {asked}; this build of llama.cpp sees: {names}")
    return chosen


def _kv_type(name: str, field: str) -> int:
    if name not in _KV_TYPES:
        raise JobError("bad_job", f"{field}: must be one of {', '.join(_KV_TYPES)}")
    return _KV_TYPES[name]


def _effective_accelerator(outside: list[dict[str, Any]], weights_bytes: int) -> str:
    """Where at least half of the weights are: llama.cpp leaves some to the CPU, the embedding's rows for one.

    How many its own buffer does not tell, as it maps the file from the first of them to the last.
    """
    return "gpu" if 2 * sum(b["bytes"] for b in outside if b["kind"] == "weights") >= max(1, weights_bytes) else "cpu"
