"""The sampler and inventory as the device runs them: as programs, or as plain modules."""

import json
import os
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.runner.conftest import Program
from tests.support.processes import running
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).parents[2] / "melt" / "runner" / "python"
sys.path.insert(0, str(PROGRAM))

from inventory import read_inventory  # noqa: E402
from sampler import Schedule  # noqa: E402


@pytest.fixture
def program(sampler_flavour: str, program_of: Program) -> list[str]:
    """The words that start a runner that samples."""
    return program_of(sampler_flavour)


class Sampler:
    """The real program on a spec, from entering to leaving."""

    def __init__(
        self,
        program: list[str],
        folder: Path,
        probes: list[dict[str, Any]],
        period_ms: int = 20,
        root: str = "",
        stdout: int | None = None,
    ) -> None:
        self.out = folder / "telemetry.jsonl"
        spec = folder / "spec.json"
        spec.write_text(
            json.dumps({"out": str(self.out), "period_ms": period_ms, "root": root, "probes": probes}), encoding="utf-8"
        )
        command = [*program, "sample", str(spec)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout)

    def __enter__(self) -> "Sampler":
        # The file is there from the moment that the sampler has begun.
        wait_until(lambda: self.out.exists() or self.process.poll() is not None, every_s=0.005)
        assert self.process.poll() is None, "the sampler did not begin"
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end()

    def say(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(20) == 0

    def rows(self, probe: str = "") -> list[dict[str, Any]]:
        text = self.out.read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [r for r in rows if not probe or r["probe"] == probe]

    def wait_for(self, probe: str, n: int = 1) -> list[dict[str, Any]]:
        """So many rows of a probe, or more."""
        return wait_until(lambda: rows if len(rows := self.rows(probe)) >= n else [])


def median_gap_s(rows: list[dict[str, Any]]) -> float:
    return float(statistics.median(b["t_ns"] - a["t_ns"] for a, b in pairwise(rows))) * 1e-9


@pytest.mark.every_flavour
def test_reads_files_again_and_again_under_the_root(program: list[str], tmp_path: Path) -> None:
    file = tmp_path / "tree" / "sys" / "power"
    file.parent.mkdir(parents=True)
    file.write_text("1\n")
    with Sampler(program, tmp_path, [{"name": "p", "read": "/sys/power"}], root=str(tmp_path / "tree")) as sampler:
        sampler.wait_for("p", 5)
        with file.open("r+") as f:  # one write in place, as sysfs changes: write_text empties the file first
            f.write("2\n")
        wait_until(lambda: [r["raw"] for r in sampler.rows("p")].count("2") >= 5)
    rows = sampler.rows("p")
    raws = [r["raw"] for r in rows]
    assert {"1", "2"} <= set(raws)
    assert raws == sorted(raws)
    assert 10 <= len(rows) <= (rows[-1]["t_ns"] - rows[0]["t_ns"]) / 20e6 + 2
    assert all(r["t_ns"] <= r["t_end_ns"] for r in rows)
    assert all(a["t_end_ns"] <= b["t_ns"] for a, b in pairwise(rows))
    assert set(rows[0]) == {"t_ns", "t_end_ns", "probe", "raw"}


def test_flushes_while_running(program: list[str], tmp_path: Path) -> None:
    with Sampler(program, tmp_path, [{"name": "up", "read": "/proc/uptime"}]) as sampler:
        wait_until(lambda: sampler.out.exists() and sampler.rows())


@pytest.mark.every_flavour
def test_says_once_why_a_probe_fails_and_goes_on_with_the_others(program: list[str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    probes: list[dict[str, Any]] = [
        {"name": "gone", "read": "/nowhere/at/all"},
        {"name": "pipe", "read": str(tmp_path / "pipe")},
        {"name": "folder", "read": str(tmp_path)},
        {"name": "up", "read": "/proc/uptime"},
    ]
    with Sampler(program, tmp_path, probes) as sampler:
        sampler.wait_for("up", 5)
        for name in ("gone", "pipe", "folder"):
            sampler.wait_for(name)
    for name, error in (("gone", "ENOENT"), ("pipe", "EINVAL"), ("folder", "EINVAL")):
        rows = sampler.rows(name)
        assert [r["error"] for r in rows] == [error]
        assert set(rows[0]) == {"t_ns", "probe", "error", "message"}


@pytest.mark.every_flavour
def test_what_is_to_be_told_is_told_seldom_and_kept_all_the_same(program: list[str], tmp_path: Path) -> None:
    probes: list[dict[str, Any]] = [
        {"name": "told", "read": "/proc/uptime", "tell": True},
        {"name": "untold", "read": "/proc/uptime", "tell": False},
        {"name": "long", "read": str(tmp_path / "long"), "lines": ["x"], "tell": True},
        {"name": "asked", "exec": ["echo", 'a "word"'], "period_ms": 100, "tell": True},
    ]
    (tmp_path / "long").write_text("x" * 60 + "\n" + "x" * 9000 + "\n")  # as long as a phone's thermal service is
    with (tmp_path / "said").open("w") as said, Sampler(program, tmp_path, probes, stdout=said.fileno()) as sampler:
        sampler.wait_for("told", 50)
        sampler.wait_for("asked", 2)
    rows = [json.loads(line) for line in (tmp_path / "said").read_text().splitlines()]
    assert sorted(row["probe"] for row in rows) == ["asked", "long", "told"]
    assert all(row in sampler.rows(row["probe"]) for row in rows)


def test_nobody_need_read_what_is_told(program: list[str], tmp_path: Path) -> None:
    """A pipe that is full holds up nothing."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    while True:
        try:
            os.write(writes, b"x" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(writes, True)
    try:
        with Sampler(
            program, tmp_path, [{"name": "t", "read": "/proc/uptime", "tell": True}], stdout=writes
        ) as sampler:
            sampler.wait_for("t", 20)
    finally:
        os.close(reads)
        os.close(writes)


def test_follows_a_process_when_told_its_pid(program: list[str], tmp_path: Path) -> None:
    with Sampler(program, tmp_path, [{"name": "rss", "read": "/proc/{pid}/statm"}], root="/not/used") as sampler:
        sampler.say("nonsense\n")
        sampler.say("pi")
        sampler.say(f"d {os.getpid()}\n")
        rows = sampler.wait_for("rss", 3)
    assert int(rows[0]["raw"].split()[1]) > 0


def test_keeps_only_the_lines_asked_for(program: list[str], tmp_path: Path) -> None:
    probes = [{"name": "m", "read": "/proc/meminfo", "lines": ["MemAvailable:", "SwapFree:"]}]
    with Sampler(program, tmp_path, probes) as sampler:
        lines = sampler.wait_for("m")[0]["raw"].splitlines()
    assert [line.split()[0] for line in lines] == ["MemAvailable:", "SwapFree:"]


def test_any_text_comes_back_as_it_was(program: list[str], tmp_path: Path) -> None:
    (tmp_path / "odd").write_bytes(b'a"b\\c\td\n\xff\xe2\x82\xac\n')
    with Sampler(program, tmp_path, [{"name": 'o"dd', "read": str(tmp_path / "odd")}]) as sampler:
        assert sampler.wait_for('o"dd')[0]["raw"] == 'a"b\\c\td\n\ufffd€'


def test_runs_programs_without_a_shell_and_without_holding_up_the_rest(program: list[str], tmp_path: Path) -> None:
    probes: list[dict[str, Any]] = [
        {"name": "echo", "exec": ["echo", "$HOME;x"], "period_ms": 100},
        {"name": "bad", "exec": ["false"], "period_ms": 100},
        {"name": "none", "exec": ["/nowhere/at/all"], "period_ms": 100},
        {"name": "slow", "exec": ["sleep", "0.4"], "period_ms": 100},
        {"name": "up", "read": "/proc/uptime"},
    ]
    with Sampler(program, tmp_path, probes) as sampler:
        for probe, n in {"echo": 1, "bad": 1, "none": 1, "slow": 2, "up": 10}.items():
            sampler.wait_for(probe, n)
    assert sampler.rows("echo")[0]["raw"] == "$HOME;x"
    assert [r["error"] for r in sampler.rows("bad")] == ["EXIT1"]
    assert [r["error"] for r in sampler.rows("none")] == ["ENOENT"]
    assert median_gap_s(sampler.rows("up")) < 0.1


def test_schedule_neither_drifts_nor_bunches() -> None:
    schedule = Schedule(1_000)
    probe: Any = object()
    schedule.add(probe, 100, 1_000)
    assert schedule.next_ns() == 1_000
    deadlines: list[int] = []
    while len(deadlines) < 1_000:
        at = schedule.next_ns()
        assert at is not None
        deadlines.append(at)
        assert schedule.due(at - 1) == []
        assert schedule.due(at) == [probe]
    assert [(at - 1_000) // 100 for at in deadlines] == list(range(1_000))  # one in each period
    assert schedule.due(deadlines[-1] + 555) == [probe]  # five were missed, and are not made up for
    assert deadlines[-1] + 555 < (schedule.next_ns() or 0) <= deadlines[-1] + 755


@pytest.mark.every_flavour
def test_readings_keep_step_with_nothing(program: list[str], tmp_path: Path) -> None:
    with Sampler(program, tmp_path, [{"name": "up", "read": "/proc/uptime"}], period_ms=50) as sampler:
        rows = sampler.wait_for("up", 60)
    within = [(r["t_ns"] - rows[0]["t_ns"]) / 50e6 % 1 for r in rows]
    # A power that goes up and down once a period, as decoding may, is read in all of its parts.
    assert all(sum(q / 4 <= w < (q + 1) / 4 for w in within) >= len(within) / 10 for q in range(4))


@pytest.mark.timing
def test_cost_is_a_small_part_of_a_core(program: list[str], tmp_path: Path) -> None:
    probes = [{"name": f"p{i}", "read": "/proc/self/statm", "period_ms": 100} for i in range(10)]
    with Sampler(program, tmp_path, probes, period_ms=100) as sampler:
        time.sleep(1)
        shares = []
        for _ in range(3):
            before = _cpu_s(sampler.process.pid)
            time.sleep(1.5)
            shares.append((_cpu_s(sampler.process.pid) - before) / 1.5)
    assert min(shares) <= 0.005  # the least disturbed of three, as other programs' cache misses cost us too
    assert len(sampler.rows("p0")) >= 45


def _cpu_s(pid: int) -> float:
    # The scheduler's own sum in ns: the ticks of /proc/PID/stat are too coarse here.
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) * 1e-9


def test_inventory_reads_links_but_nothing_that_could_block(tmp_path: Path) -> None:
    real = tmp_path / "sys" / "devices" / "zone0"
    real.mkdir(parents=True)
    (real / "temp").write_text("40000\n")
    (real / "denied").write_text("x")
    (real / "denied").chmod(0)
    os.mkfifo(real / "pipe")
    (tmp_path / "sys" / "class").mkdir()
    (tmp_path / "sys" / "class" / "zone0").symlink_to("../devices/zone0")
    rows = {r["path"]: r for r in read_inventory(["/sys/class/*/*", "/sys/class/*/*", "/none/*"], str(tmp_path))}
    assert rows["/sys/class/zone0/temp"]["text"] == "40000\n"
    assert "/sys/class/zone0/pipe" not in rows
    assert len(rows) == 2
    if os.geteuid() != 0:
        assert rows["/sys/class/zone0/denied"]["error"] == "EACCES"


@pytest.mark.parametrize("name", ["uname:machine", "sysconf:SC_PAGE_SIZE"])
def test_inventory_knows_what_no_file_tells(name: str) -> None:
    (row,) = read_inventory([name])
    assert row["path"] == name
    assert row["text"]


def test_inventory_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 100_000)
    (row,) = read_inventory(["/big"], str(tmp_path), max_bytes=1000)
    assert len(row["text"]) == 1000
    assert read_inventory(["uname:none", "sysconf:none", "other:x"])[2] == {"path": "other:x", "error": "ENOENT"}


def test_the_silence_of_the_host_ends_it_and_an_empty_line_breaks_it(program: list[str], tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    probes = [{"name": "p", "read": "/proc/loadavg"}]
    spec.write_text(
        json.dumps({"out": str(tmp_path / "out.jsonl"), "period_ms": 20, "watch_stdin_ms": 1500, "probes": probes})
    )
    with subprocess.Popen([*program, "sample", str(spec)], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stderr
        for _ in range(4):
            time.sleep(0.5)
            process.stdin.write(b"\n")
            process.stdin.flush()
        assert process.poll() is None
        assert process.wait(10) == 0
        assert process.stderr.read() == b""
    assert (tmp_path / "out.jsonl").read_text().count("\n") > 20


def test_every_file_is_read_at_once_however_long_its_period(program: list[str], tmp_path: Path) -> None:
    with Sampler(program, tmp_path, [{"name": "slow", "read": "/proc/loadavg", "period_ms": 60_000}]) as sampler:
        time.sleep(1.0)
        sampler.end()
        assert len(sampler.rows("slow")) == 1


def test_keeps_only_the_lines_asked_for_of_a_programs_output_too(program: list[str], tmp_path: Path) -> None:
    script = "printf 'keep: 1\\nother: 2\\n  indented keep: 3\\nkeep: 4\\n'"
    probe = {"name": "p", "exec": ["sh", "-c", script], "lines": ["keep:"], "period_ms": 100}
    with Sampler(program, tmp_path, [probe]) as sampler:
        assert sampler.wait_for("p")[0]["raw"] == "keep: 1\nkeep: 4"


@pytest.mark.timing
def test_every_line_of_a_program_that_goes_on_is_a_sample(program: list[str], tmp_path: Path) -> None:
    script = 'i=0; while :; do i=$((i+1)); echo "keep: $i"; echo other; echo; sleep 0.1; done'
    probes: list[dict[str, Any]] = [
        {"name": "s", "stream": ["sh", "-c", script], "lines": ["keep:"]},
        {"name": "ends", "stream": ["sh", "-c", "echo once; exit 3"]},
        {"name": "none", "stream": ["/nowhere/at/all"]},
    ]
    with Sampler(program, tmp_path, probes) as sampler:
        time.sleep(1.0)
        sampler.end()
        rows = sampler.rows("s")
        assert [r["raw"] for r in rows] == [f"keep: {i + 1}" for i in range(len(rows))]
        gaps = [b["t_ns"] - a["t_ns"] for a, b in pairwise(rows)]
        assert len(rows) >= 6
        assert 90e6 < sorted(gaps)[len(gaps) // 2] < 250e6  # stamped as they come
        assert min(gaps) > 20e6
        assert [r.get("error", r.get("raw")) for r in sampler.rows("ends")] == ["once", "EXIT3"]
        assert [r["error"] for r in sampler.rows("none")] == ["ENOENT"]
    wait_until(lambda: not running(lambda p: script in p.argv))  # killed, and not waited for


@pytest.mark.parametrize("flood", ["yes 0123456789", "yes 0123456789 | tr -d '\\n'"])
def test_a_program_that_floods_is_ended_and_said_so(program: list[str], tmp_path: Path, flood: str) -> None:
    probes: list[dict[str, Any]] = [
        {"name": "s", "stream": ["sh", "-c", flood]},
        {"name": "up", "read": "/proc/uptime"},
    ]
    with Sampler(program, tmp_path, probes) as sampler:
        wait_until(lambda: [r for r in sampler.rows("s") if "error" in r])
        sampler.wait_for("up", len(sampler.rows("up")) + 10)
        sampler.end()
        assert [r["error"] for r in sampler.rows("s") if "error" in r] == ["EOVERFLOW"]
        assert median_gap_s(sampler.rows("up")) < 0.1
    assert (tmp_path / "telemetry.jsonl").stat().st_size < 2**20


def test_what_a_program_has_left_behind_is_not_waited_for(program: list[str], tmp_path: Path) -> None:
    probes = [{"name": "s", "stream": ["sh", "-c", "setsid sleep 5 & echo once; wait"]}]
    with Sampler(program, tmp_path, probes) as sampler:
        assert sampler.wait_for("s")[0]["raw"] == "once"
        began = time.monotonic()
        sampler.end()
        assert time.monotonic() - began < 3


def test_it_comes_before_the_runner_where_it_may_and_what_it_starts_does_not(
    program: list[str], tmp_path: Path
) -> None:
    expected = os.SCHED_FIFO if os.geteuid() == 0 else os.SCHED_OTHER
    probes = [{"name": "child", "exec": ["cut", "-d", " ", "-f", "41", "/proc/self/stat"], "period_ms": 100}]
    with Sampler(program, tmp_path, probes) as sampler:
        assert sampler.wait_for("child")[0]["raw"] == str(os.SCHED_OTHER)
        assert os.sched_getscheduler(sampler.process.pid) & ~os.SCHED_RESET_ON_FORK == expected
