"""melt's push into an app's container against libimobiledevice's AFC client and ifuse, to the same simulated iPhone.

    python -m benchmarks.push_to_iphone [--size-mib 512] [--rounds 15]

Each in a process of its own, the phone too, in random order within a round; all over TLS, as iPhones ask for. The
transfer alone is timed: neither connecting nor mounting. All files are in memory where /dev/shm is. The figures are
the simulated phone's and this machine's, many times what a cable carries. libimobiledevice's client is called as
ideviceinstaller calls it, with parts of 1 MiB, and with parts of 4 MiB. ifuse takes some twenty times as long and has
its turn in every third round; without /dev/fuse there is none. A push of what is there already ends the lines.

melt and the phone work at once, the others in turn. So it needs two idle cores: where other programs have them, the
medians tell of those, and the fastest of what each way takes by itself.
"""

import os
import random
import subprocess
import sys
import time
from contextlib import closing, nullcontext
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.common import MIB, a_file, arguments, machine, ratio_line
from melt.drivers.base import DeviceFile
from melt.drivers.ios.driver import IosDriver
from melt.spec.profile import DeviceProfile
from tests.doubles.iphone.clients import HAS_FUSE, Clients

APP = "org.example.melt-runner"
THEIRS = {f"libimobiledevice, parts of {n} MiB": n for n in (1, 4)}
IFUSE = "ifuse, cp"
IFUSE_EVERY = 3


def main() -> None:
    """Prints a ratio for every other way of pushing."""
    parser = arguments(__doc__, size_mib=8, rounds=1)
    parser.add_argument("--size-mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    print(machine())
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        os.environ["HOME"] = os.environ["MELT_CACHE"] = name
        words = [sys.executable, "-m", "tests.doubles.iphone", str(folder / "phone"), APP]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as phone:
            assert phone.stdout is not None
            os.environ["USBMUXD_SOCKET_ADDRESS"] = phone.stdout.readline().strip()
            container = Path(phone.stdout.readline().strip())
            file = a_file(folder, args.size_mib * MIB)
            with closing(IosDriver(DeviceProfile(name="iphone", driver="ios"))) as driver:
                driver.push(a_file(folder, MIB))  # paired, and every connection there is
                compare(driver, container, file, args.rounds)
            assert phone.stdin is not None
            phone.stdin.close()


def compare(driver: IosDriver, container: Path, file: DeviceFile, rounds: int) -> None:
    """Every way, in random order within a round."""
    clients = Clients(their_address(), file.path.parent / "home")
    mount = file.path.parent / "mount"
    mount.mkdir()
    took: dict[str, list[float]] = {}
    shuffler = random.Random(0)
    with clients.mounted(mount, "--container", APP) if HAS_FUSE else nullcontext():
        for number in range(rounds):
            ways = ["melt", *THEIRS, *([IFUSE] if HAS_FUSE and number % IFUSE_EVERY == 0 else [])]
            shuffler.shuffle(ways)
            for way in ways:
                if way == "melt":
                    for part, seconds in by_melt(driver, container, file).items():
                        took.setdefault(part, []).append(seconds)
                elif way == IFUSE:
                    took.setdefault(IFUSE, []).append(by_ifuse(mount, container, file))
                else:
                    took.setdefault(way, []).append(by_libimobiledevice(container, file, THEIRS[way]))
    again, ours = took.pop("melt, there already"), took.pop("melt")
    for way, times in sorted(took.items()):
        same_rounds = ours[::IFUSE_EVERY] if way == IFUSE else ours
        rates = [[[file.size_bytes / t / 1e6] for t in side] for side in (same_rounds, times)]
        print(ratio_line(f"melt / {way}", rates[0], rates[1], "MB/s"))
    print(f"melt, there already: {median(again):.3f} s")


def by_melt(driver: IosDriver, container: Path, file: DeviceFile) -> dict[str, float]:
    """Seconds of melt, of a push and of one more."""
    began = time.perf_counter()
    placed = driver.push(file)
    pushed = time.perf_counter() - began
    assert placed.pushed
    began = time.perf_counter()
    assert not driver.push(file).pushed
    again = time.perf_counter() - began
    assert (container / placed.device_path).stat().st_size == file.size_bytes
    driver.clean()
    return {"melt": pushed, "melt, there already": again}


def by_ifuse(mount: Path, container: Path, file: DeviceFile) -> float:
    """Seconds of a copy into what ifuse has mounted."""
    target = "Documents/ifuse"
    began = time.perf_counter()
    subprocess.run(["cp", str(file.path), str(mount / target)], check=True)
    took = time.perf_counter() - began
    assert (container / target).stat().st_size == file.size_bytes
    (mount / target).unlink()
    return took


def by_libimobiledevice(container: Path, file: DeviceFile, part_mib: int) -> float:
    """Seconds of libimobiledevice's client."""
    target = "Documents/libimobiledevice"
    words = [sys.executable, "-m", "benchmarks.libimobiledevice_push", APP, str(file.path), target, str(part_mib)]
    env = os.environ | {"USBMUXD_SOCKET_ADDRESS": their_address()}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=env)
    assert (container / target).stat().st_size == file.size_bytes
    return float(done.stdout)


def their_address() -> str:
    """The same usbmuxd's, as libimobiledevice writes it."""
    return f"UNIX:{os.environ['USBMUXD_SOCKET_ADDRESS']}"


if __name__ == "__main__":
    main()
