"""Connections to hosts whose keys are known, through as many others as the way needs."""

import base64
import contextlib
import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from melt.drivers.remote.base import ConnectionLostError
from melt.drivers.remote.tcp import connect_tcp
from melt.drivers.ssh.config import PORT, Host, host_of, read_jump
from melt.errors import DeviceError
from melt.spec.profile import DeviceProfile

CONNECT_S = 20.0
KEEPALIVE_S = 10
BROKEN = (OSError, EOFError, paramiko.SSHException)  # how paramiko says that the link is
# What a server's refusal of a channel means, by its number (RFC 4254, 5.1).
NO_SESSION = {1: "its SSH server forbids it", 2: "its SSH server opens no more sessions (MaxSessions)"}
_NO_WAY = {
    1: "the host before it forwards no connections (AllowTcpForwarding)",
    2: "the host before it cannot reach it",
}
BACK_HINT = "Is it on, and does `ssh` reach it? The same command goes on where it stopped."


@dataclass(frozen=True)
class HostKey:
    """A key that a host has shown."""

    host: Host
    key: paramiko.PKey

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` shows it."""
        digest = hashlib.sha256(self.key.asbytes()).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


class Way:
    """The connections to a host: its own, and those to the hosts before it."""

    def __init__(self, clients: list[paramiko.SSHClient]) -> None:
        self._clients = clients

    @property
    def client(self) -> paramiko.SSHClient:
        """The host's own."""
        return self._clients[-1]

    def close(self) -> None:
        """Ends all of them, the last one first."""
        for client in reversed(self._clients):
            try:
                client.close()
            except BROKEN:  # the link to the host before it has just broken
                client.close()  # goes on with what is left


def open_way(profile: DeviceProfile) -> Way:
    """Connects to a profile's host, strictly: a host whose key is not known, or has changed, is not spoken to.

    Raises:
        DeviceError: it refuses us, or is not who it should be; says what to do.
        ConnectionLostError: it does not answer.
    """
    clients: list[paramiko.SSHClient] = []
    with ExitStack() as undo:
        undo.callback(Way(clients).close)
        for one in _with_jumps(host_of(profile)):
            clients.append(_open(one, clients, profile.name))
        undo.pop_all()
    return Way(clients)


def unknown_keys(profile: DeviceProfile) -> Iterator[HostKey]:
    """Every host on the way whose key is not known yet, as it is met; the caller adds it before the next.

    Raises:
        DeviceError: a host shows another key than the known one.
    """
    clients: list[paramiko.SSHClient] = []
    way = _with_jumps(host_of(profile))
    try:
        for one in way:
            is_known = _known_hosts(one).lookup(one.entry) is not None
            if not is_known:
                yield HostKey(one, _shown_key(one, clients, profile.name))
            if is_known or one is not way[-1]:  # one that was not known need not let us in yet
                clients.append(_open(one, clients, profile.name))
    finally:
        Way(clients).close()


def _shown_key(host: Host, before: list[paramiko.SSHClient], name: str) -> paramiko.PKey:
    transport = paramiko.Transport(_socket(host, before, name))
    try:
        transport.start_client(timeout=CONNECT_S)
        key = transport.get_remote_server_key()
        if any(entry.key == key for marker, entry in _lines_of(host) if marker == "@revoked"):
            raise DeviceError(
                f"{name}: {host.entry} shows a key that is revoked in known_hosts",
                "Do not connect to it before its owner says why.",
            )
        return key
    except BROKEN as e:
        raise ConnectionLostError(f"{name}: {host.entry}: {str(e) or type(e).__name__}", BACK_HINT) from e
    finally:
        with contextlib.suppress(*BROKEN):
            transport.close()


def enrol(shown: HostKey) -> Path:
    """Adds a host's key to the file where ``ssh`` would; a line is added and nothing else is touched.

    Returns:
        The file.

    Raises:
        DeviceError: the file cannot be written.
    """
    path = shown.host.known_hosts[0]
    if path.exists() and not path.is_file():
        raise DeviceError(f"{path}: keeps no keys", "ssh's own UserKnownHostsFile has to name a file that does.")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
        with path.open("a", encoding="utf-8") as file:
            file.write("" if whole else "\n")
            file.write(f"{shown.host.entry} {shown.key.get_name()} {shown.key.get_base64()}\n")
    except OSError as e:
        raise DeviceError(f"{path}: {e.strerror}", "melt keeps the key there: make the file writable.") from e
    return path


def _with_jumps(host: Host) -> list[Host]:
    return [*(read_jump(jump) for jump in host.jumps), host]


def _socket(host: Host, before: list[paramiko.SSHClient], name: str) -> Any:
    """A socket to the host, through the one before it where there is one."""
    try:
        if not before:
            return connect_tcp(host.hostname, host.port, CONNECT_S)
        transport = before[-1].get_transport()
        assert transport is not None
        return transport.open_channel("direct-tcpip", (host.hostname, host.port), ("127.0.0.1", 0), timeout=CONNECT_S)
    except (OSError, paramiko.SSHException) as e:
        raise ConnectionLostError(f"{name}: {host.hostname} port {host.port}: {in_words(e, _NO_WAY)}", BACK_HINT) from e


def in_words(e: Exception, refusals: Mapping[int, str]) -> str:
    """An error of the system's or of paramiko's; ``refusals`` says what those of a channel mean, by their number."""
    if isinstance(e, paramiko.ChannelException):
        return refusals.get(e.code, f"the SSH server refuses: {e.text}")
    return getattr(e, "strerror", None) or str(e) or type(e).__name__


def _known_hosts(host: Host) -> paramiko.HostKeys:
    """What OpenSSH's files say of hosts, but for certificates' authorities and lines that are no keys."""
    known, lines = paramiko.HostKeys(), list(_lines_of(host))
    revoked = [entry.key for marker, entry in lines if marker == "@revoked"]
    for marker, entry in lines:
        if not marker and entry.key is not None and entry.key not in revoked:
            for name in entry.hostnames:
                known.add(name, entry.key.get_name(), entry.key)
    return known


def _file_with(host: Host) -> Path:
    """The file that has its key, the first where none has."""
    having = (p for p in host.known_hosts if _known_hosts(replace(host, known_hosts=(p,))).lookup(host.entry))
    return next(having, host.known_hosts[0])


def _lines_of(host: Host) -> Iterator[tuple[str, HostKeyEntry]]:
    """The marker, mostly empty, and the rest of each line that is understood."""
    for path in host.known_hosts:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for number, line in enumerate(lines, 1):
            marker, _, rest = line.strip().partition(" ") if line.lstrip().startswith("@") else ("", "", line.strip())
            with contextlib.suppress(paramiko.SSHException, InvalidHostKey, ValueError):
                entry = HostKeyEntry.from_line(rest, number) if rest and not rest.startswith("#") else None
                if entry is not None:
                    yield marker, entry


def _open(host: Host, before: list[paramiko.SSHClient], name: str) -> paramiko.SSHClient:
    # Its errors come to the caller; without a handler Python would print its log's tracebacks as well.
    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    client = paramiko.SSHClient()
    client.get_host_keys().update(_known_hosts(host))
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    sock = _socket(host, before, name)
    with ExitStack() as undo:
        undo.callback(sock.close)
        undo.callback(client.close)
        try:
            client.connect(
                host.known_as,  # by which its key is looked up; the socket leads there already
                port=PORT if host.is_alias else host.port,
                username=host.user,
                key_filename=[str(f) for f in host.key_files],  # type: ignore[arg-type] # a list too, it is documented
                look_for_keys=False,
                allow_agent=not host.only_these_keys,
                sock=sock,
                timeout=CONNECT_S,
                banner_timeout=CONNECT_S,
                auth_timeout=CONNECT_S,
                transport_factory=_transport,
            )
        except (paramiko.SSHException, OSError, EOFError) as e:
            raise _explained(e, host, name) from e
        undo.pop_all()
    transport = client.get_transport()
    assert transport is not None
    transport.set_keepalive(KEEPALIVE_S)
    return client


def _transport(sock: Any, **options: Any) -> paramiko.Transport:
    """The ciphers that encrypt and sign in one pass come first; paramiko's own order puts them last."""
    made = paramiko.Transport(sock, **options)
    security = made.get_security_options()
    security.ciphers = sorted(security.ciphers, key=lambda name: "gcm" not in name)
    return made


def _explained(e: Exception, host: Host, name: str) -> DeviceError:
    """paramiko's errors in words that help."""
    if isinstance(e, paramiko.BadHostKeyException):
        return _changed(name, host, HostKey(host, e.key))
    if isinstance(e, paramiko.PasswordRequiredException):
        return DeviceError(f"{name}: a key for {host.entry} has a passphrase", "Give it to the agent: ssh-add")
    if isinstance(e, paramiko.AuthenticationException):
        user = host.user or "this user"
        return DeviceError(
            f"{name}: {host.entry} lets {user} in with none of this computer's keys",
            f"Allow one: ssh-copy-id -p {host.port} {user}@{host.hostname}. melt never asks for a password.",
        )
    if isinstance(e, paramiko.SSHException) and "not found in known_hosts" in str(e):
        return DeviceError(
            f"{name}: the key of {host.entry} is not known in {host.known_hosts[0]}",
            f"Look at it once: melt devices enrol {name}",
        )
    return ConnectionLostError(f"{name}: {host.entry}: {str(e) or type(e).__name__}", BACK_HINT)


def _changed(name: str, host: Host, shown: HostKey) -> DeviceError:
    return DeviceError(
        f"{name}: {host.entry} shows another key than the known one: {shown.fingerprint}",
        "Somebody else answers there, or it was installed anew. If you know that it was: "
        f"ssh-keygen -f '{_file_with(host)}' -R '{host.entry}', and then melt devices enrol {name}",
    )
