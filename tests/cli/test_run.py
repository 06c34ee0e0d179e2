"""``melt`` as a person or a CI job meets it: a process with arguments, output and an exit code."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from timeit import timeit
from types import SimpleNamespace
from typing import cast

import pytest

import melt
from melt.cli import COMMANDS
from melt.cli.summary import print_summary
from melt.drivers.profiles import user_folder
from melt.execution.executor import Outcome
from melt.store.store import Store
from tests.support.cli import MELT, melt_cli, melt_here
from tests.support.processes import Process, running
from tests.support.waiting import wait_until


def quick(model: Path, results: Path, *more: str) -> list[str]:
    head = ["run", "--device", "local", "--model", str(model), "--context", "32", "--gen", "4"]
    return [*head, "--sessions", "1", "--iterations", "1", "--threads", "1", "--results", str(results), *more]


@pytest.mark.parametrize("command", [(), *((c,) for c in COMMANDS), ("devices", "show"), ("models", "show")])
def test_every_help_has_an_example(command: tuple[str, ...]) -> None:
    done = melt_here(*command, "--help")
    assert done.returncode == 0
    assert "Example" in done.stdout
    assert f"  melt {' '.join(command)}".rstrip() in done.stdout


def test_a_run_ends_with_a_table_and_the_reports_path(tmp_path: Path, tiny_model: Path) -> None:
    done = melt_cli(*quick(tiny_model, tmp_path / "r", "--out", str(tmp_path / "report")))
    assert done.returncode == 0, done.stderr
    assert re.search(r" s +tok/s +tok/s +MiB", done.stdout)
    last = Path(done.stdout.splitlines()[-1])
    assert last == tmp_path / "report" / "index.html"
    assert last.is_file()
    again = melt_cli(*quick(tiny_model, tmp_path / "r", "--no-report"))
    assert again.returncode == 0
    assert "0 runs to make, 1 measured already" in again.stderr


@pytest.mark.parametrize(("width", "shown"), [("40", "123.0"), ("80", "123.0"), ("120", "123.0 ±2%")])
def test_every_metric_is_in_the_table_whatever_the_terminal_s_width(
    width: str, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    results = melt.load("results/reference")
    joules = {"decode_j_per_token": 0.123, "decode_j_per_token_lo": 0.12, "decode_j_per_token_hi": 0.125}
    modes = ["15W", "25W"] * (len(results.cells) // 2)
    frame = results.cells.assign(power_mode=modes, **joules)
    cells = [SimpleNamespace(id=cell) for cell in frame["cell_id"]]
    outcome = SimpleNamespace(cells=cells, made=[], already_there=0, failed=[], skipped={}, not_tried={}, ended={})
    quiet = results.runs.assign(disturbed="")  # what is said of disturbed ones is a sentence and no table
    shaped = SimpleNamespace(cells=frame, flags=results.flags, runs=quiet)
    print_summary(cast(Outcome, outcome), cast(melt.Results, shaped), Path("results"))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= max(80, int(width))
    assert "mJ/token" in "".join(lines[:4])
    assert sum(line.rstrip().endswith(f" {shown}") for line in lines) >= len(cells)


def test_options_and_a_yaml_plan_make_the_same_cells(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        f"devices: local\nmodels: {tiny_model}\ncontext: 32\ngen: 4\nsessions: 1\niterations: 1\nthreads: 1\n"
    )
    results = tmp_path / "r"
    assert melt_cli("run", tmp_path / "p.yaml", "--results", results, "--no-report").returncode == 0
    again = melt_cli(*quick(tiny_model, results, "--no-report"))
    assert "1 measured already" in again.stderr


def test_a_dry_run_shows_cells_and_makes_nothing(tmp_path: Path, tiny_model: Path) -> None:
    done = melt_cli(*quick(tiny_model, tmp_path / "r", "--dry-run"))
    assert done.returncode == 0, done.stderr
    assert "expected time" in done.stdout
    assert "used in place on local" in done.stdout
    assert not (tmp_path / "r").exists()


def test_a_dry_run_here_leaves_the_cache_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MELT_CACHE", "TMPDIR"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    words = ["run", "--device", "local", "--model", "synth:smollm2-135m@Q4_0", "--context", "32"]
    for extra in (("--runner", "auto"), ("--backend", "llamabench")):
        done = melt_cli(*words, *extra, "--dry-run", "--results", tmp_path / "r")
        assert "to make" in done.stdout, done.stderr
    assert [p.name for p in tmp_path.rglob("*")] == ["MELT_CACHE", "TMPDIR"]


def test_a_dry_run_prints_the_ids_that_the_run_then_makes(tmp_path: Path, tiny_model: Path) -> None:
    results = tmp_path / "r"
    shown = melt_here(*quick(tiny_model, results, "--dry-run", "--context", "32,48"))
    ids = set(re.findall(r"\b[0-9a-f]{12}\b", shown.stdout))
    assert melt_cli(*quick(tiny_model, results, "--no-report", "--context", "32,48")).returncode == 0
    assert {r.manifest.cell_id for r in Store(results).runs()[0]} == ids
    again = melt_here(*quick(tiny_model, results, "--dry-run", "--context", "32,48"))
    assert "2 cells x 1 session: 0 runs to make" in again.stdout


def test_a_dry_run_says_what_would_be_built(tmp_path: Path, tiny_model: Path) -> None:
    done = melt_here(*quick(tiny_model, tmp_path / "r", "--dry-run", "--runner", "native"))
    assert "built first: the native runner for host" in done.stdout
    assert "built first" not in melt_here(*quick(tiny_model, tmp_path / "r", "--dry-run")).stdout


def test_a_dry_run_says_what_would_stop_the_run(tmp_path: Path) -> None:
    gone = melt_here(
        "run", "--device", "pixel8", "--model", "synth:mamba-130m", "--dry-run", "--results", tmp_path / "r"
    )
    assert gone.returncode == 3
    assert "no phone" in gone.stderr
    large = melt_here("run", "--device", "local", "--model", "synth:smollm2-135m", "--context", "9000000", "--dry-run")
    assert "skipped" in large.stdout
    assert "by prediction" in large.stdout


def test_a_dry_run_says_why_a_cell_cannot_be_run(tmp_path: Path, tiny_model: Path) -> None:
    """All that the run would say before it measures, each once."""
    settings = ["--set", "cores=0x80000000000", "--power-mode", "15W", "--context", "16", "--context", "32"]
    done = melt_here(*quick(tiny_model, tmp_path / "r", "--dry-run", *settings))
    assert done.returncode == 2
    assert done.stderr.count("has no power mode '15W'") == 1
    masked = melt_here(*quick(tiny_model, tmp_path / "r", "--dry-run", *settings[:2]))
    assert masked.returncode != 0
    assert "cores" in masked.stderr


@pytest.mark.parametrize("width", ["80", "40"])
def test_the_table_of_a_dry_run_breaks_no_figure(
    width: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_model: Path
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    shown = melt_here(*quick(tiny_model, tmp_path / "r", "--dry-run", "--runner", "python", "--runner", "native"))
    row = next(line for line in shown.stdout.splitlines() if " native " in line)
    assert re.search(r"[0-9a-f]{12} +native +32 +4 +[0-9]+ +[0-9]+ s", row)


def test_any_key_of_a_plan_can_be_set(tmp_path: Path, tiny_model: Path) -> None:
    settings = ["--set", "ubatch=16", "--set", "type_k=q8_0", "--set", "idle_s=0", "--no-report"]
    assert melt_cli(*quick(tiny_model, tmp_path / "r", *settings)).returncode == 0
    job = Store(tmp_path / "r").runs()[0][0].manifest.job
    assert (job["ubatch"], job["type_k"]) == (16, "q8_0")
    wrong = melt_cli(*quick(tiny_model, tmp_path / "r", "--set", "ubtach=16"))
    assert wrong.returncode == 2
    assert "did you mean 'ubatch'" in wrong.stderr


@pytest.mark.parametrize("value", ["2026-13-45", "9" * 5000, "[" * 3000, "[1"], ids=["date", "number", "deep", "open"])
def test_a_setting_that_is_no_yaml_is_refused(value: str) -> None:
    done = melt_here("run", "--device", "local", "--model", "m.gguf", "--set", f"seed={value}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --set seed=")
    assert "the value is not valid YAML" in done.stderr


def test_a_results_folder_may_have_any_name(tmp_path: Path, tiny_model: Path) -> None:
    done = melt_cli(*quick(tiny_model, tmp_path / "x [b]y [", "--no-report"))
    assert done.returncode == 0, done.stderr
    assert "x [b]y [" in done.stdout


def test_some_failed_runs_exit_1_and_what_is_not_there_3(tmp_path: Path, tiny_model: Path) -> None:
    slow = ("--set", "timeouts={load_s: 0.001}")
    some = melt_cli(*quick(tiny_model, tmp_path / "r", *slow, "--no-report"))
    assert some.returncode == 1
    assert "timeout" in some.stdout
    assert "load_s" in some.stdout.partition("hint")[2]
    none = melt_cli(*quick(tiny_model, tmp_path / "none", "--accelerator", "npu", "--no-report"))
    assert none.returncode == 3
    assert "accelerator" in none.stdout


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("run",), 2, "nothing to measure"),
        (("run", "--device", "local"), 2, "no models given"),
        (("run", "--device", "locla", "--model", "synth:mamba-130m"), 2, "did you mean 'local'"),
        (("run", "--device", "local", "--model", "synth:mamba-131m"), 2, "mamba-130m"),
        (("run", "--device", "local", "--model", "x.gguf"), 2, "x.gguf"),
        (("run", "--device", "local", "--model", "m", "--context", "12,x"), 2, "12,x"),
        (("run", "--device", "local", "--model", "m", "--context", "0"), 2, "at least 1"),
        (("run", "--device", "local", "--model", "m", "--sessions", "0"), 2, "sessions"),
        (("run", "--device", "local", "--model", "m", "--backend", "lama.cpp"), 2, "llama.cpp"),
        (("run", "nowhere.yaml"), 2, "nowhere.yaml"),
        (("run", "--device", "pixel8", "--model", "synth:mamba-130m"), 3, "pixel8: no phone"),
        (("run", "--device", "iphone15-pro", "--model", "synth:mamba-130m"), 3, "usbmuxd does not answer"),
        (("rnu",), 2, "did you mean 'run'"),
        (("report", "nowhere"), 2, "nowhere"),
        (("devices", "show", "nothing"), 2, "nothing"),
    ],
)
def test_wrong_input_is_one_message_a_hint_and_an_exit_code(
    tmp_path: Path, args: tuple[str, ...], code: int, said: str
) -> None:
    done = melt_here(*args, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("results"))


def test_a_hostile_model_name_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    done = melt_cli("run", "--device", "local", "--model", "\x1b[31m[bold]x\x07.gguf", "--results", tmp_path / "r")
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert "\x07" not in done.stderr


def long_run(model: Path, results: Path) -> "subprocess.Popen[str]":
    args = quick(model, results, "--no-report", "--warmups", "0", "--set", "extra_time={share: 0}")
    args[args.index("--context") + 1] = "32,33"
    args[args.index("--gen") + 1] = "600"
    # A shell that runs the tests in the background has SIGINT ignored, and children inherit that.
    return subprocess.Popen(
        [*MELT, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def programs_of_second_run(melt: "subprocess.Popen[str]", results: Path) -> list[Process]:
    """Its sampler and its runner, once the first run is published and both are at work."""
    wait_until(lambda: list(results.glob("2*/manifest.json")))
    return wait_until(lambda: found if len(found := running(lambda p: p.parent == melt.pid)) == 2 else [])


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_a_stopped_run_leaves_whole_runs_and_resumes(
    tmp_path: Path, tiny_model: Path, how: signal.Signals, code: int
) -> None:
    results = tmp_path / "r"
    melt = long_run(tiny_model, results)
    children = programs_of_second_run(melt, results)
    os.kill(melt.pid, how)
    _, err = melt.communicate(timeout=120)
    assert melt.returncode == code, err
    wait_until(lambda: not running(lambda p: p in children))  # no runner outlives its host
    runs, damaged = Store(results).runs()
    assert len(runs) == 1
    assert not damaged
    if how != signal.SIGKILL:
        assert not list(results.glob(".partial-*"))
        assert "the same command goes on from there" in err
    again = long_run(tiny_model, results)
    _, err = again.communicate(timeout=400)
    assert again.returncode == 0, err
    assert "1 measured already" in err
    assert len(Store(results).runs()[0]) == 2


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"], ["devices"]])
def test_ctrl_c_while_melt_starts_is_one_line_at_most(command: list[str]) -> None:
    code = "from melt.__main__ import main; import signal; print('begun', flush=True); main()"
    start = [sys.executable, "-c", code, *command]
    took_s, parts = timeit(lambda: subprocess.run(start, capture_output=True, check=True), number=1), 8
    for part in range(parts):
        with subprocess.Popen(
            start,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as melt:
            assert melt.stdout
            melt.stdout.readline()
            time.sleep(0.005 + took_s * part / parts)
            melt.send_signal(signal.SIGINT)
            _, err = melt.communicate(timeout=60)
        # Python itself is done where the signal alone ends it, which a shell tells as 130 too.
        assert melt.returncode in (0, 130, -signal.SIGINT), err
        assert len(err.strip().splitlines()) <= 1, err


def test_devices_and_doctor_speak_to_people_and_to_programs(tmp_path: Path) -> None:
    table = melt_cli("devices")
    assert table.returncode == 0
    assert "local" in table.stdout
    rows = json.loads(melt_here("devices", "--json").stdout)
    assert {r["name"]: r["state"] for r in rows}["local"] == "ready"
    facts = json.loads(melt_here("devices", "show", "local", "--json").stdout)
    assert facts["facts"]["logical_cores"] == os.cpu_count()
    checks = {c["name"]: c for c in json.loads(melt_here("doctor", "--device", "local", "--json").stdout)}
    assert checks["engine llama.cpp"]["state"] == "ok"
    assert str(user_folder()) in checks["profiles"]["found"]
    absent = [c for c in checks.values() if c["found"].startswith("absent")]
    assert all(c["state"] == "warning" for c in absent)
    shown = melt_cli("doctor", "--device", "local")
    assert shown.returncode == 0
    assert "device local" in shown.stdout


def test_a_broken_profile_is_named_by_file_line_and_key(tmp_path: Path) -> None:
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "mine.yaml").write_text("name: mine\ndriver: local\nsensor:\n  period_ms: 5\n")
    done = melt_here("devices", "show", "mine")
    assert done.returncode == 2
    assert "mine.yaml:3: unknown key 'sensor' (did you mean 'sensors'?)" in done.stderr
    assert melt_here("doctor").returncode == 1
    rows = json.loads(melt_here("devices", "--json").stdout)
    assert {r["name"]: r["state"] for r in rows}["mine"] == "broken profile"


def test_output_into_a_closed_pipe_is_no_crash() -> None:
    done = subprocess.run(
        f"{' '.join(MELT[:2])} '{MELT[2]}' devices | head -c 1", shell=True, capture_output=True, check=False
    )
    assert b"Traceback" not in done.stderr
    script = f"set -o pipefail; {' '.join(MELT[:2])} '{MELT[2]}' models list | head -1"
    assert subprocess.run(["bash", "-c", script], capture_output=True, check=False).returncode == 0


def test_a_device_without_a_driver_still_shows_its_facts() -> None:
    done = melt_cli("devices", "show", "pixel8")
    assert done.returncode == 0
    assert "Tensor G3" in done.stdout
    assert "not available" in done.stdout
    data = json.loads(melt_here("devices", "show", "pixel8", "--json").stdout)
    assert data["facts"] is None
    assert data["profile"]["facts"]


def test_devices_fit_80_columns() -> None:
    done = subprocess.run(
        [*MELT, "devices"], capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"}, check=True
    )
    assert "jetson-agx-orin" in done.stdout


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "k.gguf").write_text("mine")
    done = melt_cli("models", "synth", "mamba-130m", "--out", tmp_path / "k.gguf")
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert (tmp_path / "k.gguf").read_text() == "mine"
