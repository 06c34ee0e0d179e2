"""Every file of a split model is refused: its header says neither the size nor the hash of the whole."""

from pathlib import Path

import pytest

from melt.errors import ModelError
from melt.models.gguf.header import Value, read_header
from melt.models.gguf.info import inspect_file
from melt.models.gguf.types import TENSOR_TYPES
from melt.models.gguf.write import encode, lay_out
from melt.models.refs import parse_ref, resolve


def parts_of(whole: Path, folder: Path, n: int = 3) -> list[Path]:
    """The model as llama-gguf-split has it: all metadata in the first file, the tensors shared out, no weights."""
    header, made = read_header(whole), []
    for i in range(n):
        share = header.tensors[i::n]
        metadata = {**(header.metadata if i == 0 else {}), "split.no": i, "split.count": n}
        laid = lay_out(metadata, [(t.name, t.dims, t.type) for t in share])
        path = folder / f"split-{i + 1:05d}-of-{n:05d}.gguf"
        path.write_bytes(encode(laid).ljust(laid.data_end, b"\0"))
        made.append(path)
    return made


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A Llama that has a header and no vocabulary."""
    metadata: dict[str, Value] = {
        "general.architecture": "llama",
        **{f"llama.{k}": v for k, v in {"block_count": 2, "embedding_length": 64, "context_length": 2048}.items()},
        **{f"llama.{k}": v for k, v in {"attention.head_count": 4, "feed_forward_length": 128}.items()},
    }
    tensors = [("token_embd.weight", (64, 256)), ("output.weight", (64, 256)), ("blk.0.attn_q.weight", (64, 64))]
    laid = lay_out(metadata, [(name, dims, TENSOR_TYPES[8]) for name, dims in tensors])
    path = tmp_path / "whole.gguf"
    path.write_bytes(encode(laid).ljust(laid.data_end, b"\0"))
    return path


def test_a_whole_model_counts_all_its_parameters(whole: Path) -> None:
    assert inspect_file(whole).n_params == 2 * 64 * 256 + 64 * 64


def test_every_part_says_which_it_is(whole: Path, tmp_path: Path) -> None:
    for number, part in enumerate(parts_of(whole, tmp_path), 1):
        with pytest.raises(ModelError, match=f"is file {number} of 3 of a model") as caught:
            resolve(str(part))
        assert "--merge" in caught.value.hint


def test_parts_that_were_glued_together_are_no_model(whole: Path, tmp_path: Path) -> None:
    glued = tmp_path / "glued.gguf"
    glued.write_bytes(b"".join(p.read_bytes() for p in parts_of(whole, tmp_path)))
    with pytest.raises(ModelError, match="is file 1 of 3"):
        inspect_file(glued)


def test_one_part_on_the_hub_is_refused_before_anything_is_fetched() -> None:
    with pytest.raises(ModelError, match="is file 1 of 3"):
        parse_ref("hf:org/repo:big-00001-of-00003.gguf")
    parse_ref("hf:org/repo:whole-00001-of-00001.gguf")


def test_a_merged_model_that_remembers_its_parts_is_one(whole: Path, tmp_path: Path) -> None:
    header = read_header(whole)
    laid = lay_out({**header.metadata, "split.count": 0}, [(t.name, t.dims, t.type) for t in header.tensors])
    merged = tmp_path / "merged.gguf"
    merged.write_bytes(encode(laid).ljust(laid.data_end, b"\0"))
    assert inspect_file(merged).n_params == inspect_file(whole).n_params
