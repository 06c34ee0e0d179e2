"""The device's shell and files by its agent. See ``melt.drivers.remote.base``: a driver stands on this."""

import json
import socket
from pathlib import Path
from typing import BinaryIO

from melt.drivers.remote.base import ConnectionLostError, Kind, Sent, last_words, quoted
from melt.drivers.remote.process import run_command
from melt.errors import DeviceError
from melt.util.files import arriving

from .agent import receive, send

BACK_HINT = "Start it: python3 agent.py SOCKET"
KINDS: dict[bytes, Kind] = {b"o": "stdout", b"e": "stderr", b"x": "exit"}


class AgentShell:
    """One script; see ``melt.drivers.remote.base.ShellStream``."""

    def __init__(self, path: str, script: str, ids: bool, timeout_s: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(path)
        except OSError as e:
            self._socket.close()
            raise ConnectionLostError(f"no agent answers at {path}: {e.strerror}", BACK_HINT) from e
        self._stream = self._socket.makefile("rwb")
        self._stream.write(json.dumps({"script": script, "ids": ids}).encode() + b"\n")
        self._stream.flush()

    def read(self, timeout_s: float | None = None) -> tuple[Kind, bytes]:
        self._socket.settimeout(timeout_s)
        try:
            frame = receive(self._stream)
        except TimeoutError:
            raise
        except (OSError, ValueError) as e:
            raise ConnectionLostError(f"the agent is gone: {e}", BACK_HINT) from e
        if frame is None:
            raise ConnectionLostError("the agent is gone", BACK_HINT)
        return KINDS[frame[0]], frame[1]

    def write(self, data: bytes, timeout_s: float | None = None) -> None:
        self._send(b"i", data)

    def close_input(self, timeout_s: float | None = None) -> None:
        self._send(b"c")

    def _send(self, kind: bytes, content: bytes = b"") -> None:
        try:
            send(self._stream, kind, content)
        except (OSError, ValueError) as e:
            raise ConnectionLostError(f"the agent is gone: {e}", BACK_HINT) from e

    def close(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
        self._socket.close()


class AgentRemote:
    """The device; see ``melt.drivers.remote.base.Remote``."""

    what = "machine"
    back_hint = BACK_HINT
    appends = False
    input_ends_with_host = True  # a socket of this machine's does

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self._path = path
        self.check_alive()

    def open_shell(self, script: str, group_and_pid: bool = False, timeout_s: float = 10.0) -> AgentShell:
        return AgentShell(self._path, script, group_and_pid, timeout_s)

    def check_alive(self) -> None:
        run_command(self, ":", 10.0)

    def size_bytes(self, path: str) -> int | None:
        done = run_command(self, f"stat -c %s {quoted(path)}")
        return int(done.text) if done.code == 0 else None

    def send(self, content: BinaryIO, path: str, mode: int, sent: Sent = lambda _done: None, offset: int = 0) -> None:
        shell = self.open_shell(f"cat > {quoted(path)} && chmod {mode:o} {quoted(path)}")
        done = 0
        while data := content.read(2**18):
            shell.write(data)
            done += len(data)
            sent(done)
        shell.close_input()
        while (piece := shell.read(60.0))[0] != "exit":
            pass
        shell.close()
        if piece[1] != b"\0":
            raise DeviceError(f"{self.name}: {path}: cannot be written", BACK_HINT)

    def receive_file(self, path: str, destination: Path) -> None:
        done = run_command(self, f"cat {quoted(path)}", 60.0)
        if done.code != 0:
            raise DeviceError(f"{self.name}: {path}: {last_words(done)}")
        with arriving(destination) as file:
            file.write(done.stdout)

    def close(self) -> None:
        pass
