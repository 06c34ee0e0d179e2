"""What a llama-bench says and how it ends, as melt reads both."""

import json
import os
import shutil
import signal
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.backends.llama_bench_rows import LlamaBenchOutput
from melt.spec.cell import Cell
from melt.spec.events import Done, Failed, Hello, Repetitions, UnknownLine, parse_event


class TestTheScript:
    """How the program ends comes back, whichever of its two runs it was."""

    def ended(
        self, folder: Path, body: str, args: tuple[str, ...] = ("-x", "it's"), path: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        jobs = folder / "jobs"
        jobs.mkdir(exist_ok=True)
        program = folder / "stub"
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        words = ["64", "16", "1", str(len(args)), "llama-bench", str(program), *args, str(jobs / "job.json"), "--watch"]
        command = ["sh", str(files("melt.backends") / "llama_bench.sh"), *words]
        read_end, write_end = os.pipe()  # open until it has ended: that is its host being there
        try:
            done = subprocess.run(
                command,
                stdin=read_end,
                capture_output=True,
                text=True,
                timeout=60,
                cwd=folder,
                start_new_session=True,
                env=os.environ | ({"PATH": path} if path else {}),
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

    def test_the_processors_are_kept_though_the_program_keeps_to_none(self, tmp_path: Path) -> None:
        only = min(os.sched_getaffinity(0))
        done = self.ended(tmp_path, "grep Cpus_allowed_list /proc/self/status", ("-C", f"{1 << only:#x}"))
        kept = [line for line in done.stdout.splitlines() if "Cpus" in line]
        assert [line.split() for line in kept] == [["Cpus_allowed_list:", str(only)]] * 2

    def test_processors_that_cannot_be_kept_are_a_failure(self, tmp_path: Path) -> None:
        tools = tmp_path / "tools"
        tools.mkdir()
        for name in ("dirname", "rm", "mktemp", "ln", "sh", "kill"):
            found = shutil.which(name)
            if found:
                (tools / name).symlink_to(found)
        done = self.ended(tmp_path, "echo ran", ("-C", "0x1"), str(tools))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "taskset cannot keep it on the processors 0x1\n"

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
