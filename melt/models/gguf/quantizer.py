"""Quantises a model with llama.cpp's own quantiser."""

import ctypes
import tempfile
import threading
from pathlib import Path
from typing import Any

from melt.errors import ModelError
from melt.models.cache import Progress
from melt.models.gguf.split import read_model
from melt.models.gguf.types import FILE_TYPE_IDS
from melt.models.shapes.zoo import suggest

_POLL_S = 0.2
_ERROR = 4  # ggml's log level


def quantize(path: Path, quant: str, out: Path, progress: Progress | None = None, threads: int = 0) -> Path:
    """Quantise the model at ``path`` (F32, F16 or BF16) to ``quant``, and write it to ``out``.

    ``threads`` zero means all. The file appears under its name only when it is complete.

    Raises:
        ModelError: the type is unknown, the engine is missing, or the file cannot be quantised.
    """
    file_type = _file_type(quant)
    _header, files = read_model(path)
    llama_cpp = _engine()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        draft = Path(folder) / "model.gguf"
        with _Watch(draft, sum(file.stat().st_size for file in files), progress):
            log = _run(llama_cpp, path, draft, file_type, threads)
        if log is not None:
            raise ModelError(
                f"{path} cannot be quantised to {quant}: {log or 'llama.cpp does not say why'}",
                "Start from an F16, BF16 or F32 file.",
            )
        draft.chmod(0o644)
        draft.replace(out)
    return out


def _file_type(quant: str) -> int:
    if quant.upper() not in FILE_TYPE_IDS:
        raise ModelError(f"unknown quantisation {quant!r}", suggest(quant.upper(), list(FILE_TYPE_IDS)))
    return FILE_TYPE_IDS[quant.upper()]


def _engine() -> Any:
    try:
        import llama_cpp
    except ImportError as error:
        raise ModelError(
            "quantising needs llama-cpp-python, which is not installed", "Run `pip install 'melt-bench[local]'`."
        ) from error
    return llama_cpp


def _run(llama_cpp: Any, path: Path, out: Path, file_type: int, threads: int) -> str | None:
    """None when it worked; else the last errors that llama.cpp logged."""
    errors: list[str] = []

    # The library keeps only a pointer: a callback must live until another replaces it.
    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def keep_errors(level: int, text: bytes, user_data: object) -> None:
        if level == _ERROR and len(errors) < 100:
            errors.append(text.decode("utf-8", "replace").strip())

    before, before_data = llama_cpp.llama_log_callback(), ctypes.c_void_p()
    llama_cpp.llama_log_get(ctypes.byref(before), ctypes.byref(before_data))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = file_type, threads
    llama_cpp.llama_log_set(keep_errors, ctypes.c_void_p(0))
    try:
        failed = llama_cpp.llama_model_quantize(str(path).encode(), str(out).encode(), ctypes.byref(params))
    finally:
        llama_cpp.llama_log_set(before, before_data)
    return "; ".join(errors[-2:]) if failed else None


class _Watch:
    """Reports how large the output has grown, since the library reports nothing."""

    def __init__(self, out: Path, source_bytes: int, progress: Progress | None) -> None:
        self.out, self.source_bytes, self.progress = out, source_bytes, progress
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *exception: object) -> None:
        self.ended.set()
        self.thread.join()

    def _look(self) -> None:
        while not self.ended.wait(_POLL_S):
            if self.progress and self.out.exists():
                self.progress(min(self.out.stat().st_size, self.source_bytes), self.source_bytes)
