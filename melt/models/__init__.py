"""Models: references, header inspection, memory prediction, synthetic weights, quantisation, cache.

from melt.models import peek, predict_memory, resolve

info = resolve("synth:mamba-130m@Q4_0")      # the file is ready at info.path
predict_memory(info, n_ctx=4096).total_bytes
"""

from melt.models.cache import Entry, ModelCache, Progress
from melt.models.cost import decode_bytes_per_token, flops_prefill
from melt.models.formats import inspect
from melt.models.gguf.header import Header, read_header
from melt.models.gguf.quantizer import quantize
from melt.models.gguf.synth import synthesise
from melt.models.info import ModelInfo
from melt.models.memory import (
    MemoryPrediction,
    kv_bytes_per_token,
    predict_memory,
    state_bytes,
    why_unpredictable,
)
from melt.models.onnx.synth import synthesise_onnx
from melt.models.refs import parse_ref, peek, resolve
from melt.models.shapes.zoo import Shape, find_shape, load_zoo, scaled_down

__all__ = [
    "Entry",
    "Header",
    "MemoryPrediction",
    "ModelCache",
    "ModelInfo",
    "Progress",
    "Shape",
    "decode_bytes_per_token",
    "find_shape",
    "flops_prefill",
    "inspect",
    "kv_bytes_per_token",
    "load_zoo",
    "parse_ref",
    "peek",
    "predict_memory",
    "quantize",
    "read_header",
    "resolve",
    "scaled_down",
    "state_bytes",
    "synthesise",
    "synthesise_onnx",
    "why_unpredictable",
]
