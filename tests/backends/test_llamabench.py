"""A stock llama-bench from a release archive: taken, run, read; what it does not measure stays absent."""

import contextlib
import io
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import tarfile
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import melt
from melt.backends.llama_bench_rows import LlamaBenchOutput
from melt.backends.llamabench import LlamaBench
from melt.errors import RunnerError
from melt.execution.plan import run
from melt.report import write_report
from melt.spec.cell import Cell
from melt.spec.events import Done, Failed, Hello, Repetitions, UnknownLine, parse_event
from melt.spec.facts import DeviceFacts
from melt.spec.plan import Plan
from melt.toolchain.archives import add_program, find_program, programs, remove_program
from tests.doubles.llama_bench.archive import release_archive
from tests.support.cli import melt_cli
from tests.support.plans import a_plan
from tests.support.processes import running
from tests.support.waiting import wait_until

PHONE = DeviceFacts(platform="android", machine="x86_64", logical_cores=8)


STAND_IN = Path("/bin/true")
LONG = pytest.mark.long(part="llama-bench")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive that is handled, and whose program no test starts."""
    return release_archive(tmp_path_factory.mktemp("release") / "llama-b1-bin-linux-x64.tar.gz", program=STAND_IN)


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with the real program, which takes two minutes to compile."""
    return release_archive(tmp_path_factory.mktemp("stock") / "llama-b1-bin-linux-x64.tar.gz")


def bench_plan(model: Path, **more: object) -> Plan:
    few = {"backends": ("llamabench",), "context": (64,), "gen": (16,), "idle_s": 0.2}
    return a_plan("local", model, **{**few, **more})


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


@LONG
def test_a_stock_llama_bench_is_measured(stock: Path, tiny_model: Path, tmp_path: Path) -> None:
    add_program(stock, "stock")
    outcome = run(bench_plan(tiny_model, backends=("llamabench", "llama.cpp"), gen=(6000,)), tmp_path / "r")
    assert outcome.complete, [r.manifest.error for r in outcome.made]
    runs = melt.load(tmp_path / "r").runs.set_index("backend")
    theirs, ours = dict(runs.loc["llamabench"]), dict(runs.loc["llama.cpp"])
    assert (theirs["runner"], theirs["n_iterations"], theirs["threads"]) == ("llama-bench", 2, 1)
    for speed in ("prefill_tok_per_s", "decode_tok_per_s"):
        assert 0.1 < theirs[speed] / ours[speed] < 10
    assert theirs["peak_rss_bytes"] > 1e6  # the sampler's, which is not llama-bench's affair
    for absent in ("ttft_s", "itl_p50_s", "load_s", "weights_bytes", "energy_decode_j"):
        assert math.isnan(theirs[absent]), absent
    rows = [json.loads(line) for line in _lines_of(outcome.made[0].folder, outcome.made[1].folder)]
    told = [r["row"] for r in rows if r["event"] == "repetitions"]
    assert [(t["n_prompt"], t["n_gen"], t["n_depth"]) for t in told] == [(64, 0, 0), (0, 6000, 64)]
    assert {"/" in t["model_filename"] for t in told} == {False}  # where a file lay is no part of results
    iterations = melt.load(tmp_path / "r").iterations
    assert len(iterations) == 4


def _lines_of(*folders: Path) -> list[str]:
    [path] = [f / "events.jsonl" for f in folders if "llama-bench" in (f / "events.jsonl").read_text()]
    return path.read_text().splitlines()


@LONG
def test_a_second_run_has_nothing_to_do(stock: Path, tiny_model: Path, tmp_path: Path) -> None:
    add_program(stock, "stock")
    assert len(run(bench_plan(tiny_model), tmp_path / "r").made) == 1
    assert run(bench_plan(tiny_model, runners=("stock",)), tmp_path / "r").already_there == 1


@LONG
def test_a_gpu_that_it_does_not_see_is_flagged(stock: Path, tiny_model: Path, tmp_path: Path) -> None:
    add_program(stock, "stock")
    run(bench_plan(tiny_model, accelerators=("gpu",)), tmp_path / "r")
    flags = melt.load(tmp_path / "r").flags.set_index("flag")
    assert flags.loc["accelerator_fallback", "evidence"] == "asked for gpu; what the program saw: CPU"


@LONG
def test_what_it_refuses_is_a_failed_run_with_its_words(stock: Path, tiny_model: Path, tmp_path: Path) -> None:
    add_program(stock, "stock")
    outcome = run(bench_plan(tiny_model, type_v=("q4_0",), flash_attn=("off",)), tmp_path / "r")
    [error] = [r.manifest.error for r in outcome.made]
    assert error is not None
    assert error.kind == "runner"
    assert "exit code 1" in error.message
    assert "failed to create context" in error.message


@LONG
def test_it_does_not_outlive_its_host(stock: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Its input ends with the host; llama-bench itself would not notice."""
    program = add_program(stock, "stock")
    code = (
        "import sys, melt; from melt.spec.plan import Plan\n"
        f"melt.run(Plan(devices=['local'], backends=['llamabench'], models=[{str(tiny_model)!r}], context=[64], "
        f"gen=[20000], threads=[1], iterations=1000, idle_s=0.1, memory_check=False), {str(tmp_path / 'r')!r})"
    )

    def at_work() -> bool:
        return bool(running(lambda p: p.program == program.path_of("llama-bench")))

    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as host:
        try:
            wait_until(at_work)
        finally:
            os.killpg(host.pid, signal.SIGKILL)
    wait_until(lambda: not at_work())


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
        listed = {row["name"]: row["state"] for row in json.loads(melt_cli("runner", "list", "--json").stdout)}
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


class TestTheScript:
    """How the program ends comes back, whichever of its two runs it was."""

    def ended(self, folder: Path, body: str) -> "subprocess.CompletedProcess[str]":
        jobs = folder / "jobs"
        jobs.mkdir(exist_ok=True)
        program = folder / "stub"
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        words = ["64", "16", "1", "2", "llama-bench", str(program), "-x", "it's", str(jobs / "job.json"), "--watch"]
        command = ["sh", str(files("melt.backends") / "llama_bench.sh"), *words]
        read_end, write_end = os.pipe()  # open until it has ended: that is its host being there
        try:
            done = subprocess.run(
                command, stdin=read_end, capture_output=True, text=True, timeout=20, cwd=folder, start_new_session=True
            )
        finally:
            os.close(read_end)
            os.close(write_end)
        assert not list(jobs.iterdir())
        return done

    def test_both_tests_get_their_words_and_no_others(self, tmp_path: Path) -> None:
        done = self.ended(tmp_path, 'echo "$@"')
        lines = done.stdout.splitlines()
        assert lines[0] == "-p 64 -n 0 -x it's"
        assert [sorted(lines[1:])[0], len(lines)] == ["-p 0 -n 16 -d 64 -x it's", 3]
        assert done.returncode == 0

    @pytest.mark.parametrize("first", ["", '[ "$2" = 0 ] && exit 0; '])
    @pytest.mark.parametrize("code", [1, 3, 128, 147, 255])
    def test_an_exit_code(self, tmp_path: Path, code: int, first: str) -> None:
        done = self.ended(tmp_path, f"{first}echo boo >&2; exit {code}")
        assert (done.returncode, done.stderr) == (code, "boo\n")

    @pytest.mark.parametrize("name", ["ABRT", "SEGV", "KILL", "TERM"])
    def test_a_signal_and_the_programs_own_last_word(self, tmp_path: Path, name: str) -> None:
        done = self.ended(tmp_path, f"echo GGML_ASSERT >&2; kill -{name} $$")
        assert done.returncode == -signal.Signals[f"SIG{name}"]
        assert done.stderr == "GGML_ASSERT\n"


CELL = Cell(device="d", model="m", backend="llamabench", prompt_tokens=64, gen_tokens=16, iterations=2)


class TestRows:
    BUILD: ClassVar[dict[str, Any]] = {"build_commit": "abc", "build_number": 7000}
    ROW: ClassVar[dict[str, Any]] = {**BUILD, "n_prompt": 64, "n_gen": 0, "samples_ns": [10, 20]}

    def say(self, **more: Any) -> str:
        return json.dumps({**self.ROW, **more})

    def test_both_tests_make_a_whole_stream(self) -> None:
        read = LlamaBenchOutput(CELL)
        lines = [*read(self.say()), *read('{"melt_pid": 42}'), *read(self.say(n_prompt=0, n_gen=16, n_depth=64))]
        prefill, hello, decode, done = [parse_event(line) for line in lines]
        assert prefill == Repetitions(phase="prefill", tokens=64, depth=0, took_ns=(10, 20))
        assert isinstance(hello, Hello)
        assert (hello.pid, hello.runner_version, hello.engine_version) == (42, "b7000", "abc")
        assert decode == Repetitions(phase="decode", tokens=16, depth=64, took_ns=(10, 20))
        assert done == Done(status="ok")

    @pytest.mark.parametrize(
        "line",
        [
            "",
            "ggml_vulkan: 1 device",
            "{}",
            "[]",
            json.dumps({**ROW, "n_gen": 3}),
            json.dumps({**ROW, "samples_ns": []}),
        ],
    )
    def test_what_is_no_row_is_passed_on(self, line: str) -> None:
        assert LlamaBenchOutput(CELL)(line) == [line]
        assert isinstance(parse_event(line), UnknownLine)

    @given(
        st.text()
        | st.recursive(st.none() | st.integers() | st.text(), lambda c: st.dictionaries(st.text(), c)).map(json.dumps)
    )
    def test_no_line_makes_it_raise(self, line: str) -> None:
        for said in LlamaBenchOutput(CELL)(line):
            parse_event(said)

    @pytest.mark.parametrize(
        ("rows", "problem"),
        [
            ([{"samples_ns": [10]}], "1 repetition of the prefill, and not 2"),
            ([{"n_prompt": 32}], "a prefill of 32 tokens at depth 0, and not a prefill of 64 at 0"),
            ([{"n_prompt": 0, "n_gen": 16, "n_depth": 64}], "a decode of 16 tokens"),
            ([{}, {}], "a prefill of 64 tokens at depth 0, and not a decode of 16 at 64"),
            ([{}, {"n_prompt": 0, "n_gen": 16}], "a decode of 16 tokens at depth 0"),
            ([{}, {"n_prompt": 0, "n_gen": 16, "n_depth": 64, "build_commit": "xyz"}], "two builds"),
            ([{}, {"n_prompt": 0, "n_gen": 16, "n_depth": 64}, {}], "more than a prefill and a decode"),
        ],
    )
    def test_half_a_run_or_another_one_fails(self, rows: list[dict[str, Any]], problem: str) -> None:
        read = LlamaBenchOutput(CELL)
        said = [parse_event(line) for row in rows for line in read(self.say(**row))]
        [failed] = [e for e in said if isinstance(e, Failed)]
        assert problem in failed.message

    def test_an_npu_is_no_gpu(self) -> None:
        read = LlamaBenchOutput(CELL)
        read(self.say(gpu_info="QUALCOMM Adreno(TM) 750, Hexagon"))
        hello = parse_event(read('{"melt_pid": 1}')[0])
        assert isinstance(hello, Hello)
        assert [a.kind for a in hello.accelerators] == ["cpu", "gpu", "npu"]

    @pytest.mark.parametrize("key", ["build_commit", "cpu_info", "gpu_info", "backends"])
    def test_endless_words_are_no_row(self, key: str) -> None:
        line = self.say(**{key: "x" * 200_000})
        assert LlamaBenchOutput(CELL)(line) == [line]

    @pytest.mark.parametrize(
        "wrong",
        [{"n_prompt": -1}, {"n_prompt": "64"}, {"n_prompt": 2**40}, {"samples_ns": [0]}, {"samples_ns": [1.5]}],
    )
    def test_numbers_that_cannot_be_are_no_row(self, wrong: dict[str, Any]) -> None:
        line = self.say(**wrong)
        assert LlamaBenchOutput(CELL)(line) == [line]


def test_the_command_line_takes_lists_and_forgets_an_archive(archive: Path, tmp_path: Path) -> None:
    added = melt_cli("runner", "add", str(archive), "--name", "b1")
    assert added.stdout == "b1: llama-bench for x86_64, glibc (backend llamabench), 5 files\n"
    listed = json.loads(melt_cli("runner", "list", "--json").stdout)
    assert [row["state"] for row in listed if row["name"] == "b1"] == ["added"]
    assert melt_cli("runner", "remove", "b1").returncode == 0
    gone = melt_cli("runner", "remove", "b1")
    assert gone.returncode == 3
    assert "no llama-bench is named 'b1'" in gone.stderr
    assert melt_cli("runner", "add", str(tmp_path)).returncode == 2


@LONG
def test_a_report_sets_engines_side_by_side(stock: Path, tiny_model: Path, tmp_path: Path) -> None:
    add_program(stock, "stock")
    run(bench_plan(tiny_model, backends=("llamabench", "llama.cpp"), context=(64, 128)), tmp_path / "r")
    page = write_report(melt.load(tmp_path / "r"), tmp_path / "out").read_text()
    assert "llama.cpp stock (backends CPU)" in page
    for heading in ("local · llama.cpp · cpu", "local · llamabench · cpu"):
        assert heading in page
