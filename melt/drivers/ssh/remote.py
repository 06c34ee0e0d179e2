"""A host's shell and files over SSH. See ``melt.drivers.remote.base.Remote``."""

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import paramiko

from melt.drivers.remote.base import ConnectionLostError, Sent, quoted
from melt.drivers.ssh.connect import BACK_HINT, Way
from melt.drivers.ssh.shell import SshShell, command_line
from melt.errors import DeviceError

CHUNK_BYTES = 2**18
SIGN_OF_LIFE_S = 10.0
_STEP_S = 60.0


class SshRemote:
    """A board, or any host."""

    what = "board"
    back_hint = BACK_HINT
    appends = True

    def __init__(self, way: Way, name: str) -> None:
        self.name = name
        self._way = way
        self._sftp: paramiko.SFTPClient | None = None
        self._opening = threading.Lock()

    def open_shell(self, script: str, group_and_pid: bool = False, timeout_s: float = 10.0) -> SshShell:
        """Starts a shell with this script."""
        with self._refusals("a shell"):
            return SshShell(self._transport().open_session(timeout=timeout_s), command_line(script, group_and_pid))

    def _transport(self) -> paramiko.Transport:
        transport = self._way.client.get_transport()
        if transport is None or not transport.is_active():
            raise ConnectionLostError(f"{self.name}: the connection to the board broke", BACK_HINT)
        return transport

    @contextmanager
    def _refusals(self, what: str) -> Iterator[None]:
        """Errors of paramiko and of the board in words."""
        try:
            yield
        except FileNotFoundError as e:
            raise DeviceError(f"{self.name}: {what}: No such file or directory") from e
        except PermissionError as e:
            raise DeviceError(f"{self.name}: {what}: Permission denied") from e
        except TimeoutError as e:
            raise ConnectionLostError(f"{self.name}: {what}: the board does not answer", BACK_HINT) from e
        except (paramiko.SSHException, EOFError) as e:
            raise ConnectionLostError(f"{self.name}: {what}: {e or 'the connection broke'}", BACK_HINT) from e
        except OSError as e:
            if not self._transport().is_active():
                raise ConnectionLostError(f"{self.name}: {what}: {e}", BACK_HINT) from e
            hint = "Is its disk full? melt devices clean NAME removes what melt put there."
            raise DeviceError(f"{self.name}: {what}: {e}", hint) from e

    def _files(self, timeout_s: float = _STEP_S) -> paramiko.SFTPClient:
        with self._opening:
            if self._sftp is None:
                self._sftp = paramiko.SFTPClient.from_transport(self._transport())
            if self._sftp is None:
                raise DeviceError(f"{self.name}: its SSH server has no SFTP", "Install sftp-server there.")
            channel = self._sftp.get_channel()
            if channel is not None:
                channel.settimeout(timeout_s)
            return self._sftp

    def check_alive(self) -> None:
        """The SFTP server that runs there anyhow answers by itself."""
        with self._refusals("sign of life"):
            self._files(SIGN_OF_LIFE_S).stat("/")

    def size_bytes(self, path: str) -> int | None:
        """The size of a file."""
        with self._refusals(path):
            try:
                return self._files().stat(path).st_size
            except FileNotFoundError:
                return None

    def send(self, content: BinaryIO, path: str, mode: int, sent: Sent = lambda _done: None, offset: int = 0) -> None:
        """Writes a file by way of ``cat``: paramiko's SFTP stops to wait for all answers whenever one has come, and
        an SFTP server has no words for a full disk."""
        content.seek(offset)
        script = f"cat {'>>' if offset else '>'} {quoted(path)} && chmod {mode:o} {quoted(path)}"
        shell = self.open_shell(script)
        done = offset
        try:
            with contextlib.suppress(ConnectionLostError):  # its end tells why
                while data := content.read(CHUNK_BYTES):
                    shell.write(data, _STEP_S)
                    done += len(data)
                    sent(done)
                shell.close_input(_STEP_S)
            self._expect_success(shell, path)
        except TimeoutError as e:
            raise ConnectionLostError(f"{self.name}: {path}: the board does not answer", BACK_HINT) from e
        except ConnectionLostError as e:
            raise ConnectionLostError(f"{self.name}: {path}: {e.message}", BACK_HINT) from e
        finally:
            shell.close()

    def _expect_success(self, shell: SshShell, path: str) -> None:
        said = bytearray()
        while True:
            kind, piece = shell.read(_STEP_S)
            if kind == "exit" and piece == b"\0":
                return
            if kind == "exit":
                words = said.decode(errors="replace").strip().splitlines() or [f"exit code {piece[0]}"]
                hint = "melt devices clean NAME removes what melt put there." if "No space left" in words[-1] else ""
                raise DeviceError(f"{self.name}: {path}: {words[-1][:300]}", hint)
            said += piece[:4096]

    def receive_file(self, path: str, destination: Path) -> None:
        """Brings a file."""
        partial = destination.with_name(f".{destination.name}.part")
        try:
            with self._refusals(path), partial.open("wb") as file:
                self._files().getfo(path, file)
            partial.replace(destination)
        finally:
            partial.unlink(missing_ok=True)

    def close(self) -> None:
        """Lets the host go."""
        if self._sftp is not None:
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                self._sftp.close()
        self._way.close()
