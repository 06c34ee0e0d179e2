"""Where the developer services are from iOS 17 on: behind RemoteServiceDiscovery, in a tunnel."""

import asyncio
import sys
from typing import Any, Protocol

from pymobiledevice3.exceptions import UserspaceTunnelUnavailableError
from pymobiledevice3.remote.remote_service_discovery import RemoteServiceDiscoveryService
from pymobiledevice3.remote.rsd_tunnel import PreferredRsdTunnel

from melt.drivers.ios.pymd3.errors import OPEN_HINT, TUNNEL_HINT
from melt.errors import DeviceError


class Tunnel(Protocol):
    """Gives the library's provider of the services in it."""

    async def open(self, name: str) -> Any:
        """Raises DeviceError where the iPhone gives none; ``name`` is what messages call it."""

    async def close(self) -> None:
        """Lets it go; nothing happens where it is not open."""


class OwnTunnel:
    """A tunnel without root, which iPhones give from iOS 17.4 on; a process has one at a time."""

    def __init__(self, udid: str) -> None:
        self._udid = udid
        self._tunnel: Any = None

    async def open(self, name: str) -> Any:
        """See ``Tunnel``."""
        if self._tunnel is None:
            self._tunnel = await asyncio.to_thread(_library_tunnel, self._udid)
        try:
            return await self._tunnel.aopen()
        except UserspaceTunnelUnavailableError as e:
            raise DeviceError(f"{name}: the iPhone gives no tunnel to its developer services", TUNNEL_HINT) from e

    async def close(self) -> None:
        """See ``Tunnel``."""
        if self._tunnel is not None:
            await self._tunnel.aclose()


def _library_tunnel(udid: str) -> Any:
    if sys.platform == "darwin":  # which has one of its own below 17.4
        return PreferredRsdTunnel(serial=udid, autopair=False)
    # Not before it is needed: it brings a whole TCP/IP stack. No fallback: that looks for iPhones on the network.
    from pymobiledevice3.remote.userspace_tunnel import UserspaceRsdTunnel

    return UserspaceRsdTunnel(serial=udid, autopair=False, remotepairing_fallback=False)


class OpenTunnel:
    """A tunnel that somebody else has opened to this iPhone, by the address of its RSD."""

    def __init__(self, host: str, port: int, udid: str) -> None:
        self._udid = udid
        self._rsd = RemoteServiceDiscoveryService((host, port))

    async def open(self, name: str) -> Any:
        """See ``Tunnel``."""
        host, port = self._rsd.service.address
        try:
            await self._rsd.connect()
        except OSError as e:
            raise DeviceError(f"{name}: there is no tunnel at {host} port {port}: {e}", OPEN_HINT) from e
        if str(self._rsd.udid).replace("-", "") != self._udid.replace("-", ""):  # usbmuxd may drop the dash
            raise DeviceError(f"{name}: the tunnel at {host} port {port} is another iPhone's", OPEN_HINT)
        return self._rsd

    async def close(self) -> None:
        """See ``Tunnel``."""
        await self._rsd.close()
