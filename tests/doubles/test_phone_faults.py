"""The phone in a box where something is wrong with it: as a real phone fails, for Google's own client."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.doubles.phone.box import PhoneBox
from tests.doubles.phone.namespaces import BoxUnavailable
from tests.doubles.phone_box import Adb, adb, phone, recording
from tests.support.waiting import wait_until

__all__ = ["adb", "phone", "recording"]

pytestmark = [pytest.mark.root, pytest.mark.doubles]


def test_a_lost_link_and_a_hang_keep_the_client_waiting(phone: PhoneBox, adb: Adb) -> None:
    for stop, go_on in ((phone.cut, phone.mend), (phone.freeze, phone.thaw)):
        stop()
        with pytest.raises(subprocess.TimeoutExpired):
            adb.shell(phone, "echo there", timeout_s=0.5)
        go_on()
        assert adb.shell(phone, "echo there").stdout == "there\n"


def test_wifi_that_is_taken_back_at_once_keeps_the_link(phone: PhoneBox, adb: Adb) -> None:
    kept = "cmd connectivity airplane-mode enable; svc wifi enable; sleep 0.7; cmd connectivity airplane-mode"
    assert adb.shell(phone, kept).stdout == "enabled\n"
    with pytest.raises(subprocess.TimeoutExpired):
        adb.shell(phone, "svc wifi disable; sleep 2.5; echo there", timeout_s=4)


def test_adbd_dies_and_comes_back(phone: PhoneBox, adb: Adb) -> None:
    adb.shell(phone, "sleep 60 </dev/null >/dev/null 2>&1 &")
    old = phone.pid_of_adbd
    phone.kill_adbd()
    wait_until(lambda: "offline" in adb("devices").stdout)
    with pytest.raises(ConnectionRefusedError), socket.create_connection((phone.address.split(":")[0], 5555), 1):
        pass
    assert [process.argv for process in phone.processes()] == [("sleep", "60")]
    phone.start_adbd()
    adb("-s", phone.address, "wait-for-device")
    assert adb.shell(phone, "echo there").stdout == "there\n"
    assert phone.pid_of_adbd != old


@pytest.mark.parametrize("asked_by", ["the test", "the phone"])
def test_a_reboot_ends_everything_but_the_storage(phone: PhoneBox, adb: Adb, asked_by: str) -> None:
    adb.shell(phone, "echo kept >/data/local/tmp/file; sleep 60 </dev/null >/dev/null 2>&1 &")
    before = adb.shell(phone, "cat /proc/sys/kernel/random/boot_id /proc/uptime").stdout.split()
    old = phone.pid_of_adbd
    if asked_by == "the test":
        phone.reboot(0.1)
    else:
        assert adb.shell(phone, "reboot; echo still").stdout == ""
    wait_until(lambda: adb.shell(phone, "echo there").stdout == "there\n" and phone.pid_of_adbd != old)
    after = adb.shell(phone, "cat /proc/sys/kernel/random/boot_id /proc/uptime /data/local/tmp/file").stdout.split()
    assert before[0] != after[0]
    assert float(before[1]) > 1000 > float(after[1])
    assert after[-1] == "kept"
    assert phone.processes() == []


def test_a_full_disk_refuses_a_push(recording: Path, tmp_path: Path, adb: Adb) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(3_000_000))
    with PhoneBox(recording, tmp_path / "phone", disk_bytes=20_000_000) as phone:
        adb.connect(phone)
        phone.fill_disk(leave_bytes=1_000_000)
        assert "No space left" in adb("-s", phone.address, "push", str(big), "/data/local/tmp/big").stdout
        phone.free_disk()
        assert adb("-s", phone.address, "push", str(big), "/data/local/tmp/big").returncode == 0


def test_a_shell_hangs_up_even_under_nohup(recording: Path, tmp_path: Path, adb: Adb) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with PhoneBox(recording, tmp_path / "phone") as phone:
            adb.connect(phone)
            ignored = adb.shell(phone, "grep SigIgn /proc/self/status").stdout.split()[1]
            assert not int(ignored, 16) & 1 << (signal.SIGHUP - 1)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_without_root_it_says_so(recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BoxUnavailable, match="root"):
        PhoneBox(recording, tmp_path / "phone").__enter__()
