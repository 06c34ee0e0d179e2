"""One iPhone: found, paired and asked, through the library."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pymobiledevice3 import usbmux
from pymobiledevice3.exceptions import InvalidServiceError, PyMobileDevice3Exception
from pymobiledevice3.lockdown import create_using_usbmux
from pymobiledevice3.services.afc import AfcService
from pymobiledevice3.services.diagnostics import DiagnosticsService
from pymobiledevice3.services.installation_proxy import InstallationProxyService

from melt.drivers.ios.pymd3 import image
from melt.drivers.ios.pymd3.errors import explain
from melt.drivers.ios.pymd3.loop import Loop
from melt.drivers.ios.pymd3.tunnel import Tunnel
from melt.drivers.ios.pymd3.worker_tunnel import WorkerTunnel
from melt.errors import DeviceError

T = TypeVar("T")
_CALL_S = 20.0
_MOUNT_S = 300.0  # it may have to be fetched first
_TUNNEL_S = 40.0
_TUNNEL_FROM = 17  # the major of iOS from which developer services are behind a tunnel
_REPORTS = "com.apple.crashreportcopymobile"
_MAX_REPORT_BYTES = 8 * 2**20
_APP_KEYS = ("CFBundleIdentifier", "CFBundleShortVersionString", "MeltEngineVersion")


@dataclass(frozen=True)
class Listed:
    """A device that usbmuxd has."""

    udid: str
    is_usb: bool


def list_phones(name: str = "iPhone") -> list[Listed]:
    """Every device that usbmuxd has, those on a cable first.

    Raises:
        DeviceError: there is no usbmuxd.
    """
    loop = Loop()
    try:
        listed = loop.call(usbmux.list_devices(), _CALL_S)
    except Exception as e:
        raise explain(e, name, "asking usbmuxd") from e
    finally:
        loop.close()
    devices = dict.fromkeys(Listed(d.serial, d.is_usb) for d in listed)
    return sorted(devices, key=lambda d: not d.is_usb)


class Phone:
    """A connection to lockdownd, from which all others are made. Not for several threads, but for ``call``."""

    def __init__(self, udid: str, name: str, records: Path, tunnel: Tunnel | None = None) -> None:
        """Connects and pairs.

        Args:
            udid: which one.
            name: what messages call it.
            records: the folder for pair records, which hold keys.
            tunnel: the way to the developer services from iOS 17 on; one of its own where it is left out.

        Raises:
            DeviceError: it is not paired, or locked; says what to tap.
            ConnectionLostError: it is not there.
        """
        self.name, self.udid = name, udid
        logging.getLogger("pymobiledevice3").addHandler(logging.NullHandler())  # what matters is raised
        self._loop = Loop()
        self._tunnel = tunnel or WorkerTunnel(udid)
        self._connected = False
        records.mkdir(parents=True, exist_ok=True)
        records.chmod(0o700)  # also where it was made by somebody else
        try:
            self.lockdown = self.call(
                create_using_usbmux(serial=udid, pair_timeout=0, pairing_records_cache_folder=records),
                "connecting",
                _CALL_S,
            )
        except BaseException:
            self._loop.close()
            raise
        self._connected = True

    def call(self, work: Coroutine[Any, Any, T], doing: str, timeout_s: float) -> T:
        """Its result; raises melt's errors."""
        try:
            return self._loop.call(work, timeout_s)
        except Exception as e:
            raise explain(e, self.name, doing, self._connected) from e

    def start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """On its way."""
        return self._loop.start(work)

    def end(self, task: "Future[Any]") -> None:
        """Ends what ``start`` started."""
        self._loop.end(task)

    def check_alive(self) -> None:
        """Raises ConnectionLostError where it does not answer."""
        self.call(self.lockdown.get_value(key="ProductVersion"), "asking whether it is there", _CALL_S)

    def values(self) -> dict[str, Any]:
        """What it says of itself."""
        return dict(self.lockdown.all_values)

    def developer_mode(self) -> bool:
        """Whether tools may start programs; True on an iOS that has no such switch."""
        if not self.lockdown.has_developer_mode:
            return True
        return bool(self.call(self.lockdown.get_developer_mode_status(), "asking for developer mode", _CALL_S))

    def mount_image(self, images: Path) -> None:
        """Mounts the developer disk image where it is not; from a folder that it is fetched into where need be.

        Raises:
            DeviceError: it can be neither found nor fetched, or the phone refuses it.
        """
        self.call(image.mount(self.lockdown, images, self.name), "mounting the developer disk image", _MOUNT_S)

    def apps(self) -> list[dict[str, str]]:
        """The apps that people installed: id, version and melt's engine, each where it is told."""
        apps = self.call(self._apps(), "asking for its apps", _CALL_S)
        return [{k: str(app[k]) for k in _APP_KEYS if k in app} for app in apps.values()]

    async def _apps(self) -> dict[str, dict[str, Any]]:
        async with InstallationProxyService(self.lockdown) as service:
            return await service.get_apps("User") or {}

    def battery(self) -> dict[str, Any]:
        """IOPMPowerSource of its registry; empty where it does not say."""
        return self.call(self._battery(), "asking for its battery", _CALL_S)

    async def _battery(self) -> dict[str, Any]:
        async with DiagnosticsService(self.lockdown) as service:
            return await _read_battery(service)

    def sample_battery(self, period_s: float, take: Callable[[dict[str, Any], float], None]) -> "Future[None]":
        """Readings from now on, each with the seconds that its answer took; end it by ``end``.

        The connection is made before this returns: lockdownd answers one question at a time.
        """
        service = DiagnosticsService(self.lockdown)
        self.call(service.connect(), "asking for its battery", _CALL_S)
        return self.start(_poll(service, period_s, take))

    def report_names(self, prefix: str) -> list[str]:
        """Its reports whose names begin so, the newest last, for names hold the date."""
        return self.call(self._report_names(prefix), "asking for its reports", _CALL_S)

    async def _report_names(self, prefix: str) -> list[str]:
        with contextlib.suppress(PyMobileDevice3Exception):
            mover = await self.lockdown.start_lockdown_service("com.apple.crashreportmover")
            async with mover:
                await mover.recvall(5)  # "ping": what was under way is there
        try:
            async with AfcService(self.lockdown, _REPORTS) as afc:
                return sorted(str(n) for n in await afc.listdir("/") if str(n).startswith(prefix))
        except InvalidServiceError as e:
            raise DeviceError(f"{self.name}: the iPhone has no service {_REPORTS}") from e

    def reports(self, names: Sequence[str]) -> list[bytes]:
        """What is in reports, but for those too large to be read."""
        return self.call(self._reports(names), "asking for its reports", _CALL_S)

    async def _reports(self, names: Sequence[str]) -> list[bytes]:
        async with AfcService(self.lockdown, _REPORTS) as afc:
            sizes = {n: int((await afc.stat(n))["st_size"]) for n in names}
            return [bytes(await afc.get_file_contents(n)) for n in names if sizes[n] <= _MAX_REPORT_BYTES]

    def provider(self) -> Any:
        """What the library starts developer services by; from iOS 17 on a tunnel.

        Raises:
            DeviceError: no tunnel can be opened; says what to do.
        """
        if int(self.lockdown.product_version.partition(".")[0]) < _TUNNEL_FROM:
            return self.lockdown
        return self.call(self._tunnel.open(self.name), "opening a tunnel to it", _TUNNEL_S)

    def close(self) -> None:
        """Lets it go."""
        with contextlib.suppress(Exception):
            self.call(self._tunnel.close(), "closing the tunnel", _CALL_S)
            self.call(self.lockdown.close(), "closing", _CALL_S)
        self._loop.close()


async def _read_battery(service: DiagnosticsService) -> dict[str, Any]:
    battery = await service.get_battery()
    return battery if isinstance(battery, dict) else {}


async def _poll(service: DiagnosticsService, period_s: float, take: Callable[[dict[str, Any], float], None]) -> None:
    async with service:
        while True:
            asked_s = time.monotonic()
            battery = await _read_battery(service)
            took_s = time.monotonic() - asked_s
            take(battery, took_s)
            await asyncio.sleep(max(0.0, period_s - took_s))
