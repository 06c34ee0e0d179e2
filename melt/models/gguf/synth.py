"""Writes a model of an exact published shape with random weights.

Speed and memory do not depend on the values of weights, so such a file measures what the
real one would. Quantised blocks are made directly (random codes, scales in a sane range) rather
than by quantising floats: no engine is needed, and memory stays at a few buffers.
"""

import hashlib
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from melt.errors import ModelError
from melt.models.gguf.blocks.tensor import TensorSpec
from melt.models.gguf.header import Header, TensorInfo, align
from melt.models.gguf.hyperparameters import metadata
from melt.models.gguf.info import info_from_header
from melt.models.gguf.mix import assign_types, check_quant
from melt.models.gguf.tensors import plan_tensors
from melt.models.gguf.types import FILE_TYPE_IDS
from melt.models.gguf.write import encode, lay_out
from melt.models.info import ModelInfo
from melt.models.shapes.zoo import Shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GENERATOR_VERSION = 1
_CHUNK_BYTES = 8 * 2**20

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


@dataclass(frozen=True)
class Synthesis:
    """A synthetic model's file: its header and what each tensor is filled with."""

    header: Header
    tensors: tuple[TensorSpec, ...]
    seed: int


@dataclass(frozen=True)
class Written:
    """A file that was written, and the SHA-256 of its content."""

    path: Path
    sha256: str
    file_bytes: int


def design(shape: Shape, quant: str, seed: int = 0) -> Synthesis:
    """What the file of ``shape`` under ``quant`` will be, without making it."""
    quant = check_quant(quant)
    check_seed(seed)
    tensors = plan_tensors(shape)
    types = assign_types(tensors, quant, shape.layers, shape.experts)
    rows = [(t.name, t.dims, type_) for t, type_ in zip(tensors, types, strict=True)]
    return Synthesis(lay_out(_general(shape, quant, seed) | metadata(shape), rows), tuple(tensors), seed)


def describe_gguf(shape: Shape, quant: str, ref: str) -> ModelInfo:
    """What the file of ``shape`` under ``quant`` will be, without making it; its path is empty."""
    header = design(shape, quant).header
    return info_from_header(header, ref=ref, file_bytes=align(header.data_end, header.alignment))


def synthesise(shape: Shape, quant: str, out: Path, seed: int = 0, progress: Progress | None = None) -> Written:
    """Write the synthetic model to ``out``; the same shape, quant and seed give the same bytes.

    The file appears under its name only when it is complete.

    Raises:
        ModelError: the quantisation is unknown, or the disk is full.
    """
    synthesis = design(shape, quant, seed)
    file_bytes = align(synthesis.header.data_end, synthesis.header.alignment)
    out.parent.mkdir(parents=True, exist_ok=True)
    check_room(out, file_bytes)
    handle, temporary = tempfile.mkstemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            sha256 = _write(file, synthesis, file_bytes, progress or (lambda done, total: None))
        Path(temporary).chmod(0o644)
        Path(temporary).replace(out)
    except OSError as error:
        raise ModelError(f"{out}: cannot be written ({error.strerror})", "Free some space.") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
    return Written(out, sha256, file_bytes)


def _general(shape: Shape, quant: str, seed: int) -> dict[str, int | float | bool | str | tuple[int, ...]]:
    return {
        "general.architecture": shape.arch,
        "general.name": f"{shape.name} (synthetic: random weights)",
        "general.file_type": FILE_TYPE_IDS[quant],
        "general.quantization_version": 2,
        "melt.synthetic": shape.name,
        "melt.synthetic.seed": seed,
        "melt.synthetic.generator": GENERATOR_VERSION,
        "tokenizer.ggml.model": "no_vocab",
    }


def check_seed(seed: int) -> None:
    """Raises ModelError where the seed does not fit 32 bits."""
    if not 0 <= seed < 2**32:
        raise ModelError(f"seed {seed} does not fit 32 bits", "Use a number from 0 to 4294967295.")


def check_room(out: Path, file_bytes: int) -> None:
    """Raises ModelError where the disk has no room for the file."""
    free_bytes = shutil.disk_usage(out.parent).free
    if free_bytes < file_bytes:
        raise ModelError(
            f"{out} needs {file_bytes / 1e6:,.0f} MB and the disk has {free_bytes / 1e6:,.0f} MB free",
            "Free some space, or `melt models cache --limit` to drop models not used lately.",
        )


def _write(file: BinaryIO, synthesis: Synthesis, file_bytes: int, progress: Progress) -> str:
    header = synthesis.header
    digest = hashlib.sha256()
    done_bytes = 0

    def put(data: bytes | memoryview) -> None:
        nonlocal done_bytes
        file.write(data)
        digest.update(data)
        done_bytes += len(data)
        progress(done_bytes, file_bytes)

    head = encode(header)
    put(head + bytes(header.data_start - len(head)))
    for info, spec in zip(header.tensors, synthesis.tensors, strict=True):
        for chunk in tensor_chunks(info, spec, synthesis.seed):
            put(chunk)
        put(bytes(align(info.size_bytes, header.alignment) - info.size_bytes))
    return digest.hexdigest()


def tensor_chunks(info: TensorInfo, spec: TensorSpec, seed: int) -> Iterator[memoryview]:
    """The tensor's data, a few megabytes at a time."""
    import numpy as np

    if spec.fill == "random":
        yield from _random_chunks(info, seed)
        return
    if spec.fill == "decay":
        row = -np.arange(1, max(spec.dims) + 1, dtype="<f4")
        ramp = row[: spec.dims[0]] if spec.dims[0] > 1 else row
        values = np.resize(ramp, info.elements)
    else:
        values = np.full(info.elements, spec.fill, dtype="<f4")
    yield values.view(np.uint8).data


def _random_chunks(info: TensorInfo, seed: int) -> Iterator[memoryview]:
    import numpy as np

    # The raw stream of a bit generator is one that NumPy promises never to change.
    stream = np.random.SFC64([seed, zlib.crc32(info.name.encode())])
    block_bytes = info.type.block_bytes
    shape_blocks = _SHAPERS[info.type.name]
    left_blocks = info.size_bytes // block_bytes
    while left_blocks:
        blocks = min(left_blocks, _CHUNK_BYTES // block_bytes)
        size_bytes = blocks * block_bytes
        raw = stream.random_raw(-(-size_bytes // 8)).view(np.uint8)[:size_bytes].reshape(blocks, block_bytes)
        shape_blocks(raw)
        yield raw.reshape(-1).data
        left_blocks -= blocks


def _half(blocks: "NDArray[np.uint8]", at: int, exponent: int) -> None:
    """Make the two bytes at ``at`` of every block a half float of random sign in 2^exponent x [1, 2)."""
    blocks[:, at + 1] = (blocks[:, at + 1] & 0x83) | ((exponent + 15) << 2)


def _small_half(blocks: "NDArray[np.uint8]", at: int) -> None:
    """As ``_half``, in the subnormal range [2^-17, 2^-16): what Q6_K's scale of scales is in practice."""
    blocks[:, at] |= 0x80
    blocks[:, at + 1] &= 0x80


def _shape_f32(blocks: "NDArray[np.uint8]") -> None:
    # 2^-6 x [1, 2) with random sign: the exponent's lowest bit is the top bit of byte 2.
    blocks[:, 3] = (blocks[:, 3] & 0x80) | 0x3C
    blocks[:, 2] |= 0x80


def _shape_f16(blocks: "NDArray[np.uint8]") -> None:
    # Exponents -8 to -5, so magnitudes spread over 0.004 to 0.06.
    blocks[:, 1] = (blocks[:, 1] & 0x83) | (0x1C + (blocks[:, 1] & 0x0C))


def _shape_q4_1(blocks: "NDArray[np.uint8]") -> None:
    _half(blocks, 0, -8)
    _half(blocks, 2, -6)


def _shape_q4_k(blocks: "NDArray[np.uint8]") -> None:
    _half(blocks, 0, -14)
    _half(blocks, 2, -12)


def _shape_q5_k(blocks: "NDArray[np.uint8]") -> None:
    _half(blocks, 0, -15)
    _half(blocks, 2, -12)


# Scales chosen so that weights have a spread of about 0.02, as trained ones do.
_SHAPERS: dict[str, Callable[["NDArray[np.uint8]"], None]] = {
    "F32": _shape_f32,
    "F16": _shape_f16,
    "Q4_0": lambda blocks: _half(blocks, 0, -8),
    "Q4_1": _shape_q4_1,
    "Q5_0": lambda blocks: _half(blocks, 0, -9),
    "Q8_0": lambda blocks: _half(blocks, 0, -12),
    "Q4_K": _shape_q4_k,
    "Q5_K": _shape_q5_k,
    "Q6_K": lambda blocks: _small_half(blocks, 208),
}
