"""Shell and files on a phone in a box, through Google's adb server and directly."""

import hashlib
import io
import os
import threading
from pathlib import Path

import pytest

from melt.drivers.adb import sync
from melt.drivers.adb.direct import open_tcp
from melt.drivers.adb.remote import AdbRemote
from melt.drivers.adb.stream import Connection
from melt.drivers.base import DeviceFile, ExitStatus
from melt.drivers.remote.base import ConnectionLostError
from melt.drivers.remote.files import RemoteFiles
from melt.drivers.remote.process import RemoteProcess, run_command
from melt.errors import DeviceError, MeltError
from tests.doubles.phone.box import PhoneBox
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

MIB = 2**20
WORK = "/data/local/tmp/melt"


def a_file(folder: Path, size: int, name: str = "model.gguf") -> DeviceFile:
    content = os.urandom(min(size, MIB)) * (size // min(size, MIB))
    path = folder / name
    path.write_bytes(content)
    return DeviceFile(name, path, hashlib.sha256(content).hexdigest(), len(content))


def test_a_command_gives_its_exit_code_and_both_its_outputs(connection: Connection) -> None:
    done = run_command(AdbRemote(connection), "echo out; echo err >&2; exit 7")
    assert (done.code, done.text, done.stderr) == (7, "out\n", "err\n")
    assert run_command(AdbRemote(connection), "cat").text == ""  # its input is empty


def test_every_byte_comes_through(connection: Connection) -> None:
    content = os.urandom(8 * MIB)
    sync.send(connection, io.BytesIO(content), "/data/local/tmp/blob", 0o644, 1)
    assert run_command(AdbRemote(connection), "cat /data/local/tmp/blob").stdout == content
    back = io.BytesIO()
    sync.receive(connection, "/data/local/tmp/blob", back)
    assert back.getvalue() == content


def test_many_streams_at_once_keep_their_own_answers(connection: Connection) -> None:
    wrong: list[str] = []

    def ask(n: int) -> None:
        try:
            for i in range(10):
                if (said := run_command(AdbRemote(connection), f"echo {n}-{i}").text) != f"{n}-{i}\n":
                    wrong.append(said)
        except MeltError as e:
            wrong.append(e.message)

    def send() -> None:
        sync.send(connection, io.BytesIO(bytes(64 * MIB)), "/data/local/tmp/zeros", 0o644, 1)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)] + [threading.Thread(target=send)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert sync.size_bytes(connection, "/data/local/tmp/zeros") == 64 * MIB


def test_a_process_is_followed_line_by_line_and_told_things(connection: Connection) -> None:
    process = RemoteProcess(AdbRemote(connection), 'while read l; do echo "heard $l"; done; echo end >&2; exit 5')
    process.tell("one")
    assert process.next_line(10) == "heard one"
    with pytest.raises(TimeoutError):
        process.next_line(0.2)
    process.tell("two")
    assert process.next_line(10) == "heard two"
    process.end_of_input()
    assert process.next_line(10) is None
    assert process.wait(10) == ExitStatus(5)
    assert process.stderr() == "end"
    process.kill()


def test_a_killed_process_is_gone_with_all_it_started(phone: PhoneBox, connection: Connection) -> None:
    process = RemoteProcess(AdbRemote(connection), "sleep 1000 & sleep 1001 | sleep 1002")
    wait_until(lambda: len([p for p in phone.processes() if p.argv[:1] == ("sleep",)]) == 3)
    process.kill()
    assert not [p for p in phone.processes() if "sleep" in p.argv]
    assert process.wait(1) == ExitStatus(None, "SIGKILL")


def test_a_signal_is_told_from_an_exit_code(connection: Connection) -> None:
    process = RemoteProcess(AdbRemote(connection), "kill -SEGV $$")
    assert process.wait(10) == ExitStatus(None, "SIGSEGV")


def test_a_line_without_end_does_not_fill_the_host(connection: Connection) -> None:
    sync.send(connection, io.BytesIO(b"x" * 40_000_000), "/data/local/tmp/long", 0o644, 1)
    process = RemoteProcess(AdbRemote(connection), "cat /data/local/tmp/long; echo; echo last")
    lengths = []
    while (line := process.next_line(30)) is not None:
        lengths.append(len(line))
    assert sum(lengths) == 40_000_000 + len("last")
    assert max(lengths) < 20_000_000
    process.kill()


def test_what_is_not_there_or_denied_is_said(connection: Connection, tmp_path: Path) -> None:
    assert sync.size_bytes(connection, "/data/local/tmp/missing") is None
    with pytest.raises(DeviceError, match=r"missing.*No such file"):
        sync.receive(connection, "/data/local/tmp/missing", io.BytesIO())
    with pytest.raises(DeviceError, match=r"/system/x.*denied|Read-only"):
        sync.send(connection, io.BytesIO(b"x"), "/system/x", 0o644, 1)
    with pytest.raises(DeviceError, match="no path of a phone"):
        sync.size_bytes(connection, "/" + "x" * 2000)


def test_a_file_beyond_4_gib_has_its_size(connection: Connection, phone: PhoneBox) -> None:
    run_command(AdbRemote(connection), "truncate -s 5000000000 /data/local/tmp/huge")
    assert sync.size_bytes(connection, "/data/local/tmp/huge") == 5_000_000_000


def test_a_full_disk_ends_a_transfer_with_its_reason(connection: Connection, phone: PhoneBox) -> None:
    phone.fill_disk(leave_bytes=8 * MIB)
    with pytest.raises(DeviceError, match="No space left"):
        sync.send(connection, io.BytesIO(bytes(256 * MIB)), "/data/local/tmp/big", 0o644, 1)
    assert run_command(AdbRemote(connection), "echo alive").text == "alive\n"


def test_a_file_travels_once_and_is_verified(connection: Connection, phone: PhoneBox, tmp_path: Path) -> None:
    files, file = RemoteFiles(AdbRemote(connection), WORK), a_file(tmp_path, 20 * MIB)
    files.prepare()
    seen: list[tuple[int, int]] = []
    first = files.push(file, lambda done, total: seen.append((done, total)))
    assert first.pushed
    assert phone.sha256(first.device_path) == file.sha256
    assert seen[-1] == (file.size_bytes, file.size_bytes)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    again = files.push(file)
    assert (again.device_path, again.pushed) == (first.device_path, False)


def test_a_file_that_is_cut_short_on_the_phone_is_sent_again(
    connection: Connection, phone: PhoneBox, tmp_path: Path
) -> None:
    files, file = RemoteFiles(AdbRemote(connection), WORK), a_file(tmp_path, 2 * MIB)
    files.prepare()
    place = files.push(file).device_path
    run_command(AdbRemote(connection), f"truncate -s 1000 {place}")
    assert files.push(file).pushed
    assert phone.sha256(place) == file.sha256


def test_a_file_that_arrives_damaged_is_not_kept(connection: Connection, phone: PhoneBox, tmp_path: Path) -> None:
    files, file = RemoteFiles(AdbRemote(connection), WORK), a_file(tmp_path, 2 * MIB)
    files.prepare()
    lying = DeviceFile(file.name, file.path, "0" * 64, file.size_bytes)
    with pytest.raises(MeltError, match="arrived damaged"):
        files.push(lying)
    assert run_command(AdbRemote(connection), f"ls {WORK}/files {WORK}/incoming").text.split() == [
        f"{WORK}/files:",
        f"{WORK}/incoming:",
    ]


def test_no_room_is_said_before_anything_is_sent(connection: Connection, phone: PhoneBox, tmp_path: Path) -> None:
    files, file = RemoteFiles(AdbRemote(connection), WORK), a_file(tmp_path, 32 * MIB)
    files.prepare()
    phone.fill_disk(leave_bytes=16 * MIB)
    with pytest.raises(DeviceError, match="needs 64 MiB of room on the phone, which has 16 MiB") as e:
        files.push(file)
    assert "melt devices clean" in e.value.hint


def test_cleaning_removes_what_was_used_longest_ago(connection: Connection, phone: PhoneBox, tmp_path: Path) -> None:
    files = RemoteFiles(AdbRemote(connection), WORK)
    files.prepare()
    old, new = (a_file(tmp_path, 2 * MIB, f"{n}.gguf") for n in ("old", "new"))
    places = {name: files.push(f).device_path for name, f in (("old", old), ("new", new))}
    run_command(AdbRemote(connection), f"touch -d 2020-01-01T00:00:00 {places['new']}")  # used before the other one
    assert files.clean(3 * MIB) == 2 * MIB
    assert sync.size_bytes(connection, places["new"]) is None
    assert sync.size_bytes(connection, places["old"]) is not None
    assert files.clean() == 2 * MIB
    assert run_command(AdbRemote(connection), f"ls {WORK}/files").text == ""


def test_a_phone_that_went_away_is_an_error_within_seconds(phone: PhoneBox, connection: Connection) -> None:
    process = RemoteProcess(AdbRemote(connection), "exec sleep 1000")
    phone.kill_adbd()
    with pytest.raises(ConnectionLostError):
        process.wait(30)
    with pytest.raises(ConnectionLostError):
        run_command(AdbRemote(connection), "true", 10)
    process.kill()


def test_a_phone_that_hangs_is_noticed(
    phone: PhoneBox, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("melt.drivers.remote.process._HEARTBEAT_S", 0.5)
    monkeypatch.setattr("melt.drivers.adb.remote.SIGN_OF_LIFE_S", 1.0)
    process = RemoteProcess(AdbRemote(connection), "exec sleep 1000", heartbeat=True)
    phone.freeze()
    try:
        with pytest.raises(ConnectionLostError):
            process.wait(30)
    finally:
        phone.thaw()
    process.kill()


def test_nothing_that_answers_there_is_no_phone() -> None:
    with pytest.raises(ConnectionLostError, match=r"127.0.0.1:1: "):
        open_tcp("127.0.0.1", 1, [])
