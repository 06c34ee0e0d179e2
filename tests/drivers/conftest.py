"""Phones in boxes, and adb servers of the tests' own."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import pytest

from melt.drivers.adb.direct import open_tcp
from melt.drivers.adb.server import AdbServer
from melt.drivers.adb.stream import Connection
from melt.drivers.ssh.connect import enrol, unknown_keys
from melt.spec.profile import DeviceProfile
from tests.doubles.adb_server import own_adb_server
from tests.doubles.phone.box import PhoneBox
from tests.doubles.sshd import Sshd, make_key
from tests.drivers.iphone import iphone, iphone_17, iphone_17_3
from tests.support.profiles import write_profile

__all__ = ["iphone", "iphone_17", "iphone_17_3"]

Connector = Literal["direct", "server"]


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[PhoneBox]:
    """A Pixel 8 whose programs are this machine's."""
    with PhoneBox("pixel-8", tmp_path / "phone") as box:
        yield box


@pytest.fixture
def adb_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Google's adb server, which melt finds; gives the port."""
    with own_adb_server(tmp_path / "adb-home") as port:
        monkeypatch.setenv("ADB_SERVER_SOCKET", f"tcp:127.0.0.1:{port}")
        yield port


@pytest.fixture(params=["direct", "server"])
def connector(request: pytest.FixtureRequest) -> Connector:
    """Each test with it holds for both ways to a phone."""
    if request.param == "server":
        request.getfixturevalue("adb_server")
        return "server"
    return "direct"


@pytest.fixture
def connection(phone: PhoneBox, connector: Connector) -> Iterator[Connection]:
    """A connection to the phone."""
    host, port = phone.address.split(":")
    with ExitStack() as stack:
        if connector == "direct":
            opened: Connection = open_tcp(host, int(port), [])
        else:
            server = AdbServer()
            assert server.connect(host, int(port)).startswith("connected")
            opened = server.open_device(phone.address)
        stack.callback(opened.close)
        yield opened


def address_of(phone: PhoneBox) -> tuple[str, int]:
    """Host and port."""
    host, port = phone.address.split(":")
    return host, int(port)


def phone_profile(folder: Path, phone: PhoneBox, connector: Connector, name: str = "phone", **more: object) -> str:
    """The file of a profile that names the box."""
    host, port = address_of(phone)
    address = {"host": host, "port": port, "connector": connector}
    return write_profile(folder / f"{name}.yaml", "adb", address=address, **more)


def profile_of(phone: PhoneBox, connector: Connector, **more: object) -> DeviceProfile:
    """A profile that names the box."""
    host, port = address_of(phone)
    address = {"host": host, "port": port, "connector": connector}
    return DeviceProfile.model_validate({"name": "phone", "driver": "adb", "address": address, **more})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one key and an SSH configuration."""
    folder = tmp_path / "home"
    ssh = folder / ".ssh"
    ssh.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    make_key(ssh / "id_ed25519")
    (ssh / "config").write_text(f"IdentityFile {ssh}/id_ed25519\nUserKnownHostsFile {ssh}/known_hosts\n")
    return folder


@pytest.fixture
def board(tmp_path: Path, home: Path) -> Iterator[Sshd]:
    """A server that lets that key in."""
    with Sshd(tmp_path / "board") as server:
        server.authorised.write_text((home / ".ssh" / "id_ed25519.pub").read_text())
        yield server


def ssh_profile_of(board: Sshd, **more: object) -> DeviceProfile:
    address = {"host": board.address, "port": board.port}
    work = str(board.folder / "work")
    return DeviceProfile.model_validate(
        {"name": "board", "driver": "ssh", "address": address, "work_folder": work, **more}
    )


def board_profile(folder: Path, board: Sshd) -> str:
    """The file of a profile that names a board whose key is known."""
    enrol_all(ssh_profile_of(board))
    address = {"host": "127.0.0.1", "port": board.port}
    return write_profile(folder / "board.yaml", "ssh", address=address, work_folder=str(board.folder / "work"))


def enrol_all(profile: DeviceProfile) -> list[str]:
    shown = []
    for key in unknown_keys(profile):
        enrol(key)
        shown.append(key.fingerprint)
    return shown
