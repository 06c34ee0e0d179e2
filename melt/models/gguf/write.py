"""Encodes a GGUF header; the inverse of ``header`` for what melt itself writes."""

import struct
from collections.abc import Iterable

from melt.models.gguf.header import Header, Scalar, TensorInfo, Value, align
from melt.models.gguf.types import TensorType

ALIGNMENT = 32


def lay_out(metadata: dict[str, Value], tensors: Iterable[tuple[str, tuple[int, ...], TensorType]]) -> Header:
    """Give every tensor its offset, and return the header of the file that results."""
    metadata = {key: _as_stored(value) for key, value in metadata.items()}
    infos: list[TensorInfo] = []
    offset = 0
    for name, dims, type_ in tensors:
        infos.append(TensorInfo(name, dims, type_, offset))
        offset = align(offset + infos[-1].size_bytes, ALIGNMENT)
    draft = Header(3, metadata, tuple(infos), ALIGNMENT, 0)
    return Header(3, metadata, draft.tensors, ALIGNMENT, align(len(encode(draft)), ALIGNMENT))


def encode(header: Header) -> bytes:
    """The header's bytes, without the padding that follows them."""
    parts = [b"GGUF", struct.pack("<IQQ", header.version, len(header.tensors), len(header.metadata))]
    for key, value in header.metadata.items():
        parts += [_string(key), _value(value)]
    for tensor in header.tensors:
        dims = struct.pack(f"<I{len(tensor.dims)}Q", len(tensor.dims), *tensor.dims)
        parts += [_string(tensor.name), dims, struct.pack("<IQ", tensor.type.id, tensor.offset)]
    return b"".join(parts)


def _as_stored(value: Value) -> Value:
    """Floats are stored in 32 bits: round them now, so that the header equals what is read back."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0]) if isinstance(value, float) else value


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    if isinstance(value, tuple):
        if not all(isinstance(element, int) for element in value):
            raise TypeError(f"only arrays of integers are written, not {value!r}")
        return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)
    if isinstance(value, (bool, int, float, str)):
        return _scalar(value)
    raise TypeError(f"cannot write {value!r}")


def _scalar(value: Scalar) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    return struct.pack("<I", 8) + _string(value)
