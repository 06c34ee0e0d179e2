"""Models in several files, as llama-gguf-split writes them."""

import struct
from collections.abc import Mapping
from pathlib import Path

from melt.models.gguf.header import TensorInfo, Value, align, read_header
from melt.models.gguf.write import ALIGNMENT, encode, lay_out

_U16, _I32 = 2, 5  # GGUF's numbers of the types that llama.cpp reads these keys by


def split(
    whole: Path,
    folder: Path,
    count: int = 3,
    stem: str = "split",
    tensors: int | None = None,
    arch: str = "",
) -> list[Path]:
    """The model in ``count`` files; what they say of their tensors and the architecture may be a lie.

    Files after the first say no architecture by themselves, and ``arch`` where it is given.
    """
    header = read_header(whole)
    total = len(header.tensors) if tensors is None else tensors
    content, made = whole.read_bytes(), []
    for i in range(count):
        first, last = (len(header.tensors) * n // count for n in (i, i + 1))
        share = header.tensors[first:last]
        metadata: Mapping[str, Value] = header.metadata if i == 0 else {"general.architecture": arch} if arch else {}
        laid = lay_out(dict(metadata), [(t.name, t.dims, t.type) for t in share])
        head = _with_place(encode(laid), i, count, total)
        weights = b"".join(_padded(_data(content, header.data_start, t)) for t in share)
        path = folder / f"{stem}-{i + 1:05d}-of-{count:05d}.gguf"
        path.write_bytes(_padded(head) + weights)
        made.append(path)
    return made


def _with_place(head: bytes, number: int, count: int, tensors: int) -> bytes:
    """An encoded header with the three keys of a split before its own."""
    version, n_tensors, n_keys = struct.unpack_from("<IQQ", head, 4)
    places = {"split.no": (_U16, "H", number), "split.count": (_U16, "H", count)}
    keys = places | {"split.tensors.count": (_I32, "i", tensors)}
    rows = [
        struct.pack(f"<Q{len(key)}sI{code}", len(key), key.encode(), type_id, value)
        for key, (type_id, code, value) in keys.items()
    ]
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_keys + len(keys)) + b"".join(rows) + head[24:]


def _data(content: bytes, data_start: int, tensor: TensorInfo) -> bytes:
    start = data_start + tensor.offset
    return content[start : start + tensor.size_bytes]


def _padded(data: bytes) -> bytes:
    return data.ljust(align(len(data), ALIGNMENT), b"\0")
