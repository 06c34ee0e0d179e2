"""adbd's authentication in front of a daemon that asks for none: Debian's, as it is built.

It speaks the AUTH exchange of Android's PROTOCOL.TXT with real RSA, then lets the daemon and the host speak to each
other. Google's adb, as well as melt, is held to it.
"""

import base64
import contextlib
import secrets
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA1

HEADER = struct.Struct("<4sIIIII")
TOKEN, SIGNATURE, PUBLIC_KEY = 1, 2, 3
WORDS = 64  # of 32 bits: a modulus of 2048


@dataclass
class Gate:
    """Who may pass, and what a person at the phone's screen does about strangers."""

    known: list[rsa.RSAPublicKey] = field(default_factory=list)
    taps_allow: bool = False
    wants_tls: bool = False
    offered: list[bytes] = field(default_factory=list)  # the public keys that strangers showed
    port: int = 0


@contextmanager
def guarded(backend: tuple[str, int], gate: Gate) -> Iterator[Gate]:
    """The daemon behind a gate, on a free port of this host."""
    listener = socket.create_server(("127.0.0.1", 0))
    gate.port = listener.getsockname()[1]
    open_sockets: list[socket.socket] = [listener]

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            open_sockets.append(client)
            threading.Thread(target=_attend, args=(client, backend, gate, open_sockets), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield gate
    finally:
        for one in open_sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def android_key(text: bytes) -> rsa.RSAPublicKey:
    """The key in Android's own form: base64 of word count, n0inv, modulus, rr and exponent, all little-endian."""
    raw = base64.b64decode(text.split()[0])
    words, _n0inv = struct.unpack_from("<II", raw)
    assert words == WORDS
    modulus = int.from_bytes(raw[8 : 8 + 4 * WORDS], "little")
    (exponent,) = struct.unpack_from("<I", raw, 8 + 8 * WORDS)
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _attend(client: socket.socket, backend: tuple[str, int], gate: Gate, open_sockets: list[socket.socket]) -> None:
    with contextlib.suppress(OSError, EOFError):
        command, _, _, greeting = _receive(client)
        assert command == b"CNXN"
        if gate.wants_tls:
            _send(client, b"STLS", 0x01000000, 0, b"")
            return
        if not _passes(client, gate):
            return
        daemon = socket.create_connection(backend)
        open_sockets.append(daemon)
        _send(daemon, b"CNXN", 0x01000001, 2**20, greeting)
        threading.Thread(target=_copy, args=(daemon, client), daemon=True).start()
        _copy(client, daemon)


def _passes(client: socket.socket, gate: Gate) -> bool:
    while True:
        token = secrets.token_bytes(20)
        _send(client, b"AUTH", TOKEN, 0, token)
        command, kind, _, data = _receive(client)
        assert command == b"AUTH"
        if kind == SIGNATURE and any(_signed(key, token, data) for key in gate.known):
            return True
        if kind == PUBLIC_KEY:
            gate.offered.append(data)
            if not gate.taps_allow:
                _receive(client)  # the dialogue stays on the screen until the host goes
                return False
            gate.known.append(android_key(data.rstrip(b"\0")))
            return True


def _signed(key: rsa.RSAPublicKey, token: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, token, padding.PKCS1v15(), utils.Prehashed(SHA1()))
    except InvalidSignature:
        return False
    return True


def _send(to: socket.socket, command: bytes, arg0: int, arg1: int, data: bytes) -> None:
    magic = struct.unpack("<I", command)[0] ^ 0xFFFFFFFF
    to.sendall(HEADER.pack(command, arg0, arg1, len(data), sum(data) & 0xFFFFFFFF, magic) + data)


def _receive(of: socket.socket) -> tuple[bytes, int, int, bytes]:
    command, arg0, arg1, size, _checksum, _magic = HEADER.unpack(_exactly(of, HEADER.size))
    return command, arg0, arg1, _exactly(of, size)


def _exactly(of: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = of.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(65536):
            sink.sendall(part)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
