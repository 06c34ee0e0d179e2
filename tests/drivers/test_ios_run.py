"""Whole runs on the simulated iPhone: the real native runner as its app, and what may go wrong on an iPhone alone."""

import json
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

import melt
from melt.execution.plan import run
from melt.report import write_report
from melt.spec.events import ModelLoaded
from melt.spec.plan import Timeouts
from melt.telemetry.series import read
from tests.doubles.iphone.app import MEMORY_LIMIT_BYTES
from tests.doubles.iphone.phone import IPhone
from tests.drivers.iphone import (
    APP_ID,
    STANDING,
    container_of,
    image_at_hand,
    iphone,
    iphone_profile,
    melts_app,
    refused_for,
)
from tests.support.cli import MELT, melt_cli, melt_here
from tests.support.plans import AtPhase, When, a_plan, last, timed
from tests.support.waiting import wait_until

__all__ = ["iphone"]
LONG = {"context": (2000,), "gen": (400,)}


def test_the_command_line_measures_an_iphone_and_reports(
    iphone: IPhone, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iphone_profile(tmp_path / "profiles", iphone)
    listed = melt_cli("devices")
    assert f"attached: iPhone {iphone.udid}" in listed.stdout
    assert "my-iphone" in listed.stdout
    words = ["run", "--device", "my-iphone", "--model", str(tiny_model), "--context", "64,128", "--gen", "16"]
    words += ["--sessions", "1", "--threads", "1", "--set", "idle_s=0.5"]
    words += ["--results", str(tmp_path / "results"), "--out", str(tmp_path / "report")]
    done = melt_cli(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "report" / "index.html").read_text()
    assert "iOS 16.7.10 (20H350)" in page
    assert "6 cores" in page
    assert "on a cable the iPhone charges" in page
    shown = melt_cli("devices", "show", "my-iphone").stdout
    assert "absent: power rails: iOS tells none" in shown
    assert "absent: battery:power while charging" in shown
    assert "process:footprint" in shown
    assert "process:available" in shown
    checked = melt_cli("doctor", "--device", "my-iphone")
    assert "engine llama.cpp" in checked.stdout
    assert "removed" in melt_cli("devices", "clean", "my-iphone").stdout
    assert not list((container_of(iphone) / "Documents/melt/files").iterdir())


def test_a_run_on_an_iphone_is_a_run(iphone: IPhone, tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    plan = a_plan(iphone_profile(tmp_path, iphone), *tiny_models.values(), gen=(64,), iterations=1)
    outcome = run(plan, tmp_path / "results")
    assert [r.manifest.error for r in outcome.made] == [None] * 3
    runs = melt.load(tmp_path / "results").runs
    assert set(runs["family"]) == {"transformer", "ssm", "hybrid"}
    assert (runs["decode_tok_per_s"] > 0).all()
    assert (runs["peak_rss_bytes"] > 1e6).all()
    assert runs["energy_decode_j"].isna().all()  # it charges
    manifest = outcome.made[0].manifest
    assert (manifest.cell.runner, manifest.device.platform) == ("native", "ios")
    assert manifest.passport["installed_runner_version"] == "0.2.0"
    assert APP_ID not in (outcome.made[0].folder / "manifest.json").read_text()  # it names whoever signed it
    assert iphone.udid not in (outcome.made[0].folder / "manifest.json").read_text()
    assert manifest.clock is not None
    assert manifest.clock.name == "mach_continuous_time"
    again = run(
        a_plan(iphone_profile(tmp_path, iphone), tiny_models["ssm"], gen=(64,), iterations=1), tmp_path / "results"
    )
    assert (len(again.made), again.already_there) == (0, 1)


@pytest.mark.timing
def test_samples_of_the_phone_fall_into_the_time_of_the_run(iphone: IPhone, tmp_path: Path, tiny_model: Path) -> None:
    made = last(run(a_plan(iphone_profile(tmp_path, iphone), tiny_model, iterations=1, **LONG), tmp_path / "results"))
    lines = [json.loads(line) for line in made.telemetry_lines()]
    assert {line["probe"] for line in lines} == {"app", "system", "gpu", "battery", "memory"}
    assert [line["t_ns"] for line in lines] == sorted(line["t_ns"] for line in lines)
    start, end = timed(made)[0].prefill.t_start_ns, timed(made)[-1].token_t_ns[-1]
    of_app = [line for line in lines if line["probe"] == "app" and start < line["t_ns"] < end]
    assert of_app
    footprints = [json.loads(line["raw"])["physFootprint"] for line in of_app]
    assert max(footprints) > 1e6
    left = read(made.manifest.telemetry, made.telemetry_lines()).series["process:available"]
    during = left.value[(left.t_ns > start) & (left.t_ns < end)]
    assert len(during) >= (end - start) / 1e9 - 1
    assert max(during) < MEMORY_LIMIT_BYTES - 1e6
    busy = [json.loads(line["raw"])["cpuUsage"] for line in of_app]
    write_report(melt.load(tmp_path / "results"), tmp_path / "report")
    page = (tmp_path / "report/index.html").read_text()
    assert "process memory, as the system counts it (MiB)" in page
    assert "memory left to the process (MiB)" in page
    assert max(busy) > 5  # percent of a core, of which others may have most


def test_a_second_run_sends_nothing_again(iphone: IPhone, tmp_path: Path, tiny_model: Path) -> None:
    profile = iphone_profile(tmp_path, iphone)
    run(a_plan(profile, tiny_model), tmp_path / "results")
    (model,) = (container_of(iphone) / "Documents/melt/files").glob("*/*.gguf")
    was = model.stat().st_ino
    run(a_plan(profile, tiny_model, sessions=2), tmp_path / "results")
    assert model.stat().st_ino == was
    assert {p.name for p in (container_of(iphone) / "Documents").iterdir()} == {"melt"}  # each run's own files are gone


def test_what_a_host_that_died_has_left_is_removed(iphone: IPhone, tmp_path: Path, tiny_model: Path) -> None:
    profile, documents = iphone_profile(tmp_path, iphone), container_of(iphone) / "Documents"
    for name in ("a-run.job.json", "a-run.events.jsonl", "a-run.telemetry.jsonl", "events.jsonl", "mine.json"):
        (documents / name).write_text("{}")
    run(a_plan(profile, tiny_model), tmp_path / "results")
    assert {p.name for p in documents.iterdir()} == {"melt", "mine.json"}


def test_an_iphone_without_developer_mode_is_not_ready(iphone: IPhone, tmp_path: Path) -> None:
    iphone_profile(tmp_path / "profiles", iphone)

    def state() -> tuple[str, str]:
        [row] = [r for r in json.loads(melt_here("devices", "--json").stdout) if r["name"] == "my-iphone"]
        return row["state"], row["reason"]

    assert state() == ("ready", "")
    iphone.developer_mode = False
    assert state() == ("not available", "developer mode is off on the iPhone")


@pytest.mark.parametrize("fault", STANDING)
def test_what_stands_in_the_way_is_told_with_what_to_do(
    fault: str, iphone: IPhone, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refused_for(fault, iphone, tmp_path, tiny_model, monkeypatch)
    checked = melt_here("doctor", "--device", str(tmp_path / "my-iphone.yaml"))
    assert checked.returncode == 1
    assert said in checked.stdout
    assert "fix:" in checked.stdout


def test_no_usbmuxd_is_told_with_what_to_install(
    iphone: IPhone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", "127.0.0.1:1")
    checked = melt_here("doctor", "--device", iphone_profile(tmp_path, iphone))
    assert "usbmuxd does not answer" in checked.stdout
    assert "apt install usbmuxd" in checked.stdout


def test_an_image_that_is_at_hand_is_mounted(iphone: IPhone, tmp_path: Path, tiny_model: Path) -> None:
    iphone.images.mounted.clear()
    image_at_hand(iphone, tmp_path)
    made = last(run(a_plan(iphone_profile(tmp_path, iphone), tiny_model), tmp_path / "results"))
    assert made.manifest.status == "ok", made.manifest.error
    assert iphone.images.mounted == {"Developer": b"by Apple"}


def running(phone: IPhone) -> int:
    (pid,) = [pid for pid, app in phone.apps.running.items() if app.alive]
    return pid


def test_an_app_that_jetsam_ends_is_told_as_such(iphone: IPhone, tmp_path: Path, tiny_model: Path) -> None:
    plan = a_plan(iphone_profile(tmp_path, iphone), tiny_model, **LONG)
    watcher = When(ModelLoaded, lambda: iphone.apps.run_out_of_memory(running(iphone)))
    error = last(run(plan, tmp_path / "results", watcher)).manifest.error
    assert error is not None
    assert error.kind == "out_of_memory"
    assert "jetsam: per-process-limit, at 3072 MiB" in error.message


def test_an_app_that_crashes_is_told_so(
    iphone: IPhone, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("melt.drivers.ios.driver._REPORT_S", 0.5)
    plan = a_plan(iphone_profile(tmp_path, iphone), tiny_model, **LONG)
    watcher = When(ModelLoaded, lambda: iphone.apps.running[running(iphone)].kill(signal.SIGABRT))
    error = last(run(plan, tmp_path / "results", watcher)).manifest.error
    assert error is not None
    assert error.kind == "SIGABRT"


def test_an_app_that_takes_too_long_is_ended(iphone: IPhone, tmp_path: Path, tiny_model: Path) -> None:
    timeouts = Timeouts(iteration_s=1.0)
    plan = a_plan(iphone_profile(tmp_path, iphone), tiny_model, context=(8000,), gen=(4000,), timeouts=timeouts)
    began = time.monotonic()
    error = last(run(plan, tmp_path / "results")).manifest.error
    assert error is not None
    assert error.kind == "timeout"
    assert time.monotonic() - began < 30


def test_a_phone_that_is_locked_in_the_middle_of_a_plan(iphone: IPhone, tmp_path: Path, tiny_model: Path) -> None:
    watcher = AtPhase("load", lambda: setattr(iphone, "locked", True))
    outcome = run(a_plan(iphone_profile(tmp_path, iphone), tiny_model), tmp_path / "results", watcher)
    error = last(outcome).manifest.error
    assert error is not None
    assert error.kind == "device"
    assert "the iPhone is locked" in error.message  # whether it is asked for a service or to start the app


def test_a_cable_pulled_in_mid_push_is_gone_on_from(iphone: IPhone, tmp_path: Path, tiny_model: Path) -> None:
    model = tmp_path / "padded.gguf"
    model.write_bytes(tiny_model.read_bytes() + bytes(24 * 2**20))
    sent = 0

    def count() -> None:
        nonlocal sent
        sent = iphone.disk.free_bytes
        iphone.replug(1.0)

    iphone.disk.after(12 * 2**20, count)
    outcome = run(a_plan(iphone_profile(tmp_path, iphone), model), tmp_path / "results")
    errors = [r.manifest.error.kind if r.manifest.error else "ok" for r in outcome.made]
    assert errors == ["transient", "ok"]
    (placed,) = (container_of(iphone) / "Documents/melt/files").glob("*/*.gguf")
    assert placed.read_bytes() == model.read_bytes()
    assert not list((container_of(iphone) / "Documents/melt/incoming").iterdir())


@pytest.mark.parametrize("look_s", [0.001, 0.2])  # before melt knows of the app, and after
def test_an_interrupted_run_leaves_no_app_at_work(
    look_s: float, iphone: IPhone, tmp_path: Path, tiny_model: Path
) -> None:
    words = ["run", "--device", iphone_profile(tmp_path, iphone), "--model", str(tiny_model), "--context", "8000"]
    words += ["--gen", "8000", "--threads", "1", "--results", str(tmp_path / "results"), "--set", "idle_s=0.2"]
    with subprocess.Popen(
        [*MELT, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    ) as melt_run:
        wait_until(lambda: iphone.apps.running, every_s=look_s)
        melt_run.send_signal(signal.SIGINT)
        _, said = melt_run.communicate(timeout=60)
    assert melt_run.returncode == 130
    assert b"Traceback" not in said
    assert not [r for r in iphone.apps.running.values() if r.alive]


def test_an_app_left_by_a_host_that_died_is_ended_first(iphone: IPhone, tmp_path: Path, tiny_model: Path) -> None:
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    iphone.install(replace(melts_app(), program=sleeper))
    left = iphone.apps.launch(APP_ID, [], {}, True)
    iphone.install(melts_app())
    alive: list[bool] = []
    watcher = AtPhase("idle", lambda: alive.append(left.alive))
    made = last(run(a_plan(iphone_profile(tmp_path, iphone), tiny_model), tmp_path / "results", watcher))
    assert made.manifest.status == "ok"
    assert alive == [False]
