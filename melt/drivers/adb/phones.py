"""Which phone is meant: those that are attached, with the reason where one cannot be used, and the one asked for."""

import os
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from melt.drivers.adb.address import AdbAddress
from melt.drivers.adb.direct import open_tcp, unauthorised
from melt.drivers.adb.keys import signers
from melt.drivers.adb.remote import AdbRemote
from melt.drivers.adb.server import AdbServer, Listed
from melt.drivers.adb.stream import Connection
from melt.drivers.adb.usb import open_usb, usb_serials
from melt.drivers.remote.base import ConnectionLostError
from melt.drivers.remote.process import run_command
from melt.errors import DeviceError
from melt.spec.profile import DeviceProfile

DEFAULT_PORT = 5555
_REASONS = {
    "offline": (
        "is offline: adb knows it and it does not answer",
        "Unplug it and plug it in again, or reboot it; over Wi-Fi: adb disconnect, adb connect.",
    ),
    "no permissions": (
        "may not be opened by this user",
        "Install your system's Android udev rules (Debian: android-sdk-platform-tools-common) and replug it.",
    ),
    "recovery": ("is in recovery mode", "Boot it: adb reboot"),
    "sideload": ("is in sideload mode", "Boot it: adb reboot"),
    "bootloader": ("is in its bootloader", "Boot it: fastboot reboot"),
    "rescue": ("is in rescue mode", "Boot it: adb reboot"),
    "connecting": ("is still connecting", "Wait a moment, and try again."),
    "authorizing": ("is still looking at this computer's keys", "Wait a moment, and try again."),
}
_ATTACH = "Plug one in with Developer options > USB debugging on, or `adb connect HOST`; `adb devices -l` lists them."


def open_phone(profile: DeviceProfile) -> Connection:
    """The phone of a profile, through the adb server where there is one, else directly.

    Raises:
        DeviceError: it is not there, several could be meant, or it cannot be used; says which and what to do.
    """
    address = AdbAddress.of(profile)
    serial = address.serial or (None if address.host or address.model else os.environ.get("ANDROID_SERIAL")) or None
    if address.connector != "direct":
        server = AdbServer()
        if server.is_running() or server.start():
            return _by_server(server, profile.name, address, serial)
        if address.connector == "server":
            raise DeviceError(
                f"{profile.name}: no adb server answers at {server.host}:{server.port}", "Start it: adb start-server"
            )
    return _directly(profile.name, address, serial)


def attached() -> list[tuple[Listed, str]]:
    """Every phone that is there, and why it cannot be used; empty where it can. No server is started for it."""
    server = AdbServer()
    listed = _with_models(server) if server.is_running() else [Listed(serial, "device") for serial in usb_serials()]
    phones = []
    for device in listed:
        try:
            refuse_unusable(device)
            phones.append((device, ""))
        except DeviceError as e:
            phones.append((device, e.message.removeprefix(f"{device.serial}: ")))
    return phones


def _by_server(server: AdbServer, name: str, address: AdbAddress, serial: str | None) -> Connection:
    if address.host:
        serial = f"{address.host}:{address.port or DEFAULT_PORT}"
        if Listed(serial, "device") not in [replace(d, model="") for d in server.devices()]:
            said = server.connect(address.host, address.port or DEFAULT_PORT)
            if not said.startswith(("connected", "already connected", "failed to authenticate")):
                raise ConnectionLostError(f"{name}: adb: {said}", _ATTACH)
    # Only a choice by model asks: whoever else is attached may be measuring.
    listed = _with_models(server) if address.model else server.devices()
    chosen = choose(name, listed, serial, address.model)
    return server.open_device(chosen.serial, name)


def _with_models(server: AdbServer) -> list[Listed]:
    """The server's devices; one that greeted it without its model is asked for it."""
    return [d if d.model or d.state != "device" else replace(d, model=_model(server, d)) for d in server.devices()]


def _model(server: AdbServer, device: Listed) -> str:
    try:
        return _as_adb_prints(_ask_model(server.open_device(device.serial)))
    except DeviceError:
        return ""


def _ask_model(connection: Connection) -> str:
    return run_command(AdbRemote(connection), "getprop ro.product.model", 10.0).text.strip()


def choose(name: str, listed: Sequence[Listed], serial: str | None, model: str | None) -> Listed:
    """The one phone that fits.

    Raises:
        DeviceError: none or more than one does, or it is in no state to be used.
    """
    fitting = [d for d in listed if serial is None or d.serial == serial]
    if model is not None:
        wanted = _as_adb_prints(model)
        # A phone that is not authorised tells no model, and may be the one.
        fitting = [d for d in fitting if fnmatchcase(d.model, wanted) or (d.state != "device" and not d.model)]
        fitting = [d for d in fitting if d.state == "device"] or fitting
    elif serial is None:
        fitting = [d for d in fitting if d.state == "device"] or fitting
    if not fitting:
        there = ", ".join(f"{d.serial} ({d.model or d.state})" for d in listed)
        which = "phone" + (f" {serial}" if serial else "") + (f" of model {model}" if model else "")
        named = "ANDROID_SERIAL names it. " if serial and serial == os.environ.get("ANDROID_SERIAL") else ""
        raise DeviceError(f"{name}: no {which} is attached" + (f"; there is {there}" if there else ""), named + _ATTACH)
    if len(fitting) > 1:
        names = ", ".join(f"{d.serial} ({d.model})" if d.model else d.serial for d in fitting)
        raise DeviceError(
            f"{name}: several phones fit: {names}",
            "Say which: ANDROID_SERIAL=SERIAL melt ..., or `address: {serial: ...}` in a profile of its own.",
        )
    refuse_unusable(fitting[0])
    return fitting[0]


def refuse_unusable(device: Listed) -> None:
    """Raises DeviceError for a phone that adb lists but that cannot be used, with what to do."""
    if device.state == "device":
        return
    if device.state == "unauthorized":
        raise unauthorised(device.serial)
    reason, hint = _REASONS.get(device.state, (f"is in state {device.state!r}", "Boot it normally."))
    kind = ConnectionLostError if device.state in ("offline", "connecting", "authorizing") else DeviceError
    raise kind(f"{device.serial}: {reason}", hint)


def _as_adb_prints(model: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c == "*") else "_" for c in model)


def _directly(name: str, address: AdbAddress, serial: str | None) -> Connection:
    host, port = _network_address(address, serial)
    connection: Connection
    connection = open_tcp(host, port, signers(), name) if host else open_usb(name, serial)
    wanted = address.model
    if wanted is not None:
        model = _ask_model(connection)
        if not fnmatchcase(model, wanted):
            connection.close()
            raise DeviceError(f"{name}: the phone that is attached is a {model}, and not a {wanted}", _ATTACH)
    return connection


def _network_address(address: AdbAddress, serial: str | None) -> tuple[str | None, int]:
    """A serial of the form HOST:PORT is a phone on the network."""
    if address.host:
        return address.host, address.port or DEFAULT_PORT
    host, colon, port = (serial or "").rpartition(":")
    return (host, int(port)) if colon and port.isdigit() else (None, DEFAULT_PORT)
