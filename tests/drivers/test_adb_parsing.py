"""What adb's server and a phone say, taken apart: pure functions."""

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.drivers.adb.logcat import death_lines
from melt.drivers.adb.packets import HEADER, Packet, decode_header, features_of
from melt.drivers.adb.phones import choose
from melt.drivers.adb.server import AdbServer, Listed, parse_devices
from melt.drivers.adb.shell import EXIT, STDERR, STDOUT, ShellPackets, packet
from melt.drivers.base import ExitStatus
from melt.drivers.remote.base import ConnectionLostError, exit_status
from melt.drivers.remote.files import parse_df, parse_listing, safe_name
from melt.errors import DeviceError

PACKETS = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR, EXIT, 9]), st.binary(max_size=300)), max_size=20)


@given(PACKETS, st.lists(st.integers(1, 50), min_size=1, max_size=50))
def test_shell_packets_are_the_same_however_they_are_cut(sent: list[tuple[int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(packet(kind, data) for kind, data in sent)
    packets, found, at = ShellPackets(), [], 0
    while at < len(stream):
        size = cuts[at % len(cuts)]
        found += packets.feed(stream[at : at + size])
        at += size
    assert found == sent


def test_a_shell_packet_of_absurd_size_is_refused_before_it_is_waited_for() -> None:
    with pytest.raises(DeviceError, match="a packet of 4294967295 bytes"):
        ShellPackets().feed(b"\x01\xff\xff\xff\xff")


@given(st.sampled_from([b"CNXN", b"OKAY", b"WRTE"]), st.integers(0, 2**32 - 1), st.binary(max_size=100))
def test_a_packet_is_read_as_it_was_written(command: bytes, arg: int, data: bytes) -> None:
    encoded = Packet(command, arg, 7, data).encode()
    assert decode_header(encoded[: HEADER.size]) == (command, arg, 7, len(data))
    assert encoded[HEADER.size :] == data


@given(st.binary(min_size=24, max_size=24))
def test_what_is_no_header_is_refused(header: bytes) -> None:
    # Its last four bytes would have to be the first four's complement.
    with pytest.raises(DeviceError, match="does not speak adb"):
        decode_header(header)


def test_features_are_those_of_the_greeting() -> None:
    banner = b"device::ro.product.name=x;ro.product.model=Pixel 8;features=shell_v2,stat_v2\0"
    assert features_of(banner) == {"shell_v2", "stat_v2"}
    assert features_of(b"device::") == frozenset()


LISTING = """38171FDJH00000         device usb:1-1 product:shiba model:Pixel_8 device:shiba transport_id:5
R5CW000000             unauthorized usb:1-2 transport_id:6
192.168.1.7:5555       offline transport_id:7
(no serial number)     no permissions (missing udev rules? user is in the plugdev group); see [http://...]
????????????           no permissions
"""


def test_devices_are_listed_with_state_and_model() -> None:
    found = {d.serial: d for d in parse_devices(LISTING)}
    assert found["38171FDJH00000"] == Listed("38171FDJH00000", "device", "Pixel_8")
    assert found["R5CW000000"].state == "unauthorized"
    assert found["192.168.1.7:5555"].state == "offline"
    assert found["????????????"].state == "no permissions"


@given(st.text(max_size=200))
def test_no_listing_breaks_the_host(text: str) -> None:
    parse_devices(text)


def test_a_phone_is_chosen_by_model_serial_or_because_it_is_the_only_one() -> None:
    pixel, galaxy = Listed("A", "device", "Pixel_8"), Listed("B", "device", "SM_S911B")
    asleep, foreign = Listed("C", "offline"), Listed("D", "unauthorized")
    assert choose("p", [pixel, galaxy], None, "Pixel 8") == pixel
    assert choose("p", [pixel, galaxy], None, "SM-S911*") == galaxy
    assert choose("p", [pixel, galaxy], "B", None) == galaxy
    assert choose("p", [pixel, asleep, foreign], None, None) == pixel
    with pytest.raises(DeviceError, match="several phones fit: A"):
        choose("p", [pixel, galaxy], None, None)
    with pytest.raises(DeviceError, match="no phone of model Pixel 7 is attached; there is A"):
        choose("p", [pixel], None, "Pixel 7")
    with pytest.raises(DeviceError, match="no phone X is attached"):
        choose("p", [pixel], "X", None)
    with pytest.raises(DeviceError, match="no phone is attached"):
        choose("p", [], None, None)


def test_a_phone_that_cannot_be_used_says_why_and_what_to_do() -> None:
    with pytest.raises(DeviceError) as unknown:
        choose("p", [Listed("D", "unauthorized")], None, "Pixel 8")
    assert "has not allowed USB debugging" in unknown.value.message
    assert "tap Allow" in unknown.value.hint
    with pytest.raises(ConnectionLostError, match="offline"):
        choose("p", [Listed("C", "offline")], None, None)
    with pytest.raises(ConnectionLostError, match="still looking"):
        choose("p", [Listed("C", "authorizing")], None, None)
    with pytest.raises(DeviceError) as denied:
        choose("p", [Listed("C", "no permissions")], None, None)
    assert "udev" in denied.value.hint


@pytest.mark.parametrize(
    ("said", "comes_back"),
    [("device still connecting", True), ("device still authorizing", True), ("unknown host service", False)],
)
def test_a_server_tells_of_a_phone_that_is_on_its_way(
    said: str, comes_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the adb server says it, over a socket."""

    def answer() -> None:
        client, _ = listening.accept()
        with client:
            client.recv(100)
            client.sendall(f"FAIL{len(said):04x}{said}".encode())

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer).start()
        monkeypatch.setenv("ADB_SERVER_SOCKET", f"tcp:127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(DeviceError, match=said) as told:
            AdbServer().open_device("C")
    assert isinstance(told.value, ConnectionLostError) == comes_back


def test_df_of_phones() -> None:
    toybox = (
        "Filesystem  1K-blocks  Used Available Use% Mounted on\n/dev/block/dm-5 112332180 40000 72000000  1% /data\n"
    )
    assert parse_df(toybox) == 72000000 * 1024
    long = "Filesystem 1K-blocks Used Available Use% Mounted on\n/dev/block/dm-long\n 100 40 60 40% /data\n"
    assert parse_df(long) == 60 * 1024
    with pytest.raises(DeviceError):
        parse_df("df: no such file")


def test_only_files_that_melt_made_are_listed_for_removal() -> None:
    sha = "a" * 64
    text = f"170 5 files/{sha}/model.gguf\n171 5 files/../../x\n172 5 files/{sha}/a b\nfiles/{sha}/x\n"
    assert parse_listing(text) == [(170, 5, f"files/{sha}/model.gguf")]


@given(st.text(max_size=300))
def test_a_name_on_the_phone_is_harmless(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert not set(safe) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert not safe.startswith(".")


def test_exit_codes_that_stand_for_signals() -> None:
    assert exit_status(0) == ExitStatus(0)
    assert exit_status(1) == ExitStatus(1)
    assert exit_status(137) == ExitStatus(None, "SIGKILL")
    assert exit_status(139) == ExitStatus(None, "SIGSEGV")
    assert exit_status(255) == ExitStatus(255)


def test_the_log_tells_of_this_process_alone() -> None:
    lines = [
        "I/lowmemorykiller(  500): Kill 'melt-runner' (4242), uid 2000, oom_score_adj -950",
        "I/lowmemorykiller(  500): Kill 'other' (14242), uid 10000, oom_score_adj 900",
        "I/chatty( 4242): said 3 lines",
        "F/libc    ( 4242): Fatal signal 11 (SIGSEGV), code 1",
    ]
    assert death_lines(lines, 4242) == [lines[0], lines[3]]
