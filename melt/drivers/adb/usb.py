"""A phone on USB without an adb server, through adb-shell's transport. Never seen on hardware."""

import contextlib
from collections.abc import Iterator
from typing import Any

from melt.drivers.adb.direct import DirectConnection
from melt.drivers.adb.keys import EXTRA_HINT, signers
from melt.drivers.adb.packets import HEADER
from melt.drivers.adb.stream import GONE_HINT
from melt.drivers.remote.base import ConnectionLostError, Deadline
from melt.errors import DeviceError

_TURN_S = 1.0  # of waiting in the USB library, which no other thread can end


def open_usb(name: str, serial: str | None) -> DirectConnection:
    """The phone of this serial, or the only one.

    Raises:
        DeviceError: the library is missing, there is no such phone or more than one, or somebody else holds it.
    """
    try:
        import usb1
        from adb_shell.exceptions import UsbDeviceNotFoundError, UsbReadFailedError, UsbWriteFailedError
        from adb_shell.transport.usb_transport import UsbTransport
    except (ImportError, OSError) as e:
        raise DeviceError(f"speaking to a phone on USB without an adb server needs libusb: {e}", EXTRA_HINT) from e
    there = list(usb_serials())
    if serial is None and len(there) > 1:
        raise DeviceError(f"{name}: several phones are on USB: {', '.join(there)}", "Say which: ANDROID_SERIAL=SERIAL")
    try:
        transport = UsbTransport.find_adb(serial=serial)
    except UsbDeviceNotFoundError as e:
        raise DeviceError(
            f"{name}: no phone with USB debugging is on this computer's USB",
            "Developer options > USB debugging, and a cable that carries data.",
        ) from e
    try:
        transport.connect()
    except usb1.USBErrorBusy as e:
        raise DeviceError(
            f"{name}: the phone's USB interface is held by another program, most often an adb server",
            "Let melt speak through that server (start adb, and it is found), or end it: adb kill-server",
        ) from e
    except usb1.USBErrorAccess as e:
        raise DeviceError(
            f"{name}: this user may not open the phone's USB device",
            "Install your system's Android udev rules (Debian: android-sdk-platform-tools-common) and replug it.",
        ) from e
    except usb1.USBError as e:
        raise ConnectionLostError(f"{name}: the phone's USB device cannot be opened: {e}", GONE_HINT) from e
    link = _UsbLink(transport, (UsbReadFailedError, UsbWriteFailedError), usb1.USBErrorTimeout)
    return DirectConnection(link, name, signers())


def usb_serials() -> Iterator[str]:
    """The serials of every phone on USB; none where the library is missing."""
    with contextlib.suppress(ImportError, OSError):
        import usb1
        from adb_shell.transport.usb_transport import UsbTransport

        for transport in UsbTransport.find_all_adb_devices():
            with contextlib.suppress(usb1.USBError):  # one that this user may not open
                yield transport.serial_number


class _UsbLink:
    """See ``melt.drivers.adb.direct.Link``."""

    def __init__(self, transport: Any, failures: tuple[type[Exception], ...], late: type[Exception]) -> None:
        self._transport = transport
        self._failures = failures  # adb-shell's; each holds libusb's own as usb_error
        self._late = late

    def read(self, max_bytes: int, timeout_s: float | None = None) -> bytes:
        """In turns, so that closing ends a read that waits."""
        deadline = Deadline(timeout_s)
        while True:
            left = deadline.left_s()
            try:
                return bytes(self._transport.bulk_read(max_bytes, min(_TURN_S, left if left is not None else _TURN_S)))
            except self._failures as e:
                self._raise_unless_late(e)
            if left is not None and left <= 0:
                raise TimeoutError(f"the phone did not answer within {timeout_s} s")

    def write(self, data: bytes | memoryview, timeout_s: float | None = None) -> None:
        """adb's header and data are two transfers over USB."""
        content = bytes(data)
        for part in filter(None, (content[: HEADER.size], content[HEADER.size :])):
            try:
                self._transport.bulk_write(part, timeout_s)
            except self._failures as e:
                self._raise_unless_late(e)
                raise TimeoutError("the phone takes no data") from e

    def close(self) -> None:
        """Lets the interface go."""
        self._transport.close()

    def _raise_unless_late(self, e: Exception) -> None:
        if not isinstance(getattr(e, "usb_error", None), self._late):
            raise ConnectionLostError(f"the phone left the USB: {e}", GONE_HINT) from e
