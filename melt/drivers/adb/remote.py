"""A phone's shell and files over an adb connection. See ``melt.drivers.remote.base.Remote``."""

import time
from pathlib import Path
from typing import BinaryIO

from melt.drivers.adb import sync
from melt.drivers.adb.shell import AdbShell
from melt.drivers.adb.stream import GONE_HINT, Connection
from melt.drivers.remote.base import Sent
from melt.errors import DeviceError
from melt.util.files import arriving

SIGN_OF_LIFE_S = 10.0
NEEDED = "shell_v2"


class AdbRemote:
    """A phone."""

    what = "phone"
    back_hint = GONE_HINT
    appends = False  # adb's sync begins every file anew
    input_ends_with_host = False

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.name = connection.name

    def open_shell(self, script: str, group_and_pid: bool = False, timeout_s: float = 10.0) -> AdbShell:
        """adbd makes the shell the leader of a session, so its process id is its group's.

        Raises:
            DeviceError: the phone is older than Android 7 and has no version 2.
        """
        if NEEDED not in self.connection.features:
            raise DeviceError(
                f"{self.name}: its adb has no {NEEDED} (before Android 7)", "melt cannot measure on such a phone."
            )
        script = f"echo $$ $$; {script}" if group_and_pid else script
        return AdbShell(self.connection.open(f"shell,v2,raw:{script}", timeout_s))

    def check_alive(self) -> None:
        """adbd answers for a file's size by itself, without starting a program that a measurement would see."""
        sync.size_bytes(self.connection, "/", SIGN_OF_LIFE_S)

    def size_bytes(self, path: str) -> int | None:
        """The size of a file."""
        return sync.size_bytes(self.connection, path)

    def send(self, content: BinaryIO, path: str, mode: int, sent: Sent = lambda _done: None, offset: int = 0) -> None:
        """Writes a file."""
        assert offset == 0
        sync.send(self.connection, content, path, mode, int(time.time()), sent)

    def receive_file(self, path: str, destination: Path) -> None:
        """Brings a file."""
        with arriving(destination) as file:
            sync.receive(self.connection, path, file)

    def close(self) -> None:
        """Lets the phone go."""
        self.connection.close()
