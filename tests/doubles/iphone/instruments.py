"""The instruments daemon's channels: starting and ending programs, what they say, and what they take."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tests.doubles.iphone.app import RunningApp
from tests.doubles.iphone.dtx import Channel, Connection, Handler, RemoteError, Time, unknown
from tests.doubles.iphone.samples import PROCESS_ATTRIBUTES, SYSTEM_ATTRIBUTES, Sampler, mach_time, ticks
from tests.doubles.iphone.wire import Stream

if TYPE_CHECKING:
    from tests.doubles.iphone.phone import IPhone

_SERVICES = "com.apple.instruments.server.services"
_LOCKED = "Unable to launch {} because the device was not, or could not be, unlocked."


def serve_instruments(phone: "IPhone", stream: Stream) -> None:
    """One host's connection."""
    ended = threading.Event()
    makers: dict[str, Callable[[IPhone, Channel, threading.Event], Handler]] = {
        f"{_SERVICES}.processcontrol": _ProcessControl,
        f"{_SERVICES}.deviceinfo": _DeviceInfo,
        f"{_SERVICES}.sysmontap": _Sysmontap,
        f"{_SERVICES}.graphics.opengl": _Graphics,
    }

    def open_channel(identifier: str, channel: Channel) -> Handler:
        if identifier not in makers:
            raise RemoteError("DTXMessage", 2, f"no service {identifier}")
        return makers[identifier](phone, channel, ended)

    try:
        Connection(stream, open_channel).serve(dict.fromkeys(makers, 1))
    finally:
        ended.set()


class _ProcessControl:
    def __init__(self, phone: "IPhone", channel: Channel, ended: threading.Event) -> None:
        self._phone, self._channel, self._host_gone = phone, channel, ended

    def __call__(self, selector: str, arguments: Sequence[Any]) -> Any:
        match selector:
            case "launchSuspendedProcessWithDevicePath:bundleIdentifier:environment:arguments:options:":
                return self._launch(*arguments)
            case "killPid:":
                return self._signal(9, arguments[0])
            case "sendSignal:toPid:":
                return self._signal(*arguments)
            case "processIdentifierForBundleIdentifier:":
                alive = [r.pid for r in self._running() if r.app.bundle_id == arguments[0]]
                return alive[-1] if alive else 0
            case "startObservingPid:":
                return self._observe(arguments[0])
            case "stopObservingPid:" | "resumePid:" | "suspendPid:":
                return None
            case "requestDisableMemoryLimitsForPid:":
                return True
            case "isPidDebuggable:":
                return any(r.pid == arguments[0] and r.app.development for r in self._running())
        raise unknown(selector)

    def _running(self) -> list[RunningApp]:
        return [r for r in self._phone.apps.running.values() if r.alive]

    def _launch(self, _path: str, bundle_id: str, env: dict[str, Any], argv: list[str], options: dict[str, Any]) -> int:
        if self._phone.locked:
            raise RemoteError("FBSOpenApplicationErrorDomain", 7, _LOCKED.format(bundle_id))
        words = {str(k): str(v) for k, v in (env or {}).items()}
        try:
            app = self._phone.apps.launch(bundle_id, list(argv or []), words, bool(options.get("KillExisting")))
        except KeyError as e:
            text = f"Application {bundle_id} is unknown to FrontBoard"
            raise RemoteError("FBSOpenApplicationServiceErrorDomain", 4, text) from e
        except OSError as e:
            raise RemoteError("NSPOSIXErrorDomain", e.errno or 1, str(e)) from e
        self._observe(app.pid)
        return app.pid

    def _observe(self, pid: int) -> None:
        app = self._phone.apps.running.get(pid)
        if app is None:
            raise RemoteError("DTXMessage", 1, f"no process {pid}")
        pair = (self._said, self._ended)
        if pair not in app.hears:
            app.hears.append(pair)

    def _said(self, pid: int, text: str) -> None:
        if not self._host_gone.is_set():
            self._channel.call("outputReceived:fromProcess:atTime:", text, pid, ticks())

    def _ended(self, pid: int, code: int | None, number: int | None) -> None:
        if not self._host_gone.is_set():
            self._channel.call("processWithPID:terminatedWithExitCode:orCrashingSignal:", pid, code or 0, number or 0)

    def _signal(self, number: int, pid: int) -> None:
        app = self._phone.apps.running.get(pid)
        if app is None or not app.alive:
            raise RemoteError("NSPOSIXErrorDomain", 3, "No such process")
        app.kill(number)


class _DeviceInfo:
    def __init__(self, phone: "IPhone", _channel: Channel, _ended: threading.Event) -> None:
        self._phone = phone

    def __call__(self, selector: str, arguments: Sequence[Any]) -> Any:
        alive = {r.pid: r for r in self._phone.apps.running.values() if r.alive}
        match selector:
            case "sysmonProcessAttributes":
                return list(PROCESS_ATTRIBUTES)
            case "sysmonSystemAttributes":
                return list(SYSTEM_ATTRIBUTES)
            case "machTimeInfo":
                return mach_time()
            case "machKernelName":
                return f"/mach.release.{self._phone.model.platform}"
            case "isRunningPid:":
                return arguments[0] in alive
            case "hardwareInformation":
                cores = {"numberOfCpus": 6, "numberOfPhysicalCpus": 6, "hwCPUtype": 16777228, "hwCPUsubtype": 2}
                return {**cores, "hwCPU64BitCapable": 1, "ProcessorTraceState": 0}
            case "systemInformation":
                model = self._phone.model
                keys = {"_deviceDisplayName": "Simulated iPhone", "_productType": model.product_type}
                keys |= {"_productVersion": model.version, "_buildVersion": model.build}
                return {**keys, "_coreDeviceIdentifier": ""}
            case "runningProcesses":
                return [self._row(pid, app) for pid, app in alive.items()]
        raise unknown(selector)

    def _row(self, pid: int, app: RunningApp) -> dict[str, Any]:
        name = app.app.bundle_id.rsplit(".", 1)[-1]
        path = f"/private/var/containers/Bundle/Application/{name}.app/{name}"
        row = {"pid": pid, "name": name, "realAppName": path, "isApplication": True, "foregroundRunning": True}
        return {**row, "startDate": Time(time.time()), "bundleIdentifier": app.app.bundle_id}


class _Periodic:
    """Says something every so often, from start to stop."""

    def __init__(self, channel: Channel, ended: threading.Event) -> None:
        self._channel, self._host_gone = channel, ended
        self._stopped = threading.Event()
        self.period_s = 1.0

    def start(self, make: Callable[[], Any]) -> None:
        self._stopped = threading.Event()
        threading.Thread(target=self._run, args=(make, self._stopped), daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self, make: Callable[[], Any], stopped: threading.Event) -> None:
        while not stopped.wait(self.period_s) and not self._host_gone.is_set():
            try:
                self._channel.tell(make())
            except EOFError:
                return


class _Sysmontap:
    def __init__(self, phone: "IPhone", channel: Channel, ended: threading.Event) -> None:
        self._phone, self._channel = phone, channel
        self._periodic = _Periodic(channel, ended)
        self._config: dict[str, Any] = {}

    def __call__(self, selector: str, arguments: Sequence[Any]) -> Any:
        match selector:
            case "setConfig:":
                self._config = dict(arguments[0])
                self._periodic.period_s = max(0.001, float(self._config.get("ur", 1000)) / 1000)
            case "start":
                sampler = Sampler(self._phone, self._config.get("procAttrs") or [], self._config.get("sysAttrs") or [])
                self._channel.tell({"k": 0, "tv": mach_time()[0]})  # the first message is an acknowledgement
                self._periodic.start(sampler.rows)
            case "stop":
                self._periodic.stop()
            case _:
                raise unknown(selector)


class _Graphics:
    def __init__(self, phone: "IPhone", channel: Channel, ended: threading.Event) -> None:
        self._phone = phone
        self._periodic = _Periodic(channel, ended)

    def __call__(self, selector: str, _arguments: Sequence[Any]) -> Any:
        match selector:
            case "startSamplingAtTimeInterval:":
                self._periodic.start(self._row)
            case "stopSampling":
                self._periodic.stop()
            case "availableStatistics" | "driverNames":
                return []
            case _:
                raise unknown(selector)
        return None

    def _row(self) -> dict[str, Any]:
        busy = {"Device Utilization %": 7, "Renderer Utilization %": 6, "Tiler Utilization %": 3}
        memory = {"In use system memory": 40 * 2**20, "Alloc system memory": 80 * 2**20}
        stamp = int(ticks() * 125 / 3 / 1000)
        return {**busy, **memory, "CoreAnimationFramesPerSecond": 0, "XRVideoCardRunTimeStamp": stamp}
