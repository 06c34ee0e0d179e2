"""A host's shell and files over SSH. See ``melt.drivers.remote.base.Remote``."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import paramiko

from melt.drivers.remote.base import Completed, ConnectionLostError, Sent, last_words, quoted
from melt.drivers.remote.process import run_command
from melt.drivers.ssh.connect import BACK_HINT, NO_SESSION, Way, in_words
from melt.drivers.ssh.shell import SshShell, command_line
from melt.errors import DeviceError
from melt.util.files import arriving

CHUNK_BYTES = 2**18
SIGN_OF_LIFE_S = 10.0
_STEP_S = 60.0


class SshRemote:
    """A board, or any host."""

    what = "board"
    back_hint = BACK_HINT
    appends = True
    input_ends_with_host = False

    def __init__(self, way: Way, name: str) -> None:
        self.name = name
        self._way = way

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
        """paramiko's errors in words."""
        try:
            yield
        except PermissionError as e:
            raise DeviceError(f"{self.name}: {what}: Permission denied") from e
        except (TimeoutError, EOFError) as e:
            raise ConnectionLostError(f"{self.name}: {what}: {str(e) or 'the board does not answer'}", BACK_HINT) from e
        except (paramiko.SSHException, OSError) as e:
            raise ConnectionLostError(f"{self.name}: {what}: {in_words(e, NO_SESSION)}", BACK_HINT) from e

    def check_alive(self) -> None:
        """Its SSH server opens a channel by itself; no program is started."""
        with self._refusals("sign of life"):
            self._transport().open_session(timeout=SIGN_OF_LIFE_S).close()

    def size_bytes(self, path: str) -> int | None:
        """The size of a file, by the shell: not every server has SFTP."""
        done = run_command(self, f"LC_ALL=C ls -ldnL {quoted(path)}")
        fields = done.text.split()
        if done.code == 0 and len(fields) > 4 and fields[4].isdecimal():
            return int(fields[4])
        if any(words in done.stderr for words in ("No such file", "Not a directory")):
            return None
        raise DeviceError(f"{self.name}: {path}: {last_words(done)}")

    def send(self, content: BinaryIO, path: str, mode: int, sent: Sent = lambda _done: None, offset: int = 0) -> None:
        """Writes a file by way of ``cat``, whose words tell of a full disk."""
        content.seek(offset)
        with self._command(
            path, f"cat {'>>' if offset else '>'} {quoted(path)} && chmod {mode:o} {quoted(path)}"
        ) as shell:
            done = offset
            with contextlib.suppress(ConnectionLostError):  # its end tells why
                while data := content.read(CHUNK_BYTES):
                    shell.write(data, _STEP_S)
                    done += len(data)
                    sent(done)
                shell.close_input(_STEP_S)
            self._read_to_the_end(shell, path)

    def receive_file(self, path: str, destination: Path) -> None:
        """Brings a file."""
        with arriving(destination) as file, self._command(path, f"cat {quoted(path)}") as shell:
            self._read_to_the_end(shell, path, file.write)

    @contextmanager
    def _command(self, path: str, script: str) -> Iterator[SshShell]:
        """A program at work on a file; where the link breaks, that is said of the file."""
        shell = self.open_shell(script)
        try:
            yield shell
        except TimeoutError as e:
            raise ConnectionLostError(f"{self.name}: {path}: the board does not answer", BACK_HINT) from e
        except ConnectionLostError as e:
            raise ConnectionLostError(f"{self.name}: {path}: {e.message}", BACK_HINT) from e
        finally:
            shell.close()

    def _read_to_the_end(
        self, shell: SshShell, path: str, take: Callable[[bytes], object] = lambda _piece: None
    ) -> None:
        """Takes what the program writes; raises DeviceError with its last words where it fails."""
        errors = bytearray()
        while True:
            kind, piece = shell.read(_STEP_S)
            if kind == "stdout":
                take(piece)
            elif kind == "stderr":
                errors += piece[:4096]
            elif piece == b"\0":
                return
            else:
                reason = last_words(Completed(piece[0], b"", errors.decode(errors="replace")))
                hint = "melt devices clean NAME removes what melt put there." if "No space left" in reason else ""
                raise DeviceError(f"{self.name}: {path}: {reason}", hint)

    def close(self) -> None:
        """Lets the host go."""
        self._way.close()
