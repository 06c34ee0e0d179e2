"""This machine's shell and files. See ``melt.drivers.remote.base.Remote``."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from melt.drivers.local.shell import LocalShell
from melt.drivers.remote.base import Sent
from melt.errors import DeviceError
from melt.util.files import arriving

_CHUNK_BYTES = 2**20


class LocalRemote:
    """The machine that melt itself runs on: nothing can come between."""

    what = "machine"
    back_hint = ""
    appends = True
    input_ends_with_host = True

    def __init__(self, name: str) -> None:
        self.name = name

    def open_shell(self, script: str, group_and_pid: bool = False, timeout_s: float = 10.0) -> LocalShell:
        """A shell that also finds the programs of melt's own environment, and the system's, whatever PATH says."""
        folders = [os.environ.get("PATH"), str(Path(sys.executable).parent), os.defpath]
        path = os.pathsep.join(filter(None, folders))
        with self._refusals("a shell"):
            return LocalShell(script, group_and_pid, {**os.environ, "PATH": path})

    @contextmanager
    def _refusals(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise DeviceError(f"{self.name}: {what}: {e.strerror or e}") from e

    def check_alive(self) -> None:
        """It is."""

    def size_bytes(self, path: str) -> int | None:
        """The size of a file."""
        with self._refusals(path):
            try:
                return Path(path).stat().st_size
            except FileNotFoundError:
                return None

    def send(self, content: BinaryIO, path: str, mode: int, sent: Sent = lambda _done: None, offset: int = 0) -> None:
        """Writes a file."""
        with self._refusals(path), Path(path).open("r+b" if offset else "wb") as file:
            for stream in (content, file):
                stream.seek(offset)
            while data := content.read(_CHUNK_BYTES):
                file.write(data)
                sent(file.tell())
            Path(path).chmod(mode)

    def receive_file(self, path: str, destination: Path) -> None:
        """A copy of a file."""
        with self._refusals(path):
            source = os.open(path, os.O_RDONLY)
        with os.fdopen(source, "rb") as content, arriving(destination) as file:
            shutil.copyfileobj(content, file)

    def close(self) -> None:
        """Nothing is held."""
