"""CoreDeviceProxy: a tunnel of IPv6 packets on a connection that lockdownd gives, to the phone's RSD and its services.

It begins with "CDTunnel", a length of 16 bits and JSON, from the host and then from the phone.
"""

import ipaddress
import json
import os
import struct
from typing import TYPE_CHECKING

from tests.doubles.iphone.ip import Host, Listener
from tests.doubles.iphone.rsd import FIRST_PORT, serve_rsd, serve_service
from tests.doubles.iphone.wire import Stream

if TYPE_CHECKING:
    from tests.doubles.iphone.phone import IPhone

SERVICE = "com.apple.internal.devicecompute.CoreDeviceProxy"
_MAGIC = b"CDTunnel"
_LARGEST_MTU = 16000
_IP_BYTES = 40


def serve_tunnel(phone: "IPhone", stream: Stream) -> None:
    """The handshake, and packets until either end hangs up."""
    if stream.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("no CDTunnel")
    asked = json.loads(stream.read(int.from_bytes(stream.read(2), "big")))
    if asked.get("type") != "clientHandshakeRequest":
        raise ValueError("no handshake")
    mtu = min(int(asked["mtu"]), _LARGEST_MTU)
    network = ipaddress.IPv6Network((b"\xfd" + os.urandom(7) + bytes(8), 64))  # a unique local one, RFC 4193
    own, theirs = str(network[1]), str(network[2])
    answer = {
        "type": "serverHandshakeResponse",
        "clientParameters": {"address": theirs, "netmask": "ffff:ffff:ffff:ffff::", "mtu": mtu},
        "serverAddress": own,
        "serverRSDPort": FIRST_PORT,
    }
    body = json.dumps(answer).encode()
    stream.write(_MAGIC + struct.pack(">H", len(body)) + body)
    host = Host(own, mtu, stream.write, lambda port: _listener(phone, port))
    phone.tunnels.add(stream)
    try:
        while True:
            head = stream.read(_IP_BYTES)
            phone.tunnelled_bytes += _IP_BYTES + int.from_bytes(head[4:6], "big")
            if head[0] >> 4 != 6:
                raise ValueError("no IPv6 packet")
            host.take(head + stream.read(int.from_bytes(head[4:6], "big")))
    finally:
        phone.tunnels.discard(stream)
        host.close()


def _listener(phone: "IPhone", port: int) -> Listener | None:
    names = phone.remote_services()
    ports = {name: FIRST_PORT + 1 + i for i, name in enumerate(names)}
    if port == FIRST_PORT:
        return lambda sock: phone.serve_at(sock, lambda stream: serve_rsd(phone, stream, ports))
    name = next((n for n, p in ports.items() if p == port), None)
    if name is None:
        return None
    return lambda sock: phone.serve_at(sock, lambda stream: serve_service(phone, stream, name))
