"""Whole runs on phones in boxes: the real runner, real telemetry, and energy with a known truth."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

import melt
from melt.execution.plan import run
from melt.spec.events import ModelLoaded
from melt.toolchain.archives import add_program, remove_program
from tests.doubles.llama_bench.archive import release_archive
from tests.doubles.phone.box import PhoneBox
from tests.drivers.conftest import Connector, phone_profile
from tests.support.cli import melt_cli
from tests.support.plans import When, a_plan, last

pytestmark = pytest.mark.root


# An emulated processor takes four times as long, and is the same by either way.
@pytest.mark.parametrize(
    ("connector", "machine"),
    [("direct", "x86_64"), ("server", "x86_64"), ("direct", "aarch64")],
    indirect=["connector"],
)
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
    plan = a_plan(phone_profile(tmp_path, phone, "direct"), tiny_model, gen=(400,), warmups=0, iterations=1)
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
