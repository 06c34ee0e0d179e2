"""The devices that faults are done to, one a driver, and each by its other ways too: see ``tests/drivers/faults.py``.

A new driver's device is a class here and a row of ``DEVICES``; every test of faults then holds for it.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from tests.doubles.iphone.phone import IPhone
from tests.doubles.phone.box import PhoneBox
from tests.doubles.sshd import Sshd
from tests.drivers.conftest import Connector, board_profile, phone_profile
from tests.drivers.faults import Device
from tests.drivers.iphone import image_at_hand, iphone_profile
from tests.support.processes import Process, running

_REMOTE = {"melt.drivers.remote.process._KILL_S": 3.0}


class FaultyPhone:
    """A phone in a box, by either way to it."""

    what, sends_samples, is_silent_when_cut = "phone", False, True
    patience: Mapping[str, float] = {**_REMOTE, "melt.drivers.adb.remote.SIGN_OF_LIFE_S": 3.0}

    def __init__(self, phone: PhoneBox, folder: Path, connector: Connector) -> None:
        self._phone = phone
        self.profile = phone_profile(folder, phone, connector)
        self.cut, self.mend = phone.cut, phone.mend
        self.end_service, self.start_service = phone.kill_adbd, phone.start_adbd
        self.switch_off, self.switch_on = phone.switch_off, phone.switch_on
        self.freeze, self.thaw = phone.freeze, phone.thaw
        self.free_disk = phone.free_disk

    def at_work(self) -> bool:
        return bool(self._phone.processes())

    def kill_programs(self) -> None:
        for process in self._phone.processes():
            _kill(process.pid)

    def fill_disk(self) -> None:
        self._phone.fill_disk(leave_bytes=2**20)


class FaultyBoard:
    """A host behind a real OpenSSH server. Its disk can be filled by root only."""

    what, sends_samples, is_silent_when_cut = "board", False, False
    patience: Mapping[str, float] = {
        **_REMOTE,
        "melt.drivers.ssh.remote.SIGN_OF_LIFE_S": 3.0,
        "melt.drivers.ssh.connect.CONNECT_S": 5.0,
    }

    def __init__(self, board: Sshd, folder: Path) -> None:
        self._work = board.folder / "work"
        self.profile = board_profile(folder, board)
        self.cut = board.cut  # connections break; new ones are taken
        self.end_service, self.start_service, self.switch_on = board.stop, board.start, board.start
        self.freeze, self.thaw = board.freeze, board.thaw
        self._board = board

    def mend(self) -> None: ...

    def _programs(self) -> list[Process]:
        return running(lambda p: p.program is not None and p.program.is_relative_to(self._work))

    def at_work(self) -> bool:
        return bool(self._programs())

    def kill_programs(self) -> None:
        for process in self._programs():
            _kill(process.pid)

    def switch_off(self) -> None:
        self.kill_programs()
        self._board.stop()

    def fill_disk(self) -> None:
        self._work.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "melt-test", str(self._work)], check=True)

    def free_disk(self) -> None:
        subprocess.run(["umount", str(self._work)], check=True)


class FaultyIPhone:
    """A simulated iPhone. A restart takes the developer disk image, which melt has at hand."""

    what, sends_samples, is_silent_when_cut = "iPhone", True, False
    patience: Mapping[str, float] = {
        f"melt.drivers.ios.pymd3.{module}._CALL_S": 5.0 for module in ("container", "instruments", "phone")
    }

    def __init__(self, phone: IPhone, folder: Path) -> None:
        image_at_hand(phone, folder)
        self._phone = phone
        self.profile = iphone_profile(folder, phone)
        self.cut, self.mend = phone.pull_cable, phone.plug_in
        self.switch_off, self.switch_on = phone.switch_off, phone.plug_in
        self.freeze, self.thaw = phone.frozen.set, phone.frozen.clear

    def at_work(self) -> bool:
        return any(app.alive for app in self._phone.apps.running.values())

    def kill_programs(self) -> None:
        for app in self._phone.apps.running.values():
            if app.alive:
                app.kill(signal.SIGKILL)

    def end_service(self) -> None:
        """As Debian's usbmuxd does when its last device goes."""
        self._phone.pull_cable()
        self._phone.usbmuxd.close()

    def start_service(self) -> None:
        self._phone.usbmuxd.start_again()
        self._phone.plug_in()

    def fill_disk(self) -> None:
        self._phone.disk.free_bytes = 2**18

    def free_disk(self) -> None:
        self._phone.disk.free_bytes = 2**30


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


Maker = Callable[[pytest.FixtureRequest, Path], Device]  # the folder is for its profile


def _phone(request: pytest.FixtureRequest, folder: Path) -> Device:
    request.getfixturevalue("kept_builds")
    return FaultyPhone(request.getfixturevalue("phone"), folder, "direct")


def _phone_by_server(request: pytest.FixtureRequest, folder: Path) -> Device:
    request.getfixturevalue("kept_builds")
    request.getfixturevalue("adb_server")
    return FaultyPhone(request.getfixturevalue("phone"), folder, "server")


def _board(request: pytest.FixtureRequest, folder: Path) -> Device:
    request.getfixturevalue("kept_builds")
    return FaultyBoard(request.getfixturevalue("board"), folder)


DEVICES: dict[str, Maker] = {
    "phone": _phone,
    "phone-by-server": _phone_by_server,
    "board": _board,
    "iphone": lambda request, folder: FaultyIPhone(request.getfixturevalue("iphone"), folder),
    "iphone-17": lambda request, folder: FaultyIPhone(request.getfixturevalue("iphone_17"), folder),
}
