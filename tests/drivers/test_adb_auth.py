"""The keys that let a host in: real RSA at a gate in front of the real daemon. Google's adb is held to it too."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from melt.drivers.adb.direct import open_tcp
from melt.drivers.adb.keys import signers
from melt.drivers.adb.phones import open_phone
from melt.drivers.adb.remote import AdbRemote
from melt.drivers.remote.process import run_command
from melt.errors import DeviceError
from melt.spec.profile import DeviceProfile
from tests.doubles.adb_auth import Gate, android_key, guarded
from tests.doubles.phone.box import PhoneBox

pytestmark = pytest.mark.root


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "android-home"
    monkeypatch.setenv("ANDROID_USER_HOME", str(folder))
    monkeypatch.delenv("ANDROID_VENDOR_KEYS", raising=False)
    return folder


@pytest.fixture
def gate(phone: PhoneBox) -> Iterator[Gate]:
    host, port = phone.address.split(":")
    with guarded((host, int(port)), Gate()) as opened:
        yield opened


def public_key(home: Path) -> bytes:
    return (home / "adbkey.pub").read_bytes()


def test_a_key_is_made_once_and_nobody_else_may_read_it(home: Path) -> None:
    signers()
    first = (home / "adbkey").read_bytes()
    assert (home / "adbkey").stat().st_mode & 0o777 == 0o600
    signers()
    assert (home / "adbkey").read_bytes() == first
    assert sorted(p.name for p in home.iterdir()) == ["adbkey", "adbkey.pub"]


def test_a_known_key_opens_the_phone(gate: Gate, home: Path) -> None:
    keys = signers()
    gate.known.append(android_key(public_key(home)))
    connection = open_tcp("127.0.0.1", gate.port, keys)
    assert run_command(AdbRemote(connection), "echo in").text == "in\n"
    assert not gate.offered
    connection.close()


def test_a_key_of_the_lab_opens_it_too(gate: Gate, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = tmp_path / "lab"
    monkeypatch.setenv("ANDROID_USER_HOME", str(lab))
    signers()
    gate.known.append(android_key(public_key(lab)))
    monkeypatch.setenv("ANDROID_USER_HOME", str(home))
    monkeypatch.setenv("ANDROID_VENDOR_KEYS", str(lab / "adbkey"))
    connection = open_tcp("127.0.0.1", gate.port, signers())
    assert run_command(AdbRemote(connection), "echo in").text == "in\n"
    connection.close()


def test_a_stranger_is_let_in_when_somebody_taps_allow(gate: Gate, home: Path) -> None:
    gate.taps_allow = True
    connection = open_tcp("127.0.0.1", gate.port, signers())
    assert run_command(AdbRemote(connection), "echo in").text == "in\n"
    assert [o.rstrip(b"\0") for o in gate.offered] == [public_key(home)]
    connection.close()


def test_a_stranger_is_told_what_to_tap(gate: Gate, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("melt.drivers.adb.direct._TAP_S", 1.0)
    with pytest.raises(DeviceError, match="has not allowed USB debugging from this computer") as e:
        open_tcp("127.0.0.1", gate.port, signers())
    assert "tap Allow" in e.value.hint
    with pytest.raises(DeviceError, match="has not allowed"):
        open_tcp("127.0.0.1", gate.port, [])


def test_a_phone_that_wants_to_be_paired_is_left_to_adb(gate: Gate, home: Path) -> None:
    gate.wants_tls = True
    with pytest.raises(DeviceError, match="paired over TLS") as e:
        open_tcp("127.0.0.1", gate.port, signers())
    assert "adb pair" in e.value.hint


@pytest.mark.parametrize(
    "content", ["nonsense", "-----BEGIN PRIVATE KEY-----\nbm9uc2Vuc2U=\n-----END PRIVATE KEY-----\n"]
)
def test_a_key_that_is_none_is_named(home: Path, content: str) -> None:
    home.mkdir()
    (home / "adbkey").write_text(content)
    (home / "adbkey.pub").write_text("nonsense")
    with pytest.raises(DeviceError, match="adbkey: cannot be used as an adb key"):
        signers()


def test_googles_adb_passes_the_same_gate_and_melt_through_it(gate: Gate, home: Path, adb_server: int) -> None:
    gate.taps_allow = True
    env = {**os.environ, "ADB_SERVER_SOCKET": f"tcp:127.0.0.1:{adb_server}"}
    subprocess.run(["adb", "connect", f"127.0.0.1:{gate.port}"], env=env, check=True, capture_output=True)
    subprocess.run(["adb", "wait-for-device"], env=env, check=True, timeout=20)  # it says so before somebody taps
    assert len(gate.offered) == 1
    profile = DeviceProfile(name="phone", driver="adb", address={"host": "127.0.0.1", "port": gate.port})
    assert run_command(AdbRemote(open_phone(profile)), "echo in").text == "in\n"


def test_an_unauthorised_phone_of_the_server_is_explained(gate: Gate, adb_server: int) -> None:
    profile = DeviceProfile(name="phone", driver="adb", address={"host": "127.0.0.1", "port": gate.port})
    with pytest.raises(DeviceError) as e:
        open_phone(profile)
    assert "tap Allow" in e.value.hint
