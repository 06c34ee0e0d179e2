"""The simulated iPhone, held to independent clients: libimobiledevice's programs, ideviceinstaller and go-ios."""

import json
import os
import plistlib
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.iphone.app import App
from tests.doubles.iphone.clients import HAS_FUSE, Clients
from tests.doubles.iphone.phone import IPhone
from tests.support.waiting import wait_until

pytestmark = pytest.mark.doubles

APP = "org.example.sleeper"


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[IPhone]:
    with IPhone(tmp_path / "iphone") as simulated:
        yield simulated


@pytest.fixture
def clients(phone: IPhone, tmp_path: Path) -> Clients:
    return Clients(phone.address, tmp_path / "home")


@pytest.fixture
def paired(phone: IPhone, clients: Clients) -> Clients:
    assert clients.run("idevicepair", "pair").returncode == 0
    return clients


@pytest.fixture
def sleeper(phone: IPhone, tmp_path: Path) -> App:
    """An app whose program says a line and sleeps."""
    program = tmp_path / "sleeper"
    program.write_text('#!/bin/sh\necho "woke with $*"\nexec sleep 60\n')
    program.chmod(0o755)
    return phone.install(App(APP, "1.2", program))


def test_it_is_listed_while_its_cable_is_in(phone: IPhone, clients: Clients) -> None:
    assert clients.run("idevice_id", "-l").stdout.strip() == phone.udid
    assert phone.udid in clients.go_ios("list").stdout
    phone.pull_cable()
    assert phone.udid not in clients.run("idevice_id", "-l").stdout
    phone.plug_in()
    assert clients.run("idevice_id", "-l").stdout.strip() == phone.udid


def test_somebody_has_to_agree_to_pairing(phone: IPhone, clients: Clients) -> None:
    phone.dialog = "pending"
    assert "Please accept the trust dialog" in clients.run("idevicepair", "pair").stdout
    phone.dialog = "refused"
    assert "denied the trust dialog" in clients.run("idevicepair", "pair").stdout
    assert clients.run("ideviceinfo").returncode != 0
    phone.dialog, phone.locked = "agreed", True
    assert "passcode" in clients.run("idevicepair", "pair").stdout
    phone.locked = False
    assert clients.run("idevicepair", "pair").returncode == 0
    assert clients.run("idevicepair", "validate").returncode == 0
    assert "ProductVersion: 16.7.10" in clients.run("ideviceinfo").stdout
    phone.trust.forget_all()
    assert clients.run("idevicepair", "validate").returncode != 0


def test_a_host_without_its_key_gets_no_session(phone: IPhone, paired: Clients) -> None:
    """Whoever only knows a paired host's name cannot speak for it."""
    record = phone.folder / "pair-records" / f"{phone.udid}.plist"
    stolen = plistlib.loads(record.read_bytes())
    other = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/", "-keyout", "-", "-out", "-"],
        capture_output=True,
        check=True,
    ).stdout
    key, _, certificate = other.partition(b"-----BEGIN CERTIFICATE-----")
    for name in ("Host", "Root"):  # libimobiledevice speaks as the root, others as the host
        stolen[f"{name}PrivateKey"] = key
        stolen[f"{name}Certificate"] = b"-----BEGIN CERTIFICATE-----" + certificate
    record.write_bytes(plistlib.dumps(stolen))
    assert serial_number(paired) == ""
    assert paired.go_ios("info").returncode != 0


def serial_number(clients: Clients) -> str:
    return clients.run("ideviceinfo", "-k", "SerialNumber").stdout.strip()


def test_values_and_the_battery(phone: IPhone, paired: Clients) -> None:
    assert serial_number(paired) == "MELTSIMULATED"
    assert "BatteryIsCharging: true" in paired.run("ideviceinfo", "-q", "com.apple.mobile.battery").stdout
    assert json.loads(paired.go_ios("batteryregistry").stdout)["InstantAmperage"] == 950
    phone.battery.plugged_in = False
    assert json.loads(paired.go_ios("batteryregistry").stdout)["InstantAmperage"] < -700
    told = plistlib.loads(paired.run("idevicediagnostics", "ioregentry", "IOPMPowerSource").stdout.encode())
    assert told["IORegistry"]["ExternalConnected"] is False
    assert "Simulated iPhone" in paired.run("idevicename").stdout
    assert "enabled: true" in paired.go_ios("devmode", "get", "--nojson").stdout


def test_an_app_is_installed_and_removed(paired: Clients, tmp_path: Path) -> None:
    package = tmp_path / "hello.ipa"
    info = {"CFBundleIdentifier": "org.example.hello", "CFBundleExecutable": "hello", "CFBundleName": "hello"}
    with zipfile.ZipFile(package, "w") as content:
        plist = plistlib.dumps({**info, "CFBundleShortVersionString": "3.1", "CFBundleVersion": "7"})
        content.writestr("Payload/hello.app/Info.plist", plist)
        content.writestr("Payload/hello.app/hello", b"program")
    done = paired.run("ideviceinstaller", "-i", package)
    assert "Complete" in done.stdout, done.stdout + done.stderr
    assert "org.example.hello" in paired.run("ideviceinstaller", "-l").stdout
    assert "org.example.hello" in paired.go_ios("apps", "--list", "--nojson").stdout
    assert "Complete" in paired.run("ideviceinstaller", "-U", "org.example.hello").stdout
    assert "org.example.hello" not in paired.run("ideviceinstaller", "-l").stdout


def test_files_of_a_container_come_and_go_whole(phone: IPhone, paired: Clients, sleeper: App, tmp_path: Path) -> None:
    content = os.urandom(3 * 2**20 + 17)
    (tmp_path / "weights").write_bytes(content)
    done = paired.go_ios(
        "fsync", f"--app={APP}", "push", f"--srcPath={tmp_path / 'weights'}", "--dstPath=Documents/weights"
    )
    assert done.returncode == 0, done.stderr
    assert (phone.apps.container(sleeper) / "Documents/weights").read_bytes() == content
    back = tmp_path / "back"
    back.mkdir()
    paired.go_ios("fsync", f"--app={APP}", "pull", "--srcPath=Documents/weights", f"--dstPath={back}")
    assert next(p for p in back.rglob("*") if p.is_file()).read_bytes() == content


@pytest.mark.skipif(not HAS_FUSE, reason="ifuse mounts by /dev/fuse, which is not to be had here")
@pytest.mark.parametrize("shown", ["--container", "--documents"])
def test_ifuse_mounts_a_container(shown: str, phone: IPhone, paired: Clients, sleeper: App, tmp_path: Path) -> None:
    content = os.urandom(3 * 2**20 + 17)
    (tmp_path / "weights").write_bytes(content)
    there = phone.apps.container(sleeper) / "Documents"
    (tmp_path / "mount").mkdir()
    with paired.mounted(tmp_path / "mount", shown, APP) as root:
        documents = root / "Documents" if shown == "--container" else root
        shutil.copyfile(tmp_path / "weights", documents / "weights")
        assert (there / "weights").read_bytes() == content
        assert (documents / "weights").stat().st_size == len(content)
        (documents / "below").mkdir()
        (documents / "weights").rename(documents / "below/model")
        shutil.copyfile(documents / "below/model", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == content
        with (documents / "below/model").open("r+b") as model:
            model.truncate(100)
        assert [p.name for p in documents.iterdir()] == ["below"]
        assert (there / "below/model").read_bytes() == content[:100]
        (documents / "below/model").unlink()
        (documents / "below").rmdir()
        assert {p.name for p in root.iterdir()} == ({"Documents", "Library", "tmp"} if root != documents else set())
    assert list(there.iterdir()) == []


def test_a_full_disk_and_another_app_are_refused(phone: IPhone, paired: Clients, sleeper: App, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(bytes(2**20))
    phone.disk.free_bytes = 2**19
    words = ("push", f"--srcPath={tmp_path / 'weights'}", "--dstPath=Documents/weights")
    assert paired.go_ios("fsync", f"--app={APP}", *words).returncode != 0
    assert phone.disk.free_bytes == 0
    paired.go_ios("fsync", f"--app={APP}", "rm", "--path=Documents/weights")
    assert phone.disk.free_bytes == 2**19
    assert paired.go_ios("fsync", "--app=org.example.nobody", *words).returncode != 0


def test_no_path_leads_out_of_a_container(phone: IPhone, paired: Clients, sleeper: App, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    documents = phone.apps.container(sleeper) / "Documents"
    (documents / "link").symlink_to(secret)
    (documents / "up").symlink_to(tmp_path)
    for name in (f"../../../../{secret}", str(secret), "Documents/link", "Documents/up/secret"):
        back = tmp_path / "back"
        back.mkdir(exist_ok=True)
        paired.go_ios("fsync", f"--app={APP}", "pull", f"--srcPath={name}", f"--dstPath={back}")
        assert not any("of the host" in p.read_text() for p in back.rglob("*") if p.is_file())
    paired.go_ios(
        "fsync", f"--app={APP}", "push", f"--srcPath={secret}", "--dstPath=Documents/up/planted", timeout_s=20
    )
    assert not (tmp_path / "planted").exists()


def test_the_developer_image_brings_its_services(phone: IPhone, paired: Clients, tmp_path: Path) -> None:
    phone.images.mounted.clear()
    assert paired.go_ios("ps").returncode != 0
    image, signature = tmp_path / "image.dmg", tmp_path / "image.dmg.signature"
    image.write_bytes(os.urandom(200_000))
    signature.write_bytes(b"signed")
    phone.developer_mode = False
    refused = paired.run("ideviceimagemounter", image, signature)
    assert "Complete" not in refused.stdout, refused.stdout
    phone.developer_mode = True
    mounted = paired.run("ideviceimagemounter", image, signature)
    assert "Complete" in mounted.stdout, mounted.stdout + mounted.stderr
    assert phone.images.mounted == {"Developer": b"signed"}
    assert paired.go_ios("ps").returncode == 0


def test_a_program_is_started_watched_and_ended(phone: IPhone, paired: Clients, sleeper: App) -> None:
    started = paired.go_ios("launch", APP, "--arg=one", "--arg=two")
    assert started.returncode == 0, started.stderr
    (app,) = phone.apps.running.values()
    assert app.alive
    listed = json.loads(paired.go_ios("ps").stdout)
    assert [p["Pid"] for p in listed if p["Name"] == "sleeper"] == [app.pid]
    events = phone.apps.container(sleeper) / "Documents/no.events.jsonl"
    wait_until(lambda: events.read_text() == "woke with one two\n")
    assert paired.go_ios_says('"cpu_total_load":', "sysmontap")
    assert paired.go_ios("kill", APP).returncode == 0
    wait_until(lambda: not app.alive)


def test_a_locked_phone_starts_nothing(phone: IPhone, paired: Clients, sleeper: App) -> None:
    phone.locked = True
    assert paired.go_ios("launch", APP).returncode != 0
    assert not phone.apps.running


def test_a_jetsam_report_can_be_copied(phone: IPhone, paired: Clients, sleeper: App, tmp_path: Path) -> None:
    app = phone.apps.launch(APP, [], {}, True)
    phone.apps.run_out_of_memory(app.pid)
    app.join()
    reports = tmp_path / "reports"
    reports.mkdir()
    done = paired.run("idevicecrashreport", "-k", reports)
    assert done.returncode == 0, done.stderr
    (report,) = reports.rglob("JetsamEvent*.ips")
    assert f'"pid": {app.pid}' in report.read_text()


def test_a_cable_pulled_in_mid_push_breaks_it(phone: IPhone, paired: Clients, sleeper: App, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(bytes(32 * 2**20))
    phone.disk.after(8 * 2**20, phone.pull_cable)
    words = ("push", f"--srcPath={tmp_path / 'weights'}", "--dstPath=Documents/weights")
    assert paired.go_ios("fsync", f"--app={APP}", *words).returncode != 0
    there = (phone.apps.container(sleeper) / "Documents/weights").stat().st_size
    assert 8 * 2**20 <= there < 32 * 2**20


def test_programs_outlive_the_cable_and_end_with_the_phone(tmp_path: Path, clients: Clients) -> None:
    program = tmp_path / "sleeper"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    with IPhone(tmp_path / "other") as phone:
        phone.install(App(APP, "1", program))
        app = phone.apps.launch(APP, [], {}, True)
        phone.pull_cable()
        assert app.alive
        app.kill(signal.SIGSTOP)
    assert not app.alive
