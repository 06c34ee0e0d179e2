"""Release archives of llama.cpp: what is taken, listed, refused and forgotten."""

import contextlib
import io
import json
import os
import random
import re
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melt.backends.llamabench import LlamaBench
from melt.errors import RunnerError
from melt.execution.plan import run
from melt.spec.cell import Cell
from melt.toolchain.archives import add_program, find_program, programs, remove_program
from tests.backends.test_llamabench import PHONE, bench_plan
from tests.doubles.llama_bench.archive import release_archive
from tests.support.cli import melt_here

STAND_IN = Path("/bin/true")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive that is handled, and whose program no test starts."""
    return release_archive(tmp_path_factory.mktemp("release") / "llama-b1-bin-linux-x64.tar.gz", program=STAND_IN)


def test_an_archive_is_taken_with_its_links(archive: Path) -> None:
    program = add_program(archive)
    assert (program.name, program.machine, program.system) == ("llama-b1-bin-linux-x64", "x86_64", "glibc")
    assert set(program.files) >= {"llama-bench"}
    assert "LICENSE" not in program.files
    assert program.links["libllama.so"] in program.files
    assert programs() == [program]
    assert add_program(archive, "again").files == program.files
    remove_program("again")
    with pytest.raises(RunnerError, match=r"no llama-bench is named 'agai'"):
        find_program("agai")


class TestRefusals:
    def test_what_was_never_added(self, tiny_model: Path, tmp_path: Path) -> None:
        with pytest.raises(RunnerError, match="no llama-bench was added that runs on linux on x86_64") as e:
            run(bench_plan(tiny_model), tmp_path / "r")
        assert "melt runner add" in e.value.hint
        with pytest.raises(RunnerError, match="no llama-bench is named 'adreno'"):
            run(bench_plan(tiny_model, runners=("adreno",)), tmp_path / "r")

    def test_a_name_that_goes_with_another_backend(self, tiny_model: Path, tmp_path: Path) -> None:
        with pytest.raises(RunnerError, match=r"runner 'adreno': llama.cpp has auto, python, native"):
            run(bench_plan(tiny_model, backends=("llama.cpp",), runners=("adreno",)), tmp_path / "r")

    def test_a_program_of_another_system(self, archive: Path, tmp_path: Path) -> None:
        add_program(archive, "desktop")
        with pytest.raises(RunnerError, match="no llama-bench was added that runs on android on x86_64"):
            LlamaBench().check(PHONE)
        phone = release_archive(tmp_path / "llama-android.tar.gz", "android", STAND_IN)
        add_program(phone, "for-phones")
        LlamaBench().check(PHONE)
        cell = Cell(device="pixel8", model="m", backend="llamabench", runner="desktop")
        with pytest.raises(RunnerError, match=r"desktop is llama-bench for x86_64, glibc .* the device is android"):
            LlamaBench().decide(cell, PHONE)

    def test_several_that_fit(self, archive: Path, tiny_model: Path, tmp_path: Path) -> None:
        add_program(archive, "one")
        add_program(archive, "two")
        with pytest.raises(RunnerError, match="several llama-bench programs fit it: one, two"):
            run(bench_plan(tiny_model), tmp_path / "r")

    def test_another_workload(self, archive: Path, tiny_model: Path, tmp_path: Path) -> None:
        add_program(archive, "one")
        with pytest.raises(RunnerError, match="no sustained workload"):
            run(bench_plan(tiny_model, workload="sustained", sustained_s=5.0), tmp_path / "r")

    @pytest.mark.parametrize("name", ["..", "a/b", "auto", "", "-x", "x" * 65])
    def test_a_name_that_is_none(self, archive: Path, name: str) -> None:
        with pytest.raises(RunnerError, match="is no name for a runner"):
            add_program(archive, name)

    @pytest.mark.parametrize(
        ("content", "match"),
        [(b"nonsense", "cannot be read as an archive"), (b"", "cannot be read as an archive"), (None, "No such file")],
    )
    def test_a_file_that_is_no_archive(self, tmp_path: Path, content: bytes | None, match: str) -> None:
        path = tmp_path / "x.tar.gz"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(RunnerError, match=match):
            add_program(path)
        assert not programs()

    def test_an_archive_that_was_cut(self, archive: Path, tmp_path: Path) -> None:
        cut = tmp_path / "cut.tar.gz"
        cut.write_bytes(archive.read_bytes()[:500_000])
        with pytest.raises(RunnerError, match="cannot be read as an archive"):
            add_program(cut)
        assert not programs()

    def test_hostile_members_stay_inside(self, tmp_path: Path) -> None:
        path = tmp_path / "evil.tar.gz"
        program = llama_bench_head()
        with tarfile.open(path, "w:gz") as tar:
            for name, content in {
                "../../llama-bench": program,
                "/etc/libevil.so": b"x",
                "a/b/../../../libup.so": b"y",
            }.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            link = tarfile.TarInfo("../../libpasswd.so")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        with pytest.raises(RunnerError, match="no 64-bit Linux or Android program"):
            add_program(path, "evil")
        assert not list(tmp_path.rglob("lib*.so"))
        assert not Path("/etc/libevil.so").exists()

    def test_a_zip_is_taken_too(self, archive: Path, tmp_path: Path) -> None:
        program = add_program(archive, "tar")
        path = tmp_path / "b1.zip"
        with zipfile.ZipFile(path, "w") as members:
            for name in program.files:
                members.write(program.path_of(name), f"build/bin/{name}")
            link = zipfile.ZipInfo("build/bin/libllama.so")
            link.external_attr = 0o120777 << 16
            members.writestr(link, program.links["libllama.so"])
        again = add_program(path, "zip")
        assert again.files == program.files
        assert again.links == {"libllama.so": program.links["libllama.so"]}

    @pytest.mark.parametrize("member", ["llama-bench", "libx.so"])
    def test_a_member_that_is_there_twice(self, tmp_path: Path, member: str) -> None:
        path = tmp_path / "twice.tar"
        with tarfile.open(path, "w") as tar:
            for name in (member, member):
                tar.addfile(tarfile.TarInfo(f"d/{name}"), io.BytesIO())
        with pytest.raises(RunnerError, match=f"has {member} twice"):
            add_program(path, "twice")

    def test_an_endless_header_is_not_read(self, tmp_path: Path) -> None:
        path = tmp_path / "pax.tar"
        with path.open("wb") as out:
            info = tarfile.TarInfo("././@PaxHeader")
            info.type, info.size = tarfile.XHDTYPE, 2**31
            out.write(info.tobuf())
            out.truncate(2**31)
        with pytest.raises(RunnerError, match="cannot be read as an archive"):
            add_program(path, "pax")

    def test_an_endless_link_is_not_read(self, tmp_path: Path) -> None:
        path = tmp_path / "link.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            link = zipfile.ZipInfo("libx.so")
            link.external_attr = 0o120777 << 16
            packed.writestr(link, bytes(2**21))
        with pytest.raises(RunnerError, match="a link of 2097152 bytes"):
            add_program(path, "link")

    def test_what_is_no_file_is_not_read(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        for path in (tmp_path / "fifo", Path("/dev/zero")):
            with pytest.raises(RunnerError, match="is no file"):
                add_program(path, "x")

    @given(st.integers(0, 2**32), st.integers(1, 40))
    @settings(max_examples=60)
    def test_no_damage_makes_it_raise_anything_else(self, tmp_path: Path, seed: int, n_bytes: int) -> None:
        shuffled = random.Random(seed)
        path = tmp_path / f"damaged.{shuffled.choice(['tar', 'zip'])}"
        if path.suffix == ".tar":
            with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
                info = tarfile.TarInfo("d/llama-bench")
                info.pax_headers = {"GNU.sparse.size": "10", "comment": "é"}
                tar.addfile(info, io.BytesIO())
        else:
            with zipfile.ZipFile(path, "w") as packed:
                packed.writestr("d/llama-bench", llama_bench_head())
        content = bytearray(path.read_bytes())
        for _ in range(n_bytes):
            content[shuffled.randrange(len(content))] = shuffled.randrange(256)
        path.write_bytes(content)
        with contextlib.suppress(RunnerError):
            add_program(path, "damaged")

    def test_a_damaged_record_is_in_nobodys_way(self, archive: Path, tmp_path: Path) -> None:
        add_program(archive, "good")
        for name, content in {"a": b"\xff", "b": b"{}"}.items():
            (tmp_path / "cache" / "programs" / f"{name}.json").write_bytes(content)
        assert [p.name for p in programs()] == ["good"]
        listed = {row["name"]: row["state"] for row in json.loads(melt_here("runner", "list", "--json").stdout)}
        assert (listed["a"], listed["good"]) == ("damaged", "added")
        remove_program("a")
        add_program(archive, "b")
        assert [p.name for p in programs()] == ["b", "good"]

    def test_a_file_that_is_gone_is_named(self, archive: Path, tiny_model: Path, tmp_path: Path) -> None:
        add_program(archive, "stock").path_of("llama-bench").unlink()
        [made] = run(bench_plan(tiny_model), tmp_path / "r").made
        assert made.manifest.error is not None
        assert re.match(r"stock: .*llama-bench: No such file", made.manifest.error.message)

    def test_another_archive_under_a_name_touches_no_file(self, archive: Path, tmp_path: Path) -> None:
        first = add_program(archive, "x")
        path = tmp_path / "other.tar"
        with tarfile.open(path, "w") as tar:
            content = first.path_of("llama-bench").read_bytes() + b"more"
            info = tarfile.TarInfo("llama-bench")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        second = add_program(path, "x")
        assert first.path_of("llama-bench").exists()
        assert second.path_of("llama-bench") != first.path_of("llama-bench")
        remove_program("x")
        assert not list((tmp_path / "cache" / "programs" / "files").iterdir())

    def test_two_builds_in_one_archive(self, archive: Path, tmp_path: Path) -> None:
        program = add_program(archive, "one")
        path = tmp_path / "two.zip"
        with zipfile.ZipFile(path, "w") as members:
            for folder in ("arm", "x86"):
                members.write(program.path_of("llama-bench"), f"{folder}/llama-bench")
        with pytest.raises(RunnerError, match="has llama-bench twice"):
            add_program(path, "two")


def llama_bench_head() -> bytes:
    return b"\x7fELF\x02\x01" + bytes(58)


def test_the_command_line_takes_lists_and_forgets_an_archive(archive: Path, tmp_path: Path) -> None:
    added = melt_here("runner", "add", str(archive), "--name", "b1")
    assert added.stdout == "b1: llama-bench for x86_64, glibc (backend llamabench), 5 files\n"
    listed = json.loads(melt_here("runner", "list", "--json").stdout)
    assert [row["state"] for row in listed if row["name"] == "b1"] == ["added"]
    assert melt_here("runner", "remove", "b1").returncode == 0
    gone = melt_here("runner", "remove", "b1")
    assert gone.returncode == 3
    assert "no llama-bench is named 'b1'" in gone.stderr
    assert melt_here("runner", "add", str(tmp_path)).returncode == 2
