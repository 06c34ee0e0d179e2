"""A real OpenSSH server on loopback, with host keys and known users of its own."""

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path

from tests.doubles.board.network import Place
from tests.support.waiting import wait_until

SSHD = "/usr/sbin/sshd"


class Sshd:
    """One server. As root it lets root in; its users' keys are those in ``authorised``.

    ``place`` is where it listens instead of loopback.
    """

    def __init__(self, folder: Path, port: int | None = None, *options: str, place: Place | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port or (22 if place else _free_port())
        self.address = place.address if place else "127.0.0.1"
        self._place = place
        self.log = folder / "sshd.log"
        self.authorised = folder / "authorized_keys"
        self.authorised.touch()
        self._options = options
        self._boot: tuple[str, ...] = ()  # what the server is started by
        self._server: subprocess.Popen[bytes] | None = None
        make_key(folder / "host_key")

    @property
    def fingerprint(self) -> str:
        """Its host key's, by ssh-keygen."""
        done = subprocess.run(
            ["ssh-keygen", "-lf", str(self.folder / "host_key.pub")], capture_output=True, text=True, check=True
        )
        return done.stdout.split()[1]

    def new_host_key(self) -> None:
        """As after a new installation; from the next start on."""
        for path in self.folder.glob("host_key*"):
            path.unlink()
        make_key(self.folder / "host_key")

    def __enter__(self) -> "Sshd":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Comes back once it answers."""
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd's own, where it is root
        config = self.folder / "sshd_config"
        lines = [
            f"Port {self.port}",
            f"ListenAddress {self.address}",
            f"HostKey {self.folder / 'host_key'}",
            f"AuthorizedKeysFile {self.authorised}",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "PermitRootLogin prohibit-password",
            f"PidFile {self.folder / 'pid'}",
            *self._options,
        ]
        config.write_text("\n".join(lines) + "\n")
        words = (*self._boot, SSHD, "-D", "-e", "-f", str(config))
        begin = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(
                self._place.inside(*words) if self._place else words, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_until(lambda: b"Server listening on" in self.log.read_bytes()[begin:])
        except AssertionError as late:
            self.stop()
            raise AssertionError(f"sshd does not listen: {self.log.read_text()}") from late

    def stop(self) -> None:
        """The server and every connection of its."""
        if self._server is not None:
            self.cut()
            self._server.terminate()
            self._server.wait(10)
            self._server = None

    def cut(self) -> None:
        """Every connection breaks without a word; the server goes on."""
        self._signal_connections(signal.SIGKILL)

    def freeze(self) -> None:
        """Server and connections stand still, and so does nothing else."""
        self._signal_connections(signal.SIGSTOP)
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """They go on."""
        assert self._server is not None
        self._server.send_signal(signal.SIGCONT)
        self._signal_connections(signal.SIGCONT)

    def _signal_connections(self, number: signal.Signals) -> None:
        assert self._server is not None
        for pid in _children(self._server.pid):
            for child in [pid, *_children(pid)]:  # the one that speaks for the user, too
                if _is_sshd(child):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, number)


def make_key(path: Path) -> str:
    """A key pair; gives the public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(path.suffix + ".pub").read_text() if path.suffix else Path(f"{path}.pub").read_text()


def _children(pid: int) -> list[int]:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(p) for p in found]


def _is_sshd(pid: int) -> bool:
    """Else it is what runs for the user."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().startswith("sshd")
    return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
