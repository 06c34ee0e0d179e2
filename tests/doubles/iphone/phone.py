"""A simulated iPhone: its state, its faults, and the services behind its ports. See ``IPhone``."""

import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from tests.doubles.iphone import lockdownd, rsd, tunnel
from tests.doubles.iphone.afc import Afc
from tests.doubles.iphone.app import App, Apps
from tests.doubles.iphone.battery import Battery
from tests.doubles.iphone.crash_reports import CrashReports
from tests.doubles.iphone.diagnostics import serve_diagnostics
from tests.doubles.iphone.disk import Disk
from tests.doubles.iphone.house_arrest import serve_house_arrest
from tests.doubles.iphone.images import DEVELOPER_SERVICES, Images
from tests.doubles.iphone.installation import serve_installation_proxy
from tests.doubles.iphone.instruments import serve_instruments
from tests.doubles.iphone.model import IPHONE_8, Model
from tests.doubles.iphone.pairing import Trust
from tests.doubles.iphone.usbmuxd import Usbmuxd
from tests.doubles.iphone.wire import Stream

_FIRST_PORT = 49152
_WHILE_LOCKED = "com.apple.mobile.installation_proxy"  # among others; files and programs need the passcode
Service = Callable[["IPhone", Stream], None]


class IPhone:
    """An iPhone on a cable, from entering to leaving.

    Its programs are this machine's: an app that is launched is a process here, in its own container folder.

    Args:
        folder: for its disk and the host's pair records.
        model: which iPhone, and which iOS it has.
        usbmuxd: another iPhone's, which then has both; with its pair records.
    """

    def __init__(self, folder: Path, model: Model = IPHONE_8, usbmuxd: Usbmuxd | None = None) -> None:
        self.folder, self.model = folder, model
        digest = hashlib.sha1(str(folder).encode(), usedforsecurity=False).hexdigest()  # so that each is another
        self.udid = digest if model.chip_id < 0x8020 else f"{model.chip_id:08X}-{digest[:16].upper()}"
        self.locked = False
        self.dialog: Literal["agreed", "pending", "refused"] = "agreed"  # to "Trust This Computer?"
        self.dialogs_shown = 0
        self.developer_mode = True
        self.attached = True
        self.service_tls = True  # of services; a phone before iOS 10 may do without
        self.on_haste: Callable[[], bool] | None = None  # see Afc; of an app's container
        self.frozen = threading.Event()  # while it is set the phone answers nothing
        self.disk = Disk()
        self.battery = Battery(lambda: list(self.apps.running))
        self.trust = Trust(folder / "keys")
        self.images = Images(self)
        self.crash_reports = CrashReports(folder / "crash-reports", model)
        self.media = folder / "media"
        self.apps = Apps(self, folder / "containers")
        self._set: dict[str, dict[str, Any]] = {}
        self._ports: dict[int, tuple[str, str]] = {}
        self._streams: set[Stream] = set()
        self.tunnels: set[Stream] = set()
        self.tunnelled_bytes = 0  # from hosts
        self._lock = threading.Lock()
        (self.media / "PublicStaging").mkdir(parents=True, exist_ok=True)
        self.usbmuxd = usbmuxd or Usbmuxd(folder / "pair-records")
        self.device_id = self.usbmuxd.new_device_id()
        self.usbmuxd.phones.append(self)

    @property
    def address(self) -> str:
        """For USBMUXD_SOCKET_ADDRESS."""
        return self.usbmuxd.address

    def __enter__(self) -> Self:
        self.battery.start()
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self.pull_cable()
        self.usbmuxd.close()
        self.apps.close()
        self.battery.stop()

    def install(self, app: App) -> App:
        """As Xcode would."""
        return self.apps.add(app)

    def pull_cable(self) -> None:
        """Every connection breaks without a word; programs go on."""
        self.attached = False
        self.usbmuxd.tell_detached(self)
        for stream in list(self._streams):
            stream.close()

    def plug_in(self) -> None:
        """It is attached again, as another device of usbmuxd's."""
        self.device_id = self.usbmuxd.new_device_id()
        self.attached = True
        self.usbmuxd.tell_attached(self)

    def replug(self, away_s: float) -> None:
        """Pulled now, and back after a while."""
        self.pull_cable()
        threading.Timer(away_s, self.plug_in).start()

    def switch_off(self) -> None:
        """What is mounted and what runs is gone, and nobody hears how it ended."""
        self.pull_cable()
        self.apps.end_all()
        self.images.mounted.clear()

    def reboot(self) -> None:
        """Off, and on again after a second; the cable stays."""
        self.switch_off()
        threading.Timer(1.0, self.plug_in).start()

    def drop_tunnels(self) -> None:
        """Those that are open break; the cable stays in."""
        for stream in list(self.tunnels):
            stream.close()

    def listens_on(self, port: int) -> bool:
        """Whether somebody answers there."""
        return port == lockdownd.PORT or port in self._ports

    def open_port(self, service: str, host_id: str) -> int:
        """Where the service waits for this host's next connection."""
        with self._lock:
            port = _FIRST_PORT + len(self._ports) % 16000
            self._ports[port] = (service, host_id)
            return port

    def refusal(self, service: str) -> str:
        """Why a service is not started; empty where it is."""
        if service not in SERVICES or (service == tunnel.SERVICE and not self.model.has_tunnel_service):
            return "InvalidService"
        if service in DEVELOPER_SERVICES and self.model.has_rsd:
            return "InvalidService"
        if service in DEVELOPER_SERVICES and not self.images.mounted:
            return "InvalidService"
        if self.locked and service != _WHILE_LOCKED:
            return "PasswordProtected"
        return ""

    def serve(self, port: int, stream: Stream) -> None:
        """One connection from usbmuxd, to its end."""

        def begin(stream: Stream) -> None:
            if port == lockdownd.PORT:
                return lockdownd.Lockdown(self, stream).serve()
            service, host_id = self._ports[port]
            if self.service_tls:
                stream.start_tls(self.trust.context(host_id))
            return self.run(service, stream)

        self._serve(stream, begin)

    def serve_at(self, sock: socket.socket, serve: Callable[[Stream], None]) -> None:
        """One connection by another way, to its end."""
        self._serve(Stream(sock), serve)

    def run(self, service: str, stream: Stream) -> None:
        """A service, once whoever asks for it may have it."""
        SERVICES[service](self, stream)

    def _serve(self, stream: Stream, serve: Callable[[Stream], None]) -> None:
        stream.frozen = self.frozen
        self._streams.add(stream)
        try:
            serve(stream)
        except (EOFError, ValueError, ssl.SSLError, OSError):
            return
        finally:
            self._streams.discard(stream)
            stream.close()

    def remote_services(self, developer: bool | None = None) -> list[str]:
        """What RSD lists now; ``developer`` says whether the image's are among them, whatever is mounted."""
        listed = [rsd.LOCKDOWN, *(n + rsd.SHIM for n in SERVICES if n not in (*DEVELOPER_SERVICES, tunnel.SERVICE))]
        with_image = bool(self.images.mounted) if developer is None else developer
        return [*listed, *([rsd.INSTRUMENTS] if with_image else [])]

    def values(self, domain: str | None) -> dict[str, Any]:
        """What lockdownd tells of a domain."""
        return self._told(domain) | self._set.get(domain or "", {})

    def set_value(self, domain: str | None, key: str, value: Any) -> None:
        """What a host has set."""
        self._set.setdefault(domain or "", {})[key] = value

    def _told(self, domain: str | None) -> dict[str, Any]:
        match domain:
            case None:
                return self._identity()
            case "com.apple.security.mac.amfi":
                return {"DeveloperModeStatus": self.developer_mode}
            case "com.apple.mobile.battery":
                return self.battery.short()
            case "com.apple.disk_usage":
                free, total = self.disk.free_bytes, self.disk.total_bytes
                usage = {"TotalDiskCapacity": total, "TotalDataCapacity": total, "TotalSystemCapacity": 0}
                return {**usage, "TotalDataAvailable": free, "AmountDataAvailable": free, "AmountDataReserved": 0}
            case "com.apple.international":
                return {"Language": "en", "Locale": "en_US", "Keyboard": "en_US"}
            case "com.apple.mobile.wireless_lockdown":
                return {"EnableWifiConnections": False, "EnableWifiDebugging": False}
            case _:
                return {}

    def _identity(self) -> dict[str, Any]:
        return {
            "ActivationState": "Activated",
            "BuildVersion": self.model.build,
            "CPUArchitecture": self.model.architecture,
            "DeviceClass": "iPhone",
            "DeviceName": "Simulated iPhone",
            "DevicePublicKey": self.trust.public_key,
            "HardwareModel": self.model.hardware,
            "HardwarePlatform": self.model.platform,
            "HostAttached": True,
            "PasswordProtected": self.locked,
            "ProductName": "iPhone OS",
            "ProductType": self.model.product_type,
            "ProductVersion": self.model.version,
            "SerialNumber": "MELTSIMULATED",
            "TimeIntervalSince1970": time.time(),
            "TimeZone": "UTC",
            "TrustedHostAttached": True,
            "UniqueChipID": 0x6D656C74,
            "UniqueDeviceID": self.udid,
            "WiFiAddress": "02:00:00:6d:65:6c",
        }


def _afc(phone: IPhone, stream: Stream) -> None:
    Afc(stream, phone.media, phone.disk).serve()


def _crash_reports(phone: IPhone, stream: Stream) -> None:
    Afc(stream, phone.crash_reports.folder, phone.disk).serve()


def _mover(_phone: IPhone, stream: Stream) -> None:
    stream.write(b"ping\0")


def _system_log(_phone: IPhone, stream: Stream) -> None:
    while True:
        line = time.strftime("%b %d %H:%M:%S") + " Simulated-iPhone kernel[0] <Notice>: still here"
        stream.write(line.encode() + b"\0")
        time.sleep(0.1)


def _assertions(phone: IPhone, stream: Stream) -> None:
    while True:
        stream.read_plist()
        stream.write_plist({"Status": "Success"})


SERVICES: dict[str, Service] = {
    "com.apple.afc": _afc,
    "com.apple.crashreportcopymobile": _crash_reports,
    "com.apple.crashreportmover": _mover,
    "com.apple.mobile.assertion_agent": _assertions,
    "com.apple.syslog_relay": _system_log,
    "com.apple.mobile.house_arrest": serve_house_arrest,
    "com.apple.mobile.installation_proxy": serve_installation_proxy,
    "com.apple.mobile.diagnostics_relay": serve_diagnostics,
    "com.apple.mobile.mobile_image_mounter": lambda phone, stream: phone.images.serve(stream),
    "com.apple.instruments.remoteserver.DVTSecureSocketProxy": serve_instruments,
    tunnel.SERVICE: tunnel.serve_tunnel,
}
