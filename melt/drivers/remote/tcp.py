"""TCP to a device."""

import socket


def connect_tcp(host: str, port: int, timeout_s: float) -> socket.socket:
    """A connected socket that notices a peer that has gone silent; raises OSError."""
    sock = socket.create_connection((host, port), timeout_s)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4), ("TCP_USER_TIMEOUT", 30_000)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return sock
