"""A model in several files is one model: all are read, hashed and fetched, and what is wrong with one is told."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from melt.backends.job import model_files
from melt.cli.models import models
from melt.errors import ModelError
from melt.models import ModelCache, inspect, parse_ref, peek, predict_memory, quantize, resolve
from melt.models.gguf.header import read_header
from melt.models.gguf.write import encode, lay_out
from melt.models.info import ModelInfo
from melt.util.locks import in_use
from tests.models.hub_server import COMMIT, hub, run_resolve
from tests.support.split_models import split


def sha256_of_all(paths: list[Path]) -> str:
    """As ``sha256sum NAME-*.gguf | cut -c1-64 | sha256sum`` has it."""
    return hashlib.sha256(
        "".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}\n" for p in paths).encode()
    ).hexdigest()


def of_content(info: ModelInfo) -> ModelInfo:
    """Without what tells where a model lies and how it is stored."""
    return replace(info, path="", ref="", short_name="", sha256="", file_bytes=0, n_files=1, files=())


class TestReading:
    def test_all_files_are_counted(self, tiny_file: Path, tmp_path: Path) -> None:
        parts = split(tiny_file, tmp_path)
        whole, info = inspect(tiny_file), inspect(parts[0])
        assert of_content(info) == of_content(whole)
        assert (info.n_params, info.weights_bytes, info.quant) == (whole.n_params, whole.weights_bytes, "Q4_0")
        assert info.bytes_by_type == whole.bytes_by_type
        assert predict_memory(info, 512) == predict_memory(whole, 512)
        assert (info.n_files, info.file_bytes) == (3, sum(p.stat().st_size for p in parts))

    def test_the_first_may_have_no_tensors(self, tiny_file: Path, tmp_path: Path) -> None:
        n_tensors = len(read_header(tiny_file).tensors)
        parts = split(tiny_file, tmp_path, count=n_tensors + 1)
        assert not read_header(parts[0]).tensors
        assert inspect(parts[0]).n_params == inspect(tiny_file).n_params

    def test_one_hash_stands_for_all_files_whatever_they_are_called(self, tiny_file: Path, tmp_path: Path) -> None:
        parts = split(tiny_file, tmp_path)
        info = resolve(str(parts[0]))
        assert info.sha256 == sha256_of_all(parts)
        assert [f.name for f in info.files] == [p.name for p in parts]
        renamed = split(tiny_file, tmp_path, stem="other")
        assert resolve(str(renamed[0])).sha256 == info.sha256
        renamed[1].write_bytes(renamed[1].read_bytes()[:-1] + b"x")
        assert resolve(str(renamed[0])).sha256 != info.sha256

    def test_its_name_is_that_of_the_whole(self, tiny_file: Path, tmp_path: Path) -> None:
        first = split(tiny_file, tmp_path)[0]
        assert (resolve(str(first)).short_name, parse_ref(str(first)).text) == ("split", first.name)

    def test_a_whole_model_stays_one_file(self, tiny_file: Path) -> None:
        info = resolve(str(tiny_file))
        assert (info.n_files, info.files) == (1, ())
        assert info.sha256 == hashlib.sha256(tiny_file.read_bytes()).hexdigest()

    def test_a_merged_model_that_remembers_its_parts_is_whole(self, tiny_file: Path, tmp_path: Path) -> None:
        header = read_header(tiny_file)
        laid = lay_out({**header.metadata, "split.count": 0}, [(t.name, t.dims, t.type) for t in header.tensors])
        merged = tmp_path / "merged.gguf"
        merged.write_bytes(encode(laid).ljust(laid.data_end, b"\0"))
        assert inspect(merged).n_params == inspect(tiny_file).n_params

    def test_show_tells_of_the_other_files(self, tiny_file: Path, tmp_path: Path) -> None:
        first = split(tiny_file, tmp_path)[0]
        human = CliRunner().invoke(models, ["show", str(first)], catch_exceptions=False).stdout
        assert f"{inspect(tiny_file).n_params:,}" in human
        assert f"{first.name}, and 2 more files" in human

    def test_it_is_quantised_as_the_whole_is(self, tiny_file: Path, tmp_path: Path) -> None:
        first = split(tiny_file, tmp_path, stem="tiny")[0]
        out = tmp_path / "tiny-Q4_0.gguf"
        quantize(first, "Q4_0", out)
        assert (inspect(out).n_files, inspect(out).n_params) == (1, inspect(tiny_file).n_params)


def without_the_last(parts: list[Path]) -> Path:
    parts[2].unlink()
    return parts[0]


def no_file(parts: list[Path]) -> Path:
    parts[2].unlink()
    os.mkfifo(parts[2])
    return parts[0]


def cut_short(parts: list[Path]) -> Path:
    os.truncate(parts[1], parts[1].stat().st_size - 64)
    return parts[0]


def swapped(parts: list[Path]) -> Path:
    shutil.copy(parts[1], parts[2])
    return parts[0]


def whole_among_them(parts: list[Path]) -> Path:
    header = read_header(parts[1])
    laid = lay_out({}, [(t.name, t.dims, t.type) for t in header.tensors])
    parts[1].write_bytes(encode(laid).ljust(laid.data_end, b"\0"))
    return parts[0]


def renamed(parts: list[Path]) -> Path:
    return parts[0].rename(parts[0].with_name("model.gguf"))


def glued(parts: list[Path]) -> Path:
    path = parts[0].with_name("glued.gguf")
    path.write_bytes(b"".join(p.read_bytes() for p in parts))
    return path


def numbered_anew(parts: list[Path]) -> Path:
    return parts[1].replace(parts[0])


class TestErrors:
    @pytest.mark.parametrize(
        ("broken", "says"),
        [
            (without_the_last, r"split-00003-of-00003.gguf is missing: .* is file 1 of 3"),
            (no_file, r"split-00003-of-00003.gguf is missing"),
            (cut_short, r"split-00002-of-00003.gguf is cut short"),
            (swapped, r"split-00003-of-00003.gguf does not belong to .*: it is file 2 of 3"),
            (whole_among_them, r"split-00002-of-00003.gguf does not belong to .*: it is a whole model"),
            (lambda parts: parts[1], r"split-00002-of-00003.gguf is file 2 of 3 of a model"),
            (renamed, r"model.gguf is file 1 of 3 of a model, and its name does not say so"),
            (glued, r"glued.gguf is file 1 of 3 of a model, and its name does not say so"),
            (numbered_anew, r"split-00001-of-00003.gguf is file 2 of 3 of a model, and its name does not say so"),
        ],
    )
    def test_a_file_that_is_wrong_is_told(
        self, broken: Callable[[list[Path]], Path], says: str, tiny_file: Path, tmp_path: Path
    ) -> None:
        path = broken(split(tiny_file, tmp_path))
        with pytest.raises(ModelError, match=says) as caught:
            resolve(str(path))
        assert caught.value.hint

    def test_another_file_than_the_first_tells_the_first(self, tiny_file: Path, tmp_path: Path) -> None:
        with pytest.raises(ModelError) as caught:
            inspect(split(tiny_file, tmp_path)[1])
        assert caught.value.hint == "Name its first file: split-00001-of-00003.gguf"

    def test_a_file_of_another_model_is_told(self, tiny_file: Path, tmp_path: Path) -> None:
        parts = split(tiny_file, tmp_path)
        other = tmp_path / "other"
        other.mkdir()
        for said, more in {"tensors, not": {"tensors": 99}, "'mamba', not 'llama'": {"arch": "mamba"}}.items():
            shutil.copy(split(tiny_file, other, **more)[1], parts[1])  # type: ignore[arg-type]
            with pytest.raises(ModelError, match=f"00002-of-00003.gguf does not belong to .*{said}"):
                inspect(parts[0])
        shutil.copy(split(tiny_file, other, count=2)[0], parts[1])
        with pytest.raises(ModelError, match="it is file 1 of 2"):
            inspect(parts[0])

    def test_tensors_that_are_twice_there_or_nowhere_are_told(self, tiny_file: Path, tmp_path: Path) -> None:
        parts = split(tiny_file, tmp_path)
        second = parts[1].read_bytes()
        parts[1].write_bytes(second.replace(b"blk.0.", b"blk.9."))
        assert inspect(parts[0]).n_params == inspect(tiny_file).n_params
        name = read_header(parts[0]).tensors[-1].name.encode()
        same = next(t.name.encode() for t in read_header(parts[1]).tensors if len(t.name) == len(name))
        parts[1].write_bytes(second.replace(same, name))
        with pytest.raises(ModelError, match="is in an earlier file too"):
            inspect(parts[0])
        n_tensors = len(read_header(tiny_file).tensors)
        with pytest.raises(ModelError, match=f"have {n_tensors} tensors, not {n_tensors + 1}"):
            inspect(split(tiny_file, tmp_path, tensors=n_tensors + 1)[0])
        with pytest.raises(ModelError, match="does not say how many tensors"):
            inspect(split(tiny_file, tmp_path, tensors=10**6)[0])

    def test_an_absurd_count_is_refused_before_any_other_file_is_looked_for(
        self, tiny_file: Path, tmp_path: Path
    ) -> None:
        first = split(tiny_file, tmp_path, count=2)[0]
        content = first.read_bytes()
        at = content.index(b"split.count") + len(b"split.count") + 4
        hostile = tmp_path / "big-00001-of-65535.gguf"
        hostile.write_bytes(content[:at] + b"\xff\xff" + content[at + 2 :])
        with pytest.raises(ModelError, match="claims to be in 65,535 files"):
            inspect(hostile)
        with pytest.raises(ModelError, match="claims to be in 99,999 files"):
            parse_ref("hf:org/repo:big-00001-of-99999.gguf")


class TestHub:
    def test_the_first_file_brings_the_others(self, tiny_file: Path, tmp_path: Path) -> None:
        parts = split(tiny_file, tmp_path, stem="big")
        files = {f"q8/{p.name}": p.read_bytes() for p in parts}
        with hub("org/repo", files) as (endpoint, requests):
            env = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf")}
            done = run_resolve(f"hf:org/repo:q8/{parts[0].name}", **env)
            assert done.returncode == 0, done.stderr
            info = json.loads(done.stdout)
            assert (info["n_params"], info["n_files"]) == (inspect(tiny_file).n_params, 3)
            assert (info["sha256"], info["revision"]) == (sha256_of_all(parts), COMMIT)
            assert (info["short_name"], info["ref"]) == ("big", f"hf:org/repo:q8/{parts[0].name}")
            assert [Path(info["path"]).with_name(f["name"]).read_bytes() for f in info["files"]] == list(files.values())
            later = [r.split("/resolve/")[1] for r in requests if "00001" not in r]
            assert {r.split("/")[0] for r in later} == {COMMIT}, "all files are of one commit"
            asked = len(requests)
            again = run_resolve(f"hf:org/repo:q8/{parts[0].name}", **env)
            assert (json.loads(again.stdout)["sha256"], len(requests)) == (info["sha256"], asked)
        known = peek(f"hf:org/repo:q8/{parts[0].name}")
        assert known is not None
        assert (known.n_files, known.sha256) == (3, info["sha256"])
        listed = json.loads(CliRunner().invoke(models, ["list", "--json"], catch_exceptions=False).stdout)["cached"]
        assert [(row["sha256"], row["file_bytes"]) for row in listed] == [(info["sha256"], info["file_bytes"])]

    def test_a_file_that_the_hub_lacks_leaves_nothing_in_the_cache(
        self, tiny_file: Path, tmp_path: Path, cache: ModelCache
    ) -> None:
        parts = split(tiny_file, tmp_path)
        with hub("org/repo", {p.name: p.read_bytes() for p in parts[:2]}) as (endpoint, _):
            env = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf")}
            done = run_resolve(f"hf:org/repo:{parts[0].name}", **env)
        assert "has no file 'split-00003-of-00003.gguf'" in done.stderr
        assert cache.entries() == []

    def test_a_whole_model_that_is_called_a_part_is_refused(self, tiny_file: Path, tmp_path: Path) -> None:
        data = tiny_file.read_bytes()
        with hub("org/repo", {f"m-0000{n}-of-00002.gguf": data for n in (1, 2)}) as (endpoint, _):
            env = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf")}
            done = run_resolve("hf:org/repo:m-00001-of-00002.gguf", **env)
        assert "holds a whole model" in done.stderr

    def test_another_file_than_the_first_tells_the_first_before_anything_is_fetched(self) -> None:
        with pytest.raises(ModelError, match="is file 2 of 3 of a model") as caught:
            parse_ref("hf:org/repo:q8/big-00002-of-00003.gguf@v1")
        assert caught.value.hint == "Name its first file: hf:org/repo:q8/big-00001-of-00003.gguf@v1"
        assert parse_ref("hf:org/repo:whole-00001-of-00001.gguf").short == "whole-00001-of-00001"

    def test_one_that_a_run_uses_is_not_pruned(self, tiny_file: Path, tmp_path: Path, cache: ModelCache) -> None:
        parts = split(tiny_file, tmp_path, stem="model")
        ref = f"hf:org/repo:{parts[0].name}"
        with hub("org/repo", {p.name: p.read_bytes() for p in parts}) as (endpoint, _):
            path = json.loads(run_resolve(ref, HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path / "hf")).stdout)["path"]
        with in_use(Path(path)):
            assert cache.prune(0) == []
        assert len(cache.prune(0)) == 1


def test_a_device_gets_all_files_in_one_folder(tiny_file: Path, tmp_path: Path) -> None:
    parts = split(tiny_file, tmp_path)
    info = resolve(str(parts[0]))
    files = model_files(info)
    assert list(files) == ["model", *(f"model/{p.name}" for p in parts[1:])]
    assert [f.path for f in files.values()] == parts
    assert {f.folder for f in files.values()} == {info.sha256}
    assert list(model_files(resolve(str(tiny_file)))) == ["model"]
