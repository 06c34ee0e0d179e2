"""melt's push to a phone against Google's `adb push`, to the same adbd, interleaved: on loopback and on a slow link.

    python benchmarks/push_to_phone.py [--size-mib 1024] [--rounds 3]

The phone is one in a box (tests/doubles/phone); it needs root and Debian's adbd. adb sends uncompressed, as melt
does. melt's time includes the check of the hash on the phone, which adb push makes none of, so that is also shown
apart. A push of what is there already ends the lines.
"""

import os
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.common import MIB, a_file, arguments, machine
from benchmarks.link import slow_link
from melt.drivers.adb.direct import open_tcp
from melt.drivers.adb.remote import AdbRemote
from melt.drivers.adb.server import AdbServer
from melt.drivers.adb.stream import Connection
from melt.drivers.base import DeviceFile
from melt.drivers.remote.files import RemoteFiles
from melt.drivers.remote.process import run_command
from tests.doubles.phone.box import PhoneBox

TARGET = "/data/local/tmp/pushed"
WORK = "/data/local/tmp/melt"


def main() -> None:
    """Prints a line a way of pushing and link."""
    parser = arguments(__doc__, size_mib=8, rounds=1)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(machine())
    with TemporaryDirectory() as name, adb_server(Path(name)) as env:
        file = a_file(Path(name), args.size_mib * MIB)
        with PhoneBox("pixel-8", Path(name) / "phone", disk_bytes=3 * file.size_bytes) as phone:
            host, port = phone.address.split(":")
            compare("loopback", (host, int(port)), file, args.rounds, env)
            with slow_link((host, int(port)), 30e6, 0.005) as slow_port:
                small = a_file(Path(name), min(args.size_mib, 128) * MIB)
                compare("30 MB/s, 5 ms", ("127.0.0.1", slow_port), small, args.rounds, env)


def compare(link: str, address: tuple[str, int], file: DeviceFile, rounds: int, env: dict[str, str]) -> None:
    """Every way of pushing, in random order within a round."""
    serial = f"{address[0]}:{address[1]}"
    subprocess.run(["adb", "connect", serial], env=env, check=True, capture_output=True)
    os.environ["ADB_SERVER_SOCKET"] = f"tcp:127.0.0.1:{env['ANDROID_ADB_SERVER_PORT']}"
    with ExitStack() as stack:
        connections: dict[str, Connection] = {
            "by the server": AdbServer().open_device(serial),
            "direct": open_tcp(*address, []),
        }
        for connection in connections.values():
            stack.callback(connection.close)
        took: dict[str, list[float]] = {}
        shuffler = random.Random(0)
        for _ in range(rounds):
            ways = ["adb push", *connections]
            shuffler.shuffle(ways)
            for way in ways:
                if way == "adb push":
                    took.setdefault(way, []).append(by_adb(serial, file, env))
                else:
                    for part, seconds in by_melt(connections[way], file).items():
                        took.setdefault(f"melt {way}{part}", []).append(seconds)
    theirs = median(took["adb push"])
    print(f"{file.size_bytes / MIB:.0f} MiB, {link}: adb push {file.size_bytes / theirs / 1e6:.0f} MB/s")
    for way, times in took.items():
        ours = median(times)
        if way.endswith("there already"):
            print(f"  {way:32} {ours:6.3f} s")
        elif way != "adb push":
            print(f"  {way:32} {file.size_bytes / ours / 1e6:6.0f} MB/s  ratio {theirs / ours:.3f}")


def by_adb(serial: str, file: DeviceFile, env: dict[str, str]) -> float:
    """Seconds of `adb push -Z`: uncompressed."""
    began = time.perf_counter()
    done = subprocess.run(
        ["adb", "-s", serial, "push", "-Z", str(file.path), TARGET], env=env, check=True, capture_output=True, text=True
    )
    took = time.perf_counter() - began
    assert "1 file pushed" in done.stdout, done.stdout
    subprocess.run(["adb", "-s", serial, "shell", "rm", TARGET], env=env, check=True)
    return took


def by_melt(connection: Connection, file: DeviceFile) -> dict[str, float]:
    """Seconds of the transfer alone, of the whole with its check, and of a push of what is there."""
    began = time.perf_counter()
    with file.path.open("rb") as content:
        AdbRemote(connection).send(content, TARGET, 0o644)
    transfer_s = time.perf_counter() - began
    run_command(AdbRemote(connection), f"rm -rf {TARGET} {WORK}")
    files = RemoteFiles(AdbRemote(connection), WORK)
    files.prepare()
    began = time.perf_counter()
    assert files.push(file).pushed
    whole_s = time.perf_counter() - began
    began = time.perf_counter()
    assert not files.push(file).pushed
    again_s = time.perf_counter() - began
    run_command(AdbRemote(connection), f"rm -rf {WORK}")
    return {": transfer": transfer_s, ": with the check": whole_s, ": there already": again_s}


@contextmanager
def adb_server(folder: Path) -> Iterator[dict[str, str]]:
    """An adb server of our own; gives the environment in which the adb program finds it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    home = folder / "home"
    home.mkdir()
    env = {**os.environ, "HOME": str(home), "ANDROID_ADB_SERVER_PORT": str(port)}
    subprocess.run(["adb", "start-server"], env=env, check=True, capture_output=True)
    try:
        yield env
    finally:
        subprocess.run(["adb", "kill-server"], env=env, check=False, capture_output=True)


if __name__ == "__main__":
    main()
