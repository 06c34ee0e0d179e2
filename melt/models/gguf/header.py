"""Reads the header of a GGUF file (metadata and tensor table), never its tensor data.

A model file comes from strangers: every count, length, type and offset is checked before it is
used, time and memory are bounded, and whatever is wrong is a ModelError that names the file.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from melt.errors import ModelError
from melt.models.gguf.types import TENSOR_TYPES, TensorType

MAX_HEADER_BYTES = 256 * 2**20
MAX_KEYS = 10_000
MAX_TENSORS = 100_000
MAX_KEY_BYTES = 1024
MAX_NAME_BYTES = 256
MAX_STRING_BYTES = 4 * 2**20
MAX_ARRAY_STRINGS = 4_000_000
MAX_KEPT_ELEMENTS = 16_384
MAX_DIM = 2**40
MAX_ALIGNMENT = 65_536
_READ_BYTES = 2**20

# struct formats of GGUF's scalar value types; 8 is a string, 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING = 8
_ARRAY = 9


@dataclass(frozen=True)
class SkippedArray:
    """An array too long to be worth keeping (a vocabulary, say); its length is kept."""

    length: int


@dataclass(frozen=True)
class SkippedText:
    """A text too long to be worth keeping; its length is kept."""

    length_bytes: int


Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...] | SkippedArray | SkippedText


@dataclass(frozen=True)
class TensorInfo:
    """One row of the tensor table; ``offset`` counts from the start of the data section."""

    name: str
    dims: tuple[int, ...]
    type: TensorType
    offset: int

    @property
    def elements(self) -> int:
        """Number of elements."""
        total = 1
        for dim in self.dims:
            total *= dim
        return total

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor's data."""
        return self.type.bytes_for(self.elements)


@dataclass(frozen=True)
class Header:
    """A GGUF header; ``data_start`` is the file offset of the tensor data."""

    version: int
    metadata: dict[str, Value]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data_start: int

    @property
    def data_end(self) -> int:
        """File offset just past the last tensor."""
        return self.data_start + max((t.offset + t.size_bytes for t in self.tensors), default=0)


def read_header(path: Path) -> Header:
    """Read and check the header of the GGUF file at ``path``.

    Raises:
        ModelError: the file cannot be read, is not GGUF, is damaged, or is cut short.
    """
    try:
        file_bytes = path.stat().st_size
        with path.open("rb") as file:
            return _Parser(file, file_bytes, str(path)).parse()
    except FileNotFoundError:
        raise ModelError(f"{path}: no such model file", "Check the path.") from None
    except IsADirectoryError:
        raise ModelError(f"{path} is a folder, not a model file", "Name the .gguf file inside it.") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})", "Check its permissions.") from None


def align(offset: int, alignment: int) -> int:
    """The first multiple of ``alignment`` that is not below ``offset``."""
    return -(-offset // alignment) * alignment


class _Parser:
    """Walks a header from the front, reading ahead in small steps."""

    def __init__(self, file: BinaryIO, file_bytes: int, name: str) -> None:
        self.file = file
        self.file_bytes = file_bytes
        self.name = name
        self.buffer = bytearray()
        self.position = 0
        self.strings_walked = 0

    def parse(self) -> Header:
        version = self._preamble()
        tensor_count = self._count("tensor", MAX_TENSORS, smallest_bytes=24)
        key_count = self._count("metadata key", MAX_KEYS, smallest_bytes=13)
        metadata = self._metadata(key_count)
        alignment = self._alignment(metadata)
        tensors = self._tensors(tensor_count, alignment)
        header = Header(version, metadata, tensors, alignment, align(self.position, alignment))
        self._check_extent(header)
        return header

    def _preamble(self) -> int:
        magic = self._take(4) if self.file_bytes >= 4 else b""
        if magic != b"GGUF":
            raise ModelError(
                f"{self.name} is not a GGUF file (it starts with {magic!r})",
                "melt runs GGUF models; convert other formats first, or download the GGUF version.",
            )
        version = self._unpack("I")
        if version in (0x02000000, 0x03000000):
            raise self._bad("it is a big-endian GGUF", "Use the little-endian version of this model.")
        if version not in (2, 3):
            raise self._bad(f"GGUF version {version} is not supported", "Versions 2 and 3 are; convert it again.")
        return int(version)

    def _count(self, what: str, limit: int, smallest_bytes: int) -> int:
        count = int(self._unpack("Q"))
        if count > limit:
            raise self._bad(f"{what} count {count} is absurd")
        if count * smallest_bytes > self.file_bytes:
            raise self._cut("the header")
        return count

    def _metadata(self, count: int) -> dict[str, Value]:
        metadata: dict[str, Value] = {}
        for _ in range(count):
            key = self._string("metadata key", MAX_KEY_BYTES)
            if key in metadata:
                raise self._bad(f"metadata key {key!r} appears twice")
            metadata[key] = self._value(key, int(self._unpack("I")))
        return metadata

    def _value(self, key: str, type_id: int) -> Value:
        if type_id == _ARRAY:
            return self._array(key)
        if type_id == _STRING:
            return self._text(key)
        return self._scalar(key, type_id)

    def _text(self, key: str) -> str | SkippedText:
        """A text, or its length where it is too long to be worth keeping: a whole tokenizer, say."""
        size_bytes = int(self._unpack("Q"))
        self._need(size_bytes, f"value of {key!r}")
        if size_bytes <= MAX_STRING_BYTES:
            return bytes(self._take(size_bytes)).decode("utf-8", "replace")
        self.position += size_bytes
        return SkippedText(size_bytes)

    def _scalar(self, key: str, type_id: int) -> Scalar:
        if type_id not in _SCALARS:
            raise self._bad(f"metadata key {key!r} has unknown type {type_id}")
        return self._unpack(_SCALARS[type_id])

    def _array(self, key: str) -> Value:
        type_id, length = int(self._unpack("I")), int(self._unpack("Q"))
        if type_id == _STRING:
            return self._string_array(key, length)
        if type_id not in _SCALARS:
            raise self._bad(f"array {key!r} has unsupported element type {type_id}")
        code = _SCALARS[type_id]
        size_bytes = length * struct.calcsize(code)
        self._need(size_bytes, f"array {key!r}")
        if length > MAX_KEPT_ELEMENTS:
            self.position += size_bytes
            return SkippedArray(length)
        values = struct.unpack_from(f"<{length}{code}", self.buffer, self.position)
        self.position += size_bytes
        return values

    def _string_array(self, key: str, length: int) -> Value:
        self.strings_walked += length
        if self.strings_walked > MAX_ARRAY_STRINGS or length * 8 > self.file_bytes:
            raise self._bad(f"array {key!r} claims {length} strings")
        if length <= 256:
            texts = [self._text(key) for _ in range(length)]
            kept = tuple(t for t in texts if isinstance(t, str))
            return kept if len(kept) == length else SkippedArray(length)
        for _ in range(length):
            size_bytes = self._unpack("Q")
            self._need(int(size_bytes), f"array {key!r}")
            self.position += int(size_bytes)
        return SkippedArray(length)

    def _alignment(self, metadata: dict[str, Value]) -> int:
        value = metadata.get("general.alignment", 32)
        good = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_ALIGNMENT
        if not good or not isinstance(value, int) or value & (value - 1):
            raise self._bad(f"general.alignment is {value!r}, not a power of two up to {MAX_ALIGNMENT}")
        return value

    def _tensors(self, count: int, alignment: int) -> tuple[TensorInfo, ...]:
        tensors: list[TensorInfo] = []
        names: set[str] = set()
        for _ in range(count):
            tensor = self._tensor(alignment)
            if tensor.name in names:
                raise self._bad(f"tensor {tensor.name!r} appears twice")
            names.add(tensor.name)
            tensors.append(tensor)
        return tuple(tensors)

    def _tensor(self, alignment: int) -> TensorInfo:
        name = self._string("tensor name", MAX_NAME_BYTES)
        n_dims = int(self._unpack("I"))
        if not 1 <= n_dims <= 4:
            raise self._bad(f"tensor {name!r} has {n_dims} dimensions")
        dims = tuple(int(self._unpack("Q")) for _ in range(n_dims))
        type_id, offset = int(self._unpack("I")), int(self._unpack("Q"))
        if type_id not in TENSOR_TYPES:
            raise self._bad(f"tensor {name!r} has unknown type {type_id}", "A newer melt may know it.")
        tensor = TensorInfo(name, dims, TENSOR_TYPES[type_id], offset)
        if any(not 0 < dim <= MAX_DIM for dim in dims) or tensor.elements > MAX_DIM:
            raise self._bad(f"tensor {name!r} has an absurd shape {dims}")
        if dims[0] % tensor.type.block_elements:
            raise self._bad(f"tensor {name!r}: rows of {dims[0]} do not fill blocks of {tensor.type.name}")
        if offset % alignment:
            raise self._bad(f"tensor {name!r}: offset {offset} is not a multiple of {alignment}")
        return tensor

    def _check_extent(self, header: Header) -> None:
        for tensor in header.tensors:
            end = header.data_start + tensor.offset + tensor.size_bytes
            if end > self.file_bytes:
                raise ModelError(
                    f"{self.name} is cut short: tensor {tensor.name!r} ends at byte {end:,}, "
                    f"the file has {self.file_bytes:,}",
                    "Download or copy the file again.",
                )

    def _string(self, what: str, limit_bytes: int) -> str:
        size_bytes = int(self._unpack("Q"))
        if size_bytes > limit_bytes:
            raise self._bad(f"{what} claims {size_bytes} bytes (at most {limit_bytes} are read)")
        return bytes(self._take(size_bytes)).decode("utf-8", "replace")

    def _unpack(self, code: str) -> int | float | bool:
        size_bytes = struct.calcsize(code)
        self._need(size_bytes, "the header")
        (value,) = struct.unpack_from(f"<{code}", self.buffer, self.position)
        self.position += size_bytes
        return value  # type: ignore[no-any-return]

    def _take(self, size_bytes: int) -> bytearray:
        self._need(size_bytes, "the header")
        taken = self.buffer[self.position : self.position + size_bytes]
        self.position += size_bytes
        return taken

    def _need(self, size_bytes: int, what: str) -> None:
        """Have ``size_bytes`` more in the buffer, or say that the file ends inside ``what``."""
        end = self.position + size_bytes
        if end <= len(self.buffer):
            return
        if end > self.file_bytes:
            raise self._cut(what)
        if end > MAX_HEADER_BYTES:
            raise self._bad(f"its header is larger than {MAX_HEADER_BYTES >> 20} MiB")
        self.buffer += self.file.read(align(end - len(self.buffer), _READ_BYTES))
        if end > len(self.buffer):
            raise ModelError(f"{self.name} changed while it was read", "Wait until it is complete.")

    def _cut(self, what: str) -> ModelError:
        return ModelError(f"{self.name} is cut short: it ends inside {what}", "Download or copy the file again.")

    def _bad(self, what: str, hint: str = "") -> ModelError:
        return ModelError(
            f"{self.name} is a damaged or hostile GGUF: {what}" if not hint else f"{self.name}: {what}",
            hint or "Download it again, from a source you trust.",
        )
