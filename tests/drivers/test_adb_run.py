"""Whole runs on phones in boxes: the real runner, real telemetry, energy with a known truth, and every fault."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import melt
from melt.execution.plan import run
from melt.spec.events import ModelLoaded
from melt.toolchain.archives import add_program, remove_program
from tests.doubles.llama_bench.archive import release_archive
from tests.doubles.phone.box import PhoneBox
from tests.drivers.conftest import Connector, address_of
from tests.support.cli import melt_cli
from tests.support.plans import AtPhase, When, a_plan, last
from tests.support.profiles import write_profile

pytestmark = pytest.mark.root


def phone_profile(folder: Path, phone: PhoneBox, connector: Connector, name: str = "phone", **more: object) -> str:
    host, port = address_of(phone)
    address = {"host": host, "port": port, "connector": connector}
    return write_profile(folder / f"{name}.yaml", "adb", address=address, **more)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_run_on_a_phone_is_a_run(
    machine: str, connector: Connector, tmp_path: Path, tiny_models: dict[str, Path], kept_builds: None
) -> None:
    with PhoneBox("pixel-8", tmp_path / "phone", machine=machine, variant="unplugged") as phone:  # type: ignore[arg-type]
        profile = phone_profile(tmp_path, phone, connector)
        plan = a_plan(profile, *tiny_models.values(), iterations=1)
        outcome = run(plan, tmp_path / "results")
        assert [r.manifest.error for r in outcome.made] == [None] * 3
        assert not phone.processes()
        assert not (phone.disk / "melt/conditions.json").exists()
    runs = melt.load(tmp_path / "results").runs
    assert set(runs["family"]) == {"transformer", "ssm", "hybrid"}
    assert (runs["decode_tok_per_s"] > 0).all()
    assert (runs["peak_rss_bytes"] > 1e6).all()
    first = outcome.made[0].manifest
    assert first.device.machine == machine
    assert first.cell.runner == "native"
    probes = {json.loads(line)["probe"] for line in outcome.made[0].telemetry_lines()}
    assert {"battery:battery:power", "frequency:policy8", "dumpsys thermalservice"} <= probes


@pytest.fixture
def phone_unplugged(tmp_path: Path):  # type: ignore[no-untyped-def]
    with PhoneBox("pixel-8", tmp_path / "phone", variant="unplugged") as box:
        yield box


def test_a_charging_phone_gives_no_joules_but_the_reason(
    phone: PhoneBox, tmp_path: Path, tiny_model: Path, kept_builds: None
) -> None:
    phone.plug_in(10.0)
    time.sleep(0.2)
    plan = a_plan(phone_profile(tmp_path, phone, "direct"), tiny_model, context=(3000,), gen=(400,))
    run(plan, tmp_path / "results")
    results = melt.load(tmp_path / "results")
    assert results.runs["energy_decode_j"].isna().all()
    assert "charging" in results.runs.iloc[0]["flags"]


def test_a_second_run_sends_nothing_again(phone: PhoneBox, tmp_path: Path, tiny_model: Path, kept_builds: None) -> None:
    profile = phone_profile(tmp_path, phone, "direct")
    run(a_plan(profile, tiny_model), tmp_path / "results")
    files = sorted((phone.disk / "melt/files").glob("*/*"))
    written = [f.stat().st_ino for f in files]
    run(a_plan(profile, tiny_model, sessions=2), tmp_path / "results")
    assert [f.stat().st_ino for f in sorted((phone.disk / "melt/files").glob("*/*"))] == written
    assert len(files) == 2  # the runner and the model


def restart_adbd(phone: PhoneBox) -> None:
    phone.kill_adbd()
    time.sleep(4.0)
    phone.start_adbd()


FAULTS: dict[str, Callable[[PhoneBox], None]] = {
    "reboot": lambda phone: phone.reboot(delay_s=4.0),
    "adbd dies": lambda phone: restart_adbd(phone),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_phone_lost_in_mid_run_is_waited_for_and_measured_again(
    fault: str, phone: PhoneBox, connector: Connector, tmp_path: Path, tiny_model: Path, kept_builds: None
) -> None:
    away = threading.Thread(target=FAULTS[fault], args=(phone,))
    watcher = When(ModelLoaded, away.start)
    plan = a_plan(phone_profile(tmp_path, phone, connector), tiny_model, context=(2000,), gen=(400,))
    outcome = run(plan, tmp_path / "results", watcher)
    assert watcher.done.is_set()
    away.join()
    assert [r.manifest.status for r in outcome.made] == ["failed", "ok"]
    error = outcome.made[0].manifest.error
    assert error is not None
    assert error.kind == "transient"
    assert not outcome.failed
    assert not phone.processes()


@pytest.mark.parametrize("phase", ["collect", "idle"])
def test_a_phone_lost_before_or_after_the_runner_is_measured_again(
    phase: str, phone: PhoneBox, connector: Connector, tmp_path: Path, tiny_model: Path, kept_builds: None
) -> None:
    """What the runner said is whole, but the telemetry cannot be brought: half of a run is none."""
    watcher = AtPhase(phase, lambda: phone.reboot(delay_s=2.0))
    outcome = run(a_plan(phone_profile(tmp_path, phone, connector), tiny_model), tmp_path / "results", watcher)
    assert watcher.done
    errors = [r.manifest.error.kind if r.manifest.error else "ok" for r in outcome.made]
    assert errors == ["transient", "ok"]
    assert not phone.processes()


def test_a_phone_that_hangs_ends_the_run_and_not_the_plan(
    phone: PhoneBox,
    connector: Connector,
    tmp_path: Path,
    tiny_model: Path,
    kept_builds: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher = When(ModelLoaded, phone.freeze)
    plan = a_plan(phone_profile(tmp_path, phone, connector), tiny_model, context=(2000,), gen=(400,), retries=0)
    began = time.monotonic()
    with monkeypatch.context() as quick:
        quick.setattr("melt.drivers.remote.process._HEARTBEAT_S", 0.5)
        quick.setattr("melt.drivers.remote.process._KILL_S", 3.0)
        quick.setattr("melt.drivers.adb.remote.SIGN_OF_LIFE_S", 3.0)
        quick.setattr("melt.drivers.remote.driver.RETURN_S", 3.0)
        outcome = run(plan, tmp_path / "results", watcher)
    assert time.monotonic() - began < 60
    error = last(outcome).manifest.error
    assert error is not None
    assert error.kind == "transient"
    phone.thaw()
    again = run(plan, tmp_path / "results")
    assert last(again).manifest.status == "ok"


def test_a_killed_runner_is_told_as_killed(
    phone: PhoneBox, connector: Connector, tmp_path: Path, tiny_model: Path, kept_builds: None
) -> None:
    def kill() -> None:
        for process in phone.processes():
            if "run" in process.argv:
                os.kill(process.pid, signal.SIGKILL)

    plan = a_plan(phone_profile(tmp_path, phone, connector), tiny_model, context=(2000,), gen=(400,))
    outcome = run(plan, tmp_path / "results", When(ModelLoaded, kill))
    error = last(outcome).manifest.error
    assert error is not None
    assert error.kind == "killed"


def test_a_full_phone_fails_the_run_with_what_to_do(
    phone: PhoneBox, tmp_path: Path, tiny_model: Path, kept_builds: None
) -> None:
    phone.fill_disk(leave_bytes=2**20)
    outcome = run(a_plan(phone_profile(tmp_path, phone, "direct"), tiny_model), tmp_path / "results")
    error = last(outcome).manifest.error
    assert error is not None
    assert "of room on the phone" in error.message
    phone.free_disk()
    assert (
        last(run(a_plan(phone_profile(tmp_path, phone, "direct"), tiny_model), tmp_path / "results")).manifest.status
        == "ok"
    )


def test_an_adb_server_that_restarts_in_mid_run(
    phone: PhoneBox, adb_server: int, tmp_path: Path, tiny_model: Path, kept_builds: None
) -> None:
    env = {k: v for k, v in os.environ.items() if k != "ADB_SERVER_SOCKET"}
    env |= {"ANDROID_ADB_SERVER_PORT": str(adb_server), "HOME": str(tmp_path / "adb-home")}

    def restart() -> None:
        for command in ("kill-server", "start-server"):
            subprocess.run(["adb", command], env=env, check=True, capture_output=True, timeout=30)

    plan = a_plan(phone_profile(tmp_path, phone, "server"), tiny_model, context=(2000,), gen=(400,))
    outcome = run(plan, tmp_path / "results", When(ModelLoaded, restart))
    assert [r.manifest.status for r in outcome.made] == ["failed", "ok"]


def test_the_command_line_measures_a_phone_and_reports(
    phone_unplugged: PhoneBox, tmp_path: Path, tiny_model: Path, kept_builds: None
) -> None:
    profile = phone_profile(tmp_path, phone_unplugged, "direct")
    words = ["run", "--device", profile, "--model", str(tiny_model), "--context", "64,128", "--gen", "16"]
    words += ["--sessions", "1", "--threads", "1", "--cores", "0x1", "--set", "idle_s=0.5"]
    words += ["--results", str(tmp_path / "results"), "--out", str(tmp_path / "report")]
    done = melt_cli(*words)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Google Pixel 8" in page
    assert "removed" in melt_cli("devices", "clean", profile).stdout
    assert not list((phone_unplugged.disk / "melt/files").iterdir())


@pytest.mark.long(part="llama-bench")
def test_a_release_archive_of_llama_cpp_is_measured_on_a_phone(
    phone: PhoneBox, tmp_path: Path, tiny_model: Path, kept_builds: None
) -> None:
    name = f"box-{os.getpid()}"
    add_program(release_archive(tmp_path / "llama-b1-bin-android.tar.gz", "android"), name)
    try:
        profile = phone_profile(tmp_path, phone, "direct", sensors={"period_ms": 100})
        plan = a_plan(profile, tiny_model, backends=("llamabench",), runners=(name,), gen=(3000,), idle_s=2.5)
        made = last(run(plan, tmp_path / "results"))
        assert made.manifest.status == "ok", made.manifest.error
        assert not [p for p in phone.processes() if "llama-bench" in p.argv[0]]
        assert not list((phone.disk / "melt/jobs").glob("llama-bench.*"))
    finally:
        remove_program(name)
    row = melt.load(tmp_path / "results").runs.iloc[0]
    assert row["decode_tok_per_s"] > 0
    assert row["peak_rss_bytes"] > 1e6
    assert row["max_temp_c"] > 0
    assert row["gpu_memory_rise_bytes"] == 0.0  # nothing of it ran there
