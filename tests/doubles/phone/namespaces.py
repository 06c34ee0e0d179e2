"""The box's kernel side: namespaces, the link to the host and the processes in it, with no notion of a phone.

What outlives a reboot (mounts, network) is kept by one small process, the holder; each boot has a pid and a time
namespace of its own below it. Both end when their input does, so a test that is killed leaves nothing running,
and what the kernel keeps for them goes with them.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from tests.doubles.claims import claim

HERE = Path(__file__).parent
TOOLS = ("unshare", "nsenter", "ip", "mksh", "toybox", "/usr/lib/android-sdk/platform-tools/adbd")
LINKS = 64
PORT = 5555


class BoxUnavailable(RuntimeError):  # noqa: N818  no error of the code under test
    """This machine cannot hold the box; the text says why."""


def require_box() -> None:
    """Raises BoxUnavailable where a box cannot start at all."""
    if os.geteuid() != 0:
        raise BoxUnavailable("a phone in a box needs root: it makes namespaces, mounts and a network link")
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        raise BoxUnavailable(f"a phone in a box needs {', '.join(missing)}; Debian has adbd in bookworm-backports")


def _claim(index: int | None) -> tuple[int, socket.socket]:
    """The number of a box, and what keeps other test runs off it."""
    try:
        return claim("meltbox", range(LINKS) if index is None else [index])
    except LookupError:
        said = f"box {'any' if index is None else index} of {LINKS} is held by another test run"
        raise BoxUnavailable(said) from None


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BoxUnavailable(f"{' '.join(words)}: {done.stderr.strip()}")


def _ask(child: "subprocess.Popen[str]", word: str, log: Path) -> str:
    """The rest of the line that a child answers with, which has to begin with ``word``."""
    assert child.stdout is not None
    line = child.stdout.readline()
    if line.split(" ")[0].strip() != word:
        raise BoxUnavailable(f"the box did not come as far as {word!r}: {log.read_text(errors='replace').strip()}")
    return line[len(word) :].strip()


def _end(child: "subprocess.Popen[str]") -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.close()
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()  # and the kernel kills what is below
        child.wait(5)
    child.stdout.close()


class Namespaces:
    """Storage and network of one box.

    Args:
        folder: an empty folder of the host.
        index: which of the machine's boxes; None takes a free one.
        disk_bytes: how much /data/local/tmp holds.
    """

    def __init__(self, folder: Path, index: int | None, disk_bytes: int) -> None:
        require_box()
        (folder / "root").mkdir(parents=True)
        (folder / "proc").mkdir()
        self.folder = folder.absolute()
        self.index, self._claimed = _claim(index)
        self.link = f"meltbox{self.index}"
        self.address = f"10.213.{self.index}.2"
        holder = ["unshare", "--mount", "--net", "--uts", "--ipc", "--propagation", "unchanged"]
        script = ["sh", "-eu", str(HERE / "holder.sh"), str(self.folder), str(disk_bytes)]
        self.log = self.folder / "box.log"
        with self.log.open("w") as log:
            self._holder = _start([*holder, *script], log)
        try:
            _ask(self._holder, "ready", self.log)
            self._connect()
        except BaseException:
            self.close()
            raise
        self.root = Path(f"/proc/{self._holder.pid}/root{self.folder}/root")

    def _connect(self) -> None:
        # Left by a killed test run whose namespace the kernel has not yet taken down.
        subprocess.run(["ip", "link", "delete", self.link], capture_output=True, check=False)
        pid = str(self._holder.pid)
        _run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "wlan0", "netns", pid)
        _run("ip", "address", "add", f"10.213.{self.index}.1/30", "dev", self.link)
        _run("ip", "link", "set", self.link, "up")
        self.inside("ip", "address", "add", f"{self.address}/30", "dev", "wlan0")
        self.set_link("up")

    def inside(self, *words: str) -> None:
        """Runs a program of the host in the box's network."""
        _run("nsenter", "--target", str(self._holder.pid), "--net", *words)

    def set_link(self, state: str) -> None:
        """Brings the box's end ``up`` or ``down``: as out of reach, packets vanish and connections stay open."""
        self.inside("ip", "link", "set", "wlan0", state)

    def boot(self, uptime_s: int, slept_s: int) -> "Boot":
        """Starts process 1, whose clocks say that the box has been up for so long."""
        return Boot(self._holder.pid, self.folder, uptime_s, slept_s)

    def close(self) -> None:
        subprocess.run(["ip", "link", "delete", self.link], capture_output=True, check=False)
        _end(self._holder)
        self._claimed.close()


class Boot:
    """One boot of the box: its process 1 and all below it.

    Attributes:
        init: the pid of process 1 on the host.
        adbd: the pid of adbd on the host.
        ahead_ns: how much the box's boot clock is ahead of the host's; negative, as a phone's mostly is.
    """

    def __init__(self, holder: int, folder: Path, uptime_s: int, slept_s: int) -> None:
        ahead_s = uptime_s - int(time.clock_gettime(time.CLOCK_BOOTTIME))
        monotonic_s = uptime_s - slept_s - int(time.clock_gettime(time.CLOCK_MONOTONIC))
        self.ahead_ns = ahead_s * 10**9
        self._folder = folder
        self._log = folder / "box.log"
        # Joining a mount namespace leads to its root, which is not the test's where that runs in a chroot.
        join = ["nsenter", "--target", str(holder), "--mount", "--root", "--net", "--uts", "--ipc"]
        clocks = ["--time", "--boottime", str(ahead_s), "--monotonic", str(monotonic_s)]
        new = ["unshare", "--pid", "--mount", "--propagation", "unchanged", "--fork", "--kill-child", *clocks]
        script = ["sh", "-eu", str(HERE / "boot.sh"), str(folder), sys.executable, str(HERE / "init.py")]
        with self._log.open("a") as log:
            self._init = _start([*join, *new, *script], log)
        try:
            self.init = int(_ask(self._init, "init", self._log))
            self._namespace = Path(f"/proc/{self.init}/ns/pid").readlink()
            self.start_adbd()
        except BaseException:
            self.close()
            raise

    def start_adbd(self) -> None:
        """Starts adbd and waits until it listens."""
        assert self._init.stdin is not None
        self._init.stdin.write("\n")
        self._init.stdin.flush()
        self.adbd = int(_ask(self._init, "adbd", self._log))
        table = Path(f"/proc/{self.init}/net/tcp6")
        listening = f":{PORT:04X} 00000000000000000000000000000000:0000 0A"
        deadline = time.monotonic() + 120
        while listening not in table.read_text():
            if time.monotonic() > deadline:
                said = (self._folder / "adbd.log").read_text(errors="replace")
                raise BoxUnavailable(f"adbd does not listen: {said[-2000:]}")
            time.sleep(0.005)

    def pids(self) -> list[int]:
        """What runs in the box, by its pids on the host."""
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and (folder / "ns/pid").readlink() == self._namespace:
                    found.append(int(folder.name))
            except OSError:  # it has ended meanwhile
                continue
        return found

    def lay_over_proc(self, name: str) -> None:
        """Shows a file of the box's folder ``proc`` in place of the kernel's, as a boot does for those it finds."""
        source, target = self._folder / "proc" / name, self._folder / "root/proc" / name
        _run("nsenter", "--target", str(self.init), "--mount", "--root", "mount", "--bind", str(source), str(target))

    def close(self) -> None:
        _end(self._init)


def _start(words: list[str], log: IO[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
