"""The phone in a box, held to Google's own adb client: what the driver's tests take for granted."""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import KEPT_BUILDS
from tests.doubles.phone.box import PhoneBox
from tests.doubles.phone.init import AF_VSOCK
from tests.doubles.phone.namespaces import BoxUnavailable
from tests.doubles.phone.recording import Machine
from tests.doubles.phone_box import BATTERY, Adb, adb, links, own_ns, phone, recording, runner
from tests.support.waiting import wait_until
from tests.telemetry.replay import DATA

__all__ = ["adb", "phone", "recording", "runner"]

pytestmark = [pytest.mark.root, pytest.mark.doubles]


def test_it_starts_and_ends_at_once_and_leaves_nothing(recording: Path, tmp_path: Path, adb: Adb) -> None:
    began = time.monotonic()
    with PhoneBox(recording, tmp_path / "phone", index=40) as phone:
        assert time.monotonic() - began < 10
        assert phone.address == "10.213.40.2:5555"
        adb.connect(phone)
        sleeping = subprocess.Popen(["adb", "-P", str(adb.port), "-s", phone.address, "shell", "sleep 60"])
        wait_until(lambda: any("sleep" in process.argv for process in phone.processes()))
        pids = [phone.pid_of_adbd, *(process.pid for process in phone.processes())]
        assert "meltbox40" in links()
    sleeping.wait(5)
    assert "meltbox40" not in links()
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_nothing_is_left_of_a_killed_test(recording: Path, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from tests.doubles.phone.box import PhoneBox\n"
        "phone = PhoneBox(Path(sys.argv[1]), Path(sys.argv[2]), index=41).__enter__()\n"
        "phone.freeze(); print(phone.pid_of_adbd, flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", program, str(recording), str(tmp_path / "phone")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=KEPT_BUILDS.parent) as test:
        assert test.stdout
        adbd = int(test.stdout.readline())
        test.kill()
    wait_until(lambda: not Path(f"/proc/{adbd}").exists())
    with PhoneBox(recording, tmp_path / "again", index=41) as phone:
        assert phone.pid_of_adbd != adbd


def test_the_client_gets_exit_code_and_both_streams(phone: PhoneBox, adb: Adb) -> None:
    assert {"shell_v2", "stat_v2", "ls_v2", "sendrecv_v2"} <= set(adb("-s", phone.address, "features").stdout.split())
    done = adb.shell(phone, "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_a_file_comes_through_unharmed_both_ways(phone: PhoneBox, adb: Adb, tmp_path: Path) -> None:
    sent, got = tmp_path / "sent", tmp_path / "got"
    sent.write_bytes(os.urandom(3_000_001))
    digest = hashlib.sha256(sent.read_bytes()).hexdigest()
    assert adb("-s", phone.address, "push", str(sent), "/data/local/tmp/file").returncode == 0
    assert adb.shell(phone, "sha256sum /data/local/tmp/file").stdout.split()[0] == digest
    assert phone.sha256("/data/local/tmp/file") == digest
    assert (phone.disk / "file").stat().st_uid == 2000
    assert adb("-s", phone.address, "pull", "/data/local/tmp/file", str(got)).returncode == 0
    assert got.read_bytes() == sent.read_bytes()


def test_the_shell_is_a_phones_not_the_hosts(phone: PhoneBox, adb: Adb) -> None:
    told = adb.shell(phone, "id -u; getprop ro.product.model; uname -m; echo $PATH; cat /proc/meminfo; pwd; hostname")
    uid, model, machine, path, total, *_, folder, host = told.stdout.splitlines()
    assert (uid, model, machine, folder, host) == ("2000", "Tiny One", os.uname().machine, "/", "localhost")
    assert "/system/bin" in path
    assert "/usr" not in path
    assert total == "MemTotal: 7634564 kB"
    assert adb.shell(phone, "which python3 git adb su perl bash").stdout == ""
    assert adb.shell(phone, "getprop").stdout.splitlines()[-1] == "[ro.product.model]: [Tiny One]"


def test_what_was_denied_is_denied(phone: PhoneBox, adb: Adb) -> None:
    for path in ("/proc/stat", f"{BATTERY}/charge_full"):
        assert "Permission denied" in adb.shell(phone, f"cat {path}").stderr
    assert "Permission denied" in adb.shell(phone, f"echo 1 >{BATTERY}/current_now").stderr
    assert "Permission denied" in adb.shell(phone, "ls /data").stderr
    assert adb.shell(phone, "cat /proc/loadavg").returncode == 0
    phone.deny_file("/proc/loadavg")
    assert "Permission denied" in adb.shell(phone, "cat /proc/loadavg").stderr


def test_nothing_executes_on_the_sdcard(phone: PhoneBox, adb: Adb) -> None:
    for folder, verdict in {"/data/local/tmp": 0, "/sdcard": 126}.items():
        assert adb.shell(phone, f"cp /system/bin/sh {folder}/x && chmod 755 {folder}/x").returncode == 0
        assert adb.shell(phone, f"{folder}/x -c true").returncode == verdict


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_runner_for_its_processor_runs(machine: Machine, recording: Path, tmp_path: Path, adb: Adb) -> None:
    if machine == "x86_64" != os.uname().machine:
        pytest.skip("the host has another processor")
    program = runner(f"linux-{machine}-musl")
    with PhoneBox(recording, tmp_path / "phone", machine=machine) as phone:
        adb.connect(phone)
        adb("-s", phone.address, "push", str(program), "/data/local/tmp/runner")
        before_ns = own_ns(phone)
        told = adb.shell(phone, "chmod 755 /data/local/tmp/runner; /data/local/tmp/runner info")
        info = json.loads(told.stdout)
        assert info["machine"] == adb.shell(phone, "uname -m").stdout.strip() == machine
        assert before_ns < info["clock"]["t_ns"] < own_ns(phone)
        features = adb.shell(phone, "cat /proc/cpuinfo; uname -r").stdout
        assert ("asimd" in features) == (machine == "aarch64") == ("android14-tiny" in features)


def test_services_answer_as_recorded_or_as_set(phone: PhoneBox, adb: Adb) -> None:
    assert adb.shell(phone, "dumpsys gpu --gpumem").stdout.startswith("Memory snapshot")
    assert "lowmemorykiller" in adb.shell(phone, "logcat -d -b events -v epoch").stdout
    assert adb.shell(phone, "dumpsys nosuch").stderr == "Can't find service: nosuch\n"
    missing = adb.shell(phone, "cmd nosuch")
    assert (missing.returncode, missing.stderr) == (20, "cmd: Can't find service: nosuch\n")
    phone.set_command("dumpsys gpu --gpumem", "", "Failure\n", exit_code=1)
    assert adb.shell(phone, "dumpsys gpu --gpumem").stderr == "Failure\n"
    adb.shell(phone, "am kill-all; settings put system 'a key' 'two words'")
    assert phone.commands()[-2:] == [("am", "kill-all"), ("settings", "put", "system", "a key", "two words")]


def test_settings_and_properties_are_kept_as_a_phone_keeps_them(phone: PhoneBox, adb: Adb) -> None:
    said = adb.shell(phone, "settings get global x; settings put global x 5; settings get global x").stdout
    assert said.split() == ["null", "5"]
    assert adb.shell(phone, "svc power stayon true; settings get global stay_on_while_plugged_in").stdout == "15\n"
    adb.shell(phone, "setprop debug.melt 1; setprop persist.melt 1; dumpsys battery unplug")
    assert adb.shell(phone, "setprop ro.product.model x").returncode == 1
    assert "(UPDATES STOPPED" in adb.shell(phone, "dumpsys battery").stdout
    adb.shell(phone, "dumpsys battery reset; settings delete global x")
    phone.reboot(0)
    adb.connect(phone)
    said = adb.shell(phone, "getprop debug.melt; getprop persist.melt; settings get global x; dumpsys battery").stdout
    assert said.split()[:2] == ["1", "null"]
    assert "(UPDATES STOPPED" not in said


def test_the_battery_tells_what_the_work_took(phone: PhoneBox, adb: Adb) -> None:
    def read(name: str) -> int:
        return int((phone.root / BATTERY[1:] / name).read_text())

    idle_ua = read("current_now")
    words = ["adb", "-P", str(adb.port), "-s", phone.address, "shell", "timeout 1.5 sh -c 'while :; do :; done'"]
    counter, t0_ns = read("charge_counter"), own_ns(phone)
    seen_j, before_ns, busiest = 0.0, t0_ns, 0.0
    with subprocess.Popen(words, env=adb.environment) as work:
        while work.poll() is None:
            watts = -read("current_now") * read("voltage_now") * 1e-12
            time.sleep(0.005)
            now_ns = own_ns(phone)
            seen_j += watts * (now_ns - before_ns) * 1e-9
            before_ns, busiest = now_ns, max(busiest, phone.load())
    true_j = phone.true_energy_j(t0_ns, before_ns)
    assert 0.2 < busiest < 1.5
    assert true_j > 1.1 * -idle_ua * 4 * 1e-6 * (before_ns - t0_ns) * 1e-9
    assert seen_j == pytest.approx(true_j, rel=0.05)
    assert (counter - read("charge_counter")) * 1e-6 * 3600 * 3.97 == pytest.approx(true_j, rel=0.05)
    said = adb.shell(phone, "dumpsys battery; dumpsys thermalservice; cat /sys/class/thermal/thermal_zone0/temp").stdout
    told = re.search(r"Charge counter: (\d+)", said)
    assert told is not None
    assert 0 <= int(told[1]) - read("charge_counter") < 50  # it goes on meanwhile
    assert 41_100 < int(said.split()[-1]) < 60_000
    assert said.count("mValue=41.0,") == 1  # only the cached one


def test_a_charger_hides_the_load_unless_the_phone_leaves_it_alone(phone: PhoneBox, adb: Adb) -> None:
    def current() -> int:
        return int(adb.shell(phone, f"cat {BATTERY}/current_now").stdout)

    phone.plug_in(5)
    wait_until(lambda: current() > 0)
    assert "status: 2" in adb.shell(phone, "dumpsys battery").stdout
    adb.shell(phone, "setprop power.battery_input.suspended true")
    wait_until(lambda: current() < 0)


def test_the_current_shows_as_the_maker_shows_it(tmp_path: Path, adb: Adb) -> None:
    with PhoneBox("oneplus", tmp_path / "oneplus", variant="unplugged") as phone:
        adb.connect(phone)
        assert 50 < int(adb.shell(phone, "cmd battery get -f current_now").stdout) < 5000
        assert "Battery current : -" not in adb.shell(phone, "dumpsys battery").stdout
    with PhoneBox("galaxy-s23", tmp_path / "galaxy") as phone:
        adb.connect(phone)
        assert "current now: -" in adb.shell(phone, "dumpsys battery").stdout


def test_a_file_that_a_test_sets_stays(phone: PhoneBox, adb: Adb) -> None:
    with (phone.root / BATTERY[1:] / "current_now").open() as held:
        phone.set_file(f"{BATTERY}/current_now", "-77\n")
        time.sleep(0.05)
        assert held.read() == "-77\n"
    assert adb.shell(phone, f"cat {BATTERY}/current_now").stdout == "-77\n"
    phone.set_file("/proc/loadavg", "9 9 9\n")
    assert adb.shell(phone, "cat /proc/loadavg").stdout == "9 9 9\n"


def test_perfetto_gives_the_trace_when_it_ends(phone: PhoneBox, adb: Adb) -> None:
    record = "echo 'duration_ms: {ms}' | perfetto --txt -c - -o /data/misc/perfetto-traces/{name}"
    assert "ermission denied" in adb.shell(phone, record.format(ms=10, name="none")).stderr
    phone.set_perfetto_trace(b"rails")
    assert adb.shell(phone, record.format(ms=300, name="a")).returncode == 0
    begun = adb.shell(phone, record.format(ms=60_000, name="b") + " --background-wait")
    assert adb.shell(phone, f"kill {begun.stdout.strip()}").returncode == 0
    trace = phone.root / "data/misc/perfetto-traces"
    wait_until(lambda: (trace / "b").exists() and (trace / "b").read_bytes() == b"rails")
    assert (trace / "a").read_bytes() == b"rails"


def test_two_phones_at_once(phone: PhoneBox, recording: Path, tmp_path: Path, adb: Adb) -> None:
    with PhoneBox(recording, tmp_path / "other") as other:
        adb.connect(other)
        adb.shell(other, "setprop debug.melt other; echo 1 >/data/local/tmp/other")
        assert adb.shell(phone, "getprop debug.melt; ls /data/local/tmp").stdout.split() == []
        other.kill_adbd()
        assert adb.shell(phone, "echo there").stdout == "there\n"
    assert adb.shell(phone, "echo there").stdout == "there\n"
    with pytest.raises(BoxUnavailable, match="another"):
        PhoneBox(recording, tmp_path / "third", index=int(phone.address.split(".")[2])).__enter__()


def test_adbd_listens_in_the_box_and_nowhere_else(phone: PhoneBox) -> None:
    adbd = Path(f"/proc/{phone.pid_of_adbd}")
    assert "\nSeccomp:\t2\n" in (adbd / "status").read_text()
    for kind in ("net", "mnt", "pid", "ipc", "uts", "time"):
        assert (adbd / "ns" / kind).readlink() != Path("/proc/self/ns", kind).readlink()
    # Every socket that it has is known to its own network namespace, where vsock does not show.
    known = " ".join((adbd / "net" / table).read_text() for table in ("tcp", "tcp6", "udp", "udp6", "unix")).split()
    opened = [str(file.readlink()) for file in (adbd / "fd").iterdir()]
    sockets = [name[len("socket:[") : -1] for name in opened if name.startswith("socket:")]
    assert len(sockets) >= 3
    assert set(sockets) <= set(known)


def test_vsock_is_refused_to_what_runs_in_the_box() -> None:
    program = (
        "import socket; from tests.doubles.phone.init import refuse_vsock; refuse_vsock(); socket.socket()\n"
        f"try: socket.socket({AF_VSOCK})\nexcept OSError as e: print(e.errno)"
    )
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=KEPT_BUILDS.parent)
    assert done.stdout == "97\n"


@pytest.mark.parametrize("device", sorted(folder.parent.name for folder in DATA.glob("android/*/tree.json")))
def test_every_recorded_phone_comes_up(device: str, tmp_path: Path, adb: Adb) -> None:
    with PhoneBox(device, tmp_path / "phone", machine="aarch64", traits={"charger_w": 0.0}) as phone:
        adb.connect(phone)
        assert adb.shell(phone, "getprop ro.product.cpu.abi").stdout == "arm64-v8a\n"
        battery = adb.shell(phone, "dumpsys battery").stdout
        assert "status: 3" in battery
        assert "powered: true" not in battery
        for path in phone.recording.denied:
            assert "denied" in adb.shell(phone, f"cat {path}").stderr
