"""The phone's instruments: starting and ending apps, hearing of their end, and samples of what they take."""

import contextlib
import queue
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from pymobiledevice3.dtx import dtx_on_invoke
from pymobiledevice3.services.dvt.instruments.device_info import DeviceInfo
from pymobiledevice3.services.dvt.instruments.dvt_provider import DvtProvider
from pymobiledevice3.services.dvt.instruments.graphics import Graphics
from pymobiledevice3.services.dvt.instruments.process_control import ProcessControl, ProcessControlService
from pymobiledevice3.services.dvt.instruments.sysmontap import Sysmontap

from melt.drivers.ios.pymd3.phone import Phone
from melt.errors import DeviceError

_CALL_S = 30.0
_LATEST_NS = 2**62
_PROCESS = ("pid", "cpuUsage", "physFootprint", "memResidentSize")
_SYSTEM = ("physMemSize", "vmPageSize")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Said:
    """An app wrote to its stdout or stderr."""

    pid: int


@dataclass(frozen=True)
class Ended:
    """An app's end as the phone tells it; ``signal`` is Darwin's number, 0 for none."""

    pid: int
    code: int
    signal: int


@dataclass(frozen=True)
class MachTime:
    """The phone's clock that counts through sleep, and how much further it is than the one that does not, ns."""

    continuous_ns: int
    slept_ns: int
    ns_per_tick: float


class _ProcessControlService(ProcessControlService):  # type: ignore[misc] # the library's classes are Any here
    """The library only logs how a process ended."""

    tell: Callable[[Said | Ended], None] = staticmethod(lambda _event: None)

    @dtx_on_invoke("outputReceived:fromProcess:atTime:")  # type: ignore[untyped-decorator]
    async def _on_output_received(self, message: str, pid: int, timestamp: Any) -> None:
        self.tell(Said(int(pid)))

    @dtx_on_invoke("processWithPID:terminatedWithExitCode:orCrashingSignal:")  # type: ignore[untyped-decorator]
    async def _on_process_terminated(self, pid: int, exit_code: int | None, crashing_signal: int | None) -> None:
        self.tell(Ended(int(pid), int(exit_code or 0), int(crashing_signal or 0)))


class Instruments:
    """One connection; what apps say and how they end comes by ``next_event``."""

    def __init__(self, phone: Phone) -> None:
        """Opens the connection, from iOS 17 on through a tunnel.

        Raises:
            DeviceError: the phone refuses it; says what to do.
        """
        self._phone = phone
        self._events: queue.Queue[Said | Ended] = queue.Queue()
        self._dvt = DvtProvider(phone.provider())
        phone.call(self._open(), "starting the developer services", _CALL_S)

    async def _open(self) -> None:
        await self._dvt.connect()
        try:
            service = await self._dvt.dtx.open_channel(_ProcessControlService)
            service.tell = self._tell
            self._control = ProcessControl(self._dvt, service=service)
            self._info = DeviceInfo(self._dvt)
            await self._info.connect()
        except BaseException:
            await self._dvt.close()
            raise

    def _tell(self, event: Said | Ended) -> None:
        """A word that comes while another waits tells nothing new, however many there are."""
        if isinstance(event, Ended) or self._events.empty():
            self._events.put(event)

    def launch(self, bundle_id: str, arguments: Sequence[str], env: Mapping[str, str]) -> int:
        """Starts an app anew; its process id."""
        return self._phone.call(self._launch(bundle_id, arguments, env), f"starting {bundle_id}", _CALL_S)

    async def _launch(self, bundle_id: str, arguments: Sequence[str], env: Mapping[str, str]) -> int:
        try:
            pid = await self._control.launch(bundle_id, list(arguments), kill_existing=True, environment=dict(env))
            return int(pid)
        except AssertionError as e:  # the library's, where no process id came
            raise DeviceError(
                f"{self._phone.name}: the iPhone did not start {bundle_id}", "Start it by hand once."
            ) from e

    def kill(self, pid: int) -> None:
        """Ends a process."""
        self._phone.call(self._control.kill(pid), f"ending process {pid}", _CALL_S)

    def is_running(self, pid: int) -> bool:
        """Whether the process is there."""
        return bool(self._phone.call(self._info.is_running_pid(pid), "asking for the app", _CALL_S))

    def running(self, bundle_id: str) -> int:
        """The process id of an app that runs; 0 where it does not."""
        work = self._control.process_identifier_for_bundle_identifier(bundle_id)
        return int(self._phone.call(work, "asking for the app", _CALL_S) or 0)

    def next_event(self, timeout_s: float) -> Said | Ended | None:
        """What an app said or how it ended; None where nothing came in time."""
        with contextlib.suppress(queue.Empty):
            return self._events.get(timeout=timeout_s)
        return None

    def cores(self) -> int | None:
        """Processors; None where the phone does not say."""
        hardware = self._phone.call(self._info.hardware_information(), "asking for its hardware", _CALL_S)
        cores = hardware.get("numberOfCpus") if isinstance(hardware, dict) else None
        return cores if isinstance(cores, int) and cores > 0 else None

    def mach_time(self) -> MachTime:
        """The phone's clock now.

        Raises:
            DeviceError: what it says is no time.
        """
        answer = self._phone.call(self._info.mach_time_info(), "asking for its time", _CALL_S)
        try:
            absolute, numer, denom, continuous = (int(n) for n in list(answer)[:4])
            scale = numer / denom
            continuous_ns, absolute_ns = continuous * numer // denom, absolute * numer // denom
            if scale <= 0 or not (0 <= absolute_ns < _LATEST_NS and 0 <= continuous_ns < _LATEST_NS):
                raise ValueError("no time")
        except (TypeError, ValueError, ArithmeticError) as e:
            raise DeviceError(f"{self._phone.name}: its clock says {answer!r:.100}") from e
        return MachTime(continuous_ns, continuous_ns - absolute_ns, scale)

    def sample(self, interval_ms: int, take: Callable[[Row], None]) -> "Future[None]":
        """Rows of sysmontap from now on, in the library's thread; end it by ``Phone.end``."""
        return self._phone.start(_each(self._sysmontap(interval_ms), take))

    async def _sysmontap(self, interval_ms: int) -> AsyncGenerator[Row, None]:
        tap = Sysmontap(self._dvt, list(_PROCESS), list(_SYSTEM), interval_ms)
        async with tap:
            async for row in tap:
                if isinstance(row, dict):
                    yield _named(row)

    def sample_gpu(self, take: Callable[[Row], None]) -> "Future[None]":
        """Rows of the GPU's counters from now on, about one a second."""
        return self._phone.start(_each(self._graphics(), take))

    async def _graphics(self) -> AsyncGenerator[Row, None]:
        async with Graphics(self._dvt) as graphics:
            async for row in graphics:
                if isinstance(row, dict):
                    yield row

    def close(self) -> None:
        """Lets them go; apps run on."""
        with contextlib.suppress(Exception):
            self._phone.call(self._dvt.close(), "closing", _CALL_S)


async def _each(rows: AsyncGenerator[Row, None], take: Callable[[Row], None]) -> None:
    async with contextlib.aclosing(rows) as closing:
        async for row in closing:
            take(row)


def _named(row: Row) -> Row:
    """A row with its lists of values as mappings."""
    named = dict(row)
    if isinstance(row.get("Processes"), dict):
        named["Processes"] = {
            pid: dict(zip(_PROCESS, values, strict=False))
            for pid, values in row["Processes"].items()
            if isinstance(values, list)
        }
    if isinstance(row.get("System"), list):
        named["System"] = dict(zip(_SYSTEM, row["System"], strict=False))
    return named
