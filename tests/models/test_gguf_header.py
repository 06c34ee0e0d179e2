import contextlib
import random
import struct
import time
import tracemalloc
from pathlib import Path

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.errors import ModelError
from melt.models.gguf.header import MAX_STRING_BYTES, Header, SkippedArray, SkippedText, Value, read_header
from melt.models.gguf.info import info_from_header, inspect_file
from melt.models.gguf.types import FILE_TYPE_IDS, TENSOR_TYPES

NO_TENSORS = struct.pack("<4sIQ", b"GGUF", 3, 0)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def with_keys(*pairs: bytes) -> bytes:
    return NO_TENSORS + struct.pack("<Q", len(pairs)) + b"".join(pairs)


def with_tensor(dims: tuple[int, ...], type_id: int = 0, offset: int = 0, name: bytes = b"t", copies: int = 1) -> bytes:
    row = text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, type_id, offset)
    return struct.pack("<4sIQQ", b"GGUF", 3, copies, 0) + row * copies + bytes(256)


def refused(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        read_header(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value.message


def test_type_tables_agree_with_the_gguf_package() -> None:
    for number, (block, size) in gguf.constants.GGML_QUANT_SIZES.items():
        if number in TENSOR_TYPES:
            known = TENSOR_TYPES[number]
            assert (known.block_elements, known.block_bytes) == (block, size), known.name
            assert known.name == number.name
    for name, number in FILE_TYPE_IDS.items():
        assert gguf.LlamaFileType(number).name in {f"MOSTLY_{name}", f"ALL_{name}"}


def test_reads_what_the_gguf_package_writes(tmp_path: Path) -> None:
    import numpy as np

    path = tmp_path / "theirs.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("theirs")
    writer.add_block_count(2)
    writer.add_head_count([4, 2])
    writer.add_bool("a.bool", True)
    writer.add_float64("a.double", 0.25)
    writer.add_array("tokenizer.ggml.tokens", [f"<{i}>" for i in range(1000)])
    writer.add_array("few", ["a", "b"])
    writer.add_tensor("token_embd.weight", np.zeros((8, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_header(path)
    assert header.metadata["general.name"] == "theirs"
    assert header.metadata["llama.attention.head_count"] == (4, 2)
    assert (header.metadata["a.bool"], header.metadata["a.double"]) == (True, 0.25)
    assert header.metadata["tokenizer.ggml.tokens"] == SkippedArray(1000)
    assert header.metadata["few"] == ("a", "b")
    assert [(t.name, t.dims, t.size_bytes) for t in header.tensors] == [("token_embd.weight", (32, 8), 1024)]


def test_a_cut_file_is_called_cut(tmp_path: Path, tiny_file: Path) -> None:
    whole = tiny_file.read_bytes()
    for size in (10, 200, len(whole) // 2, len(whole) - 40):
        assert "cut short" in refused(tmp_path, whole[:size])


def test_other_formats_are_named(tmp_path: Path) -> None:
    assert "not a GGUF" in refused(tmp_path, b"PK\x03\x04" + bytes(100))
    assert "not a GGUF" in refused(tmp_path, b"")
    assert "version 1 " in refused(tmp_path, struct.pack("<4sIQQ", b"GGUF", 1, 0, 0))
    assert "big-endian" in refused(tmp_path, struct.pack(">4sIQQ", b"GGUF", 3, 0, 0))
    with pytest.raises(ModelError, match="no such"):
        read_header(tmp_path / "missing.gguf")
    with pytest.raises(ModelError, match="folder"):
        read_header(tmp_path)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (struct.pack("<4sIQQ", b"GGUF", 3, 2**60, 0), "tensor count"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 2**60), "key count"),
        (with_keys(struct.pack("<Q", 2**63) + bytes(40)), "claims"),
        (with_keys(text(b"k") + struct.pack("<I", 99)), "unknown type 99"),
        (with_keys(*[text(b"k") + struct.pack("<IB", 7, 1)] * 2), "twice"),
        (with_keys(text(b"k") + struct.pack("<IIQ", 9, 9, 1)), "element type 9"),
        (with_keys(text(b"k") + struct.pack("<IIQ", 9, 4, 2**61)), "cut short"),
        (with_keys(text(b"k") + struct.pack("<IIQ", 9, 8, 2**61)), "claims"),
        (with_keys(text(b"k") + struct.pack("<IQ", 8, 2**40)), "cut short"),
        (with_keys(text(b"general.alignment") + struct.pack("<II", 4, 0)), "alignment"),
        (with_keys(text(b"general.alignment") + struct.pack("<II", 4, 48)), "alignment"),
        (with_keys(text(b"general.alignment") + struct.pack("<IB", 7, 1)), "alignment"),
        (with_tensor((2**62, 2)), "absurd shape"),
        (with_tensor((0,)), "absurd shape"),
        (with_tensor((2**39, 2**39)), "absurd shape"),
        (with_tensor(()), "0 dimensions"),
        (with_tensor((1,) * 5), "5 dimensions"),
        (with_tensor((8,), type_id=77), "unknown type 77"),
        (with_tensor((33,), type_id=2), "do not fill blocks"),
        (with_tensor((8,), offset=3), "offset 3"),
        (with_tensor((8,), offset=2**63), "cut short"),
        (with_tensor((8,), copies=2), "twice"),
        (with_tensor((8,), name=b"n" * 300), "tensor name claims"),
    ],
)
def test_hostile_headers_are_refused(tmp_path: Path, data: bytes, complaint: str) -> None:
    assert complaint in refused(tmp_path, data)


@pytest.mark.parametrize("size_bytes", [MAX_STRING_BYTES, MAX_STRING_BYTES + 1, 9_000_000])
def test_a_text_of_megabytes_is_passed_over(tmp_path: Path, size_bytes: int) -> None:
    """A whole tokenizer, by a key of the specification."""
    path = tmp_path / "long.gguf"
    whole = struct.pack("<IQ", 8, size_bytes) + b"x" * size_bytes
    of_array = struct.pack("<IIQQ", 9, 8, 1, size_bytes) + b"x" * size_bytes
    after = text(b"general.name") + struct.pack("<I", 8) + text(b"mine")
    path.write_bytes(with_keys(text(b"tokenizer.huggingface.json") + whole, text(b"a") + of_array, after))
    metadata = read_header(path).metadata
    assert metadata["general.name"] == "mine"
    if size_bytes <= MAX_STRING_BYTES:
        assert metadata["tokenizer.huggingface.json"] == "x" * size_bytes
    else:
        assert metadata["tokenizer.huggingface.json"] == SkippedText(size_bytes)
        assert metadata["a"] == SkippedArray(1)


def test_a_bomb_of_strings_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gguf"
    path.write_bytes(with_keys(text(b"k") + struct.pack("<IIQ", 9, 8, 50_000_000)))
    with path.open("r+b") as file:
        file.truncate(2**32)  # sparse: endless empty strings
    started = time.monotonic()
    with pytest.raises(ModelError, match="claims"):
        read_header(path)
    assert time.monotonic() - started < 5


def header_of(**metadata: Value) -> Header:
    return Header(3, {key.replace("__", "."): value for key, value in metadata.items()}, (), 32, 0)


@pytest.mark.parametrize("layers", ["many", -1, 2**30, True, 0, 2.5, (), SkippedArray(9)])
def test_metadata_of_wrong_kinds_is_refused(layers: Value) -> None:
    with pytest.raises(ModelError):
        info_from_header(header_of(general__architecture="x", x__block_count=layers))


def test_what_is_no_model_by_itself_is_refused(tmp_path: Path) -> None:
    for kind in ("adapter", "mmproj"):
        with pytest.raises(ModelError, match=f"it is of type '{kind}', no model"):
            info_from_header(header_of(general__architecture="llama", general__type=kind))
    path = tmp_path / "ggml-vocab-x.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelError, match="it has no weights: a vocabulary alone"):
        inspect_file(path)


def test_metadata_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="one a layer"):
        info_from_header(header_of(general__architecture="x", x__block_count=3, x__attention__head_count=(1, 2)))
    with pytest.raises(ModelError, match="architecture"):
        info_from_header(header_of())


def read_anyhow(path: Path, data: bytes) -> None:
    """Either a model that can be described, or a ModelError: nothing else."""
    path.write_bytes(data)
    with contextlib.suppress(ModelError):
        info_from_header(read_header(path)).to_dict()


@given(data=st.data())
def test_mutated_files_never_surprise(tmp_path: Path, tiny_file: Path, data: st.DataObject) -> None:
    header_bytes = read_header(tiny_file).data_start
    head = bytearray(tiny_file.read_bytes()[:header_bytes])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(head) - 9))
        kind = data.draw(st.sampled_from(["byte", "word", "insert", "delete"]))
        value = data.draw(st.sampled_from([0, 1, 255, 2**31, 2**32 - 1, 2**62, 2**64 - 1]) | st.integers(0, 2**64 - 1))
        if kind == "byte":
            head[at] = value & 0xFF
        elif kind == "word":
            head[at : at + 8] = struct.pack("<Q", value)
        elif kind == "insert":
            head[at:at] = struct.pack("<Q", value)[: 1 + value % 8]
        else:
            del head[at : at + 1 + value % 64]
    read_anyhow(tmp_path / "mutant.gguf", bytes(head) + bytes(4096))


@given(rest=st.binary(max_size=300))
def test_noise_after_the_magic_never_surprises(tmp_path: Path, rest: bytes) -> None:
    read_anyhow(tmp_path / "noise.gguf", b"GGUF\x03\0\0\0" + rest)


def test_memory_stays_bounded(tmp_path: Path, tiny_file: Path) -> None:
    chance = random.Random(4)
    header_bytes = read_header(tiny_file).data_start
    head = tiny_file.read_bytes()[:header_bytes]
    path = tmp_path / "mutant.gguf"
    tracemalloc.start()
    for _ in range(200):
        mutant = bytearray(head)
        mutant[chance.randrange(len(mutant))] ^= 1 << chance.randrange(8)
        read_anyhow(path, bytes(mutant) + bytes(4096))
    _now, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 20 * 2**20
