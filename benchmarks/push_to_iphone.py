"""melt's push into an app's container against libimobiledevice's own AFC client, to the same simulated iPhone.

    python -m benchmarks.push_to_iphone [--size-mib 512] [--rounds 5]

Each in a process of its own, the phone too, in random order within a round; both over TLS, as iPhones ask for. The
transfer alone is timed on both sides: connecting is not. All files are in memory where /dev/shm is. The figures are
the simulated phone's and this machine's, many times what a cable carries. A push of what is there already ends the
lines.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.common import MIB, a_file, machine
from melt.drivers.base import DeviceFile
from melt.drivers.ios.driver import IosDriver
from melt.profile import DeviceProfile

APP = "org.example.melt-runner"
PARTS_MIB = (1, 4)


def main() -> None:
    """Prints a line a way of pushing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(machine())
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        os.environ["HOME"] = os.environ["MELT_CACHE"] = name
        words = [sys.executable, "-m", "tests.peers.iphone", str(folder / "phone"), APP]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as phone:
            assert phone.stdout is not None
            os.environ["USBMUXD_SOCKET_ADDRESS"] = phone.stdout.readline().strip()
            container = Path(phone.stdout.readline().strip())
            file = a_file(folder, args.size_mib * MIB)
            with closing(IosDriver(DeviceProfile(name="iphone", driver="ios"))) as driver:
                driver.free_bytes()  # paired, and the container open
                compare(driver, container, file, args.rounds)
            assert phone.stdin is not None
            phone.stdin.close()


def compare(driver: IosDriver, container: Path, file: DeviceFile, rounds: int) -> None:
    """Every way, in random order within a round."""
    took: dict[str, list[float]] = {}
    shuffler = random.Random(0)
    for _ in range(rounds):
        ways = [*PARTS_MIB, 0]
        shuffler.shuffle(ways)
        for part_mib in ways:
            if part_mib:
                name = f"libimobiledevice, parts of {part_mib} MiB"
                took.setdefault(name, []).append(by_libimobiledevice(container, file, part_mib))
                continue
            began = time.perf_counter()
            placed = driver.push(file)
            took.setdefault("melt", []).append(time.perf_counter() - began)
            assert placed.pushed
            began = time.perf_counter()
            assert not driver.push(file).pushed
            took.setdefault("melt, there already", []).append(time.perf_counter() - began)
            assert (container / placed.device_path).stat().st_size == file.size_bytes
            driver.clean()
    theirs = took[f"libimobiledevice, parts of {PARTS_MIB[0]} MiB"]
    for way, times in sorted(took.items()):
        print(f"{way:36} {median(times):7.3f} s", end="")
        if not way.endswith("already"):
            ratios = sorted(t / o for t, o in zip(theirs, times, strict=True))
            rate = file.size_bytes / median(times) / 1e6
            print(f"  {rate:6.0f} MB/s  ratio {median(ratios):.3f} ({ratios[0]:.2f} to {ratios[-1]:.2f})", end="")
        print(flush=True)


def by_libimobiledevice(container: Path, file: DeviceFile, part_mib: int) -> float:
    """Seconds of libimobiledevice's client."""
    target = "Documents/theirs"
    words = [sys.executable, "-m", "benchmarks.libimobiledevice_push", APP, str(file.path), target, str(part_mib)]
    env = os.environ | {"USBMUXD_SOCKET_ADDRESS": f"UNIX:{os.environ['USBMUXD_SOCKET_ADDRESS']}"}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=env)
    assert (container / target).stat().st_size == file.size_bytes
    (container / target).unlink()
    return float(done.stdout)


if __name__ == "__main__":
    main()
