"""The simulated iPhone's tunnel, held to go-ios, which has a TCP/IP stack of its own (gVisor's) and needs no root."""

import asyncio
import contextlib
import ipaddress
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymobiledevice3.remote.remote_service_discovery import RemoteServiceDiscoveryService
from pymobiledevice3.services.diagnostics import DiagnosticsService
from pymobiledevice3.services.house_arrest import HouseArrestService
from pymobiledevice3.services.installation_proxy import InstallationProxyService

from tests.doubles.iphone.app import App
from tests.doubles.iphone.clients import Clients
from tests.doubles.iphone.ip import Host, checksum
from tests.doubles.iphone.model import IPHONE_13
from tests.doubles.iphone.phone import IPhone
from tests.doubles.iphone.remote_xpc import decode, encode
from tests.doubles.test_iphone import APP, clients, paired, sleeper
from tests.support.waiting import wait_until

pytestmark = pytest.mark.doubles

__all__ = ["clients", "paired", "sleeper"]

INSTRUMENTS = "com.apple.instruments.dtservicehub"


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[IPhone]:
    with IPhone(tmp_path / "iphone", IPHONE_13) as simulated:
        yield simulated


def test_programs_are_started_watched_and_ended_in_a_tunnel(phone: IPhone, paired: Clients, sleeper: App) -> None:
    assert paired.go_ios("launch", APP).returncode != 0  # lockdownd has no developer services any more
    with paired.go_ios_tunnel(phone.udid) as tunnel:
        started = paired.go_ios("launch", APP, "--arg=one", *tunnel)
        assert started.returncode == 0, started.stderr
        (app,) = phone.apps.running.values()
        listed = json.loads(paired.go_ios("ps", *tunnel).stdout)
        assert [p["Pid"] for p in listed if p["Name"] == "sleeper"] == [app.pid]
        events = phone.apps.container(sleeper) / "Documents/no.events.jsonl"
        wait_until(lambda: events.read_text() == "woke with one\n")
        assert paired.go_ios_says('"cpu_total_load":', "sysmontap", *tunnel)
        assert paired.go_ios("kill", APP, *tunnel).returncode == 0
        wait_until(lambda: not app.alive)
    wait_until(lambda: not phone.tunnels)


def test_a_service_is_had_after_a_check_in(phone: IPhone, paired: Clients) -> None:
    with paired.go_ios_tunnel(phone.udid) as tunnel:
        assert paired.go_ios_says("still here", "syslog", *tunnel)
        phone.locked = True
        assert "still here" not in paired.go_ios_for(1.5, "syslog", *tunnel)


def test_a_tunnel_carries_files_whole(phone: IPhone, paired: Clients, sleeper: App) -> None:
    """Bytes by gVisor's TCP both ways, many windows of them; AFC on top by pymobiledevice3."""
    content = os.urandom(3 * 2**20 + 17)

    async def there_and_back(tunnel: list[str]) -> tuple[list[str], int, bytes]:
        async with RemoteServiceDiscoveryService(*by_go_ios(tunnel)) as rsd:
            async with InstallationProxyService(rsd) as proxy:
                apps = list(await proxy.get_apps("User"))
            async with DiagnosticsService(rsd) as diagnostics:
                current_ma = (await diagnostics.get_battery())["InstantAmperage"]
            async with await HouseArrestService.create(rsd, APP) as afc:
                await afc.set_file_contents("Documents/weights", content)
                return apps, current_ma, await afc.get_file_contents("Documents/weights")

    with paired.go_ios_tunnel(phone.udid) as tunnel:
        apps, current_ma, back = asyncio.run(there_and_back(tunnel))
    assert (apps, current_ma) == ([APP], 950)
    assert back == content
    assert (phone.apps.container(sleeper) / "Documents/weights").read_bytes() == content
    assert phone.tunnelled_bytes > len(content)


def by_go_ios(tunnel: list[str]) -> tuple[tuple[str, int], str, Any]:
    """What pymobiledevice3 has to know to reach RSD through go-ios' tunnel: whoever connects says first where to."""
    address, rsd_port, own_port = (word.partition("=")[2] for word in tunnel)

    async def dial(host: str, port: int) -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(own_port))
        writer.write(ipaddress.ip_address(host).packed + port.to_bytes(4, "little"))
        return reader, writer

    return (address, int(rsd_port)), "tunnel", dial


def test_developer_services_are_listed_while_the_image_is_mounted(phone: IPhone, paired: Clients) -> None:
    with paired.go_ios_tunnel(phone.udid) as tunnel:
        assert INSTRUMENTS in json.loads(paired.go_ios("rsd", "ls", *tunnel).stdout)
        phone.images.mounted.clear()
        assert INSTRUMENTS not in json.loads(paired.go_ios("rsd", "ls", *tunnel).stdout)


def test_a_tunnel_breaks_with_the_cable(phone: IPhone, paired: Clients) -> None:
    with paired.go_ios_tunnel(phone.udid) as tunnel:
        phone.pull_cable()
        wait_until(lambda: not phone.tunnels)
        assert paired.go_ios("ps", *tunnel, timeout_s=20).returncode != 0


OBJECTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
    | st.binary()
    | st.uuids().map(lambda u: uuid.UUID(bytes=u.bytes)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc.-é", max_size=9), inner),
    max_leaves=12,
)


@given(OBJECTS)
def test_xpc_objects_come_back(value: Any) -> None:
    assert decode(encode(value)) == value


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader_of_xpc_objects(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode(data)


@given(st.binary(max_size=90), st.booleans())
def test_no_packet_breaks_the_phones_end_of_a_tunnel(packet: bytes, for_it: bool) -> None:
    sent: list[bytes] = []
    host = Host("fd00::1", 1280, sent.append, lambda _port: None)
    if for_it and len(packet) >= 60:
        packet = packet[:6] + b"\x06" + packet[7:24] + host.address + packet[40:]
    host.take(packet)
    assert len(sent) <= (len(packet) >= 60)  # nobody listens: at most a word that it is refused


@given(st.binary(max_size=300))
def test_a_checksum_is_that_of_rfc_1071(data: bytes) -> None:
    padded = data + bytes(len(data) % 2)
    total = sum(int.from_bytes(padded[i : i + 2], "big") for i in range(0, len(padded), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    assert (checksum(data) + total) % 0xFFFF == 0
