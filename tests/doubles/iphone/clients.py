"""Other people's programs for iPhones, which hold the simulated one to what they expect of a real one."""

import contextlib
import http.client
import json
import os
import platform
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_until

_GO_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "amd64")
_DIST = f"go-ios-linux-{_GO_ARCH}_linux_{_GO_ARCH}"
# `make go-ios` puts it there, from npm.
GO_IOS = Path(__file__).parents[3] / f".test-cache/go-ios/node_modules/go-ios/dist/{_DIST}/ios"

HAS_FUSE = os.access("/dev/fuse", os.R_OK | os.W_OK)  # a container or a chroot may have none


class Clients:
    """libimobiledevice's programs and go-ios, for one usbmuxd, with a home folder of their own."""

    def __init__(self, address: str, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._home = home
        self._env = {**os.environ, "USBMUXD_SOCKET_ADDRESS": address, "HOME": str(home)}

    def run(self, *words: str | Path, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """A program, to its end."""
        return subprocess.run(
            [str(w) for w in words],
            env=self._env,
            cwd=self._home,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def go_ios(self, *words: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """go-ios, to its end."""
        return self.run(GO_IOS, *words, timeout_s=timeout_s)

    @contextlib.contextmanager
    def go_ios_tunnel(self, udid: str) -> Iterator[list[str]]:
        """A tunnel by go-ios' own TCP/IP stack to an iPhone; gives the options by which go-ios takes it."""
        port = _two_free_ports()
        words = ["tunnel", "start", "--userspace", f"--udid={udid}", f"--tunnel-info-port={port}"]
        log = self._home / "tunnel.log"
        with (
            log.open("w") as out,
            subprocess.Popen([GO_IOS, *words], env=self._env, cwd=self._home, stdout=out, stderr=out) as own,
        ):
            try:
                told = _tunnel_of(udid, port, log)
                at = (f"--address={told['address']}", f"--rsd-port={told['rsdPort']}")
                yield [*at, f"--userspace-port={told['userspaceTunPort']}"]
            finally:
                own.terminate()

    def go_ios_for(self, seconds: float, *words: str) -> str:
        """What go-ios says until it is stopped."""
        done = self.run("timeout", "--signal=INT", str(seconds), GO_IOS, *words, timeout_s=seconds + 30)
        return done.stdout + done.stderr

    def go_ios_says(self, word: str, *words: str, limit_s: float = 30) -> bool:
        """Whether go-ios comes to say it; it is stopped then."""
        argv = ["timeout", str(limit_s), str(GO_IOS), *words]
        with subprocess.Popen(
            argv, env=self._env, cwd=self._home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as own:
            assert own.stdout is not None
            try:
                return any(word in line for line in own.stdout)
            finally:
                own.terminate()

    @contextmanager
    def mounted(self, folder: Path, *words: str) -> Iterator[Path]:
        """What ifuse shows, as an empty folder's content: ``--container ID`` or ``--documents ID``; needs HAS_FUSE."""
        said = folder.with_suffix(".log")
        with (
            said.open("wb") as log,
            subprocess.Popen(["ifuse", folder, "-f", *words], env=self._env, stderr=log) as ifuse,
        ):
            try:
                wait_until(lambda: folder.is_mount() or ifuse.poll() is not None)
                assert ifuse.poll() is None, f"ifuse mounts nothing: {said.read_text()}"
                yield folder
            finally:
                ifuse.terminate()  # it takes its mount away itself
                ifuse.wait(20)


def _two_free_ports() -> int:
    """The first of two neighbours: go-ios listens at that one and has its tunnel at the next."""
    for _ in range(50):
        with socket.create_server(("127.0.0.1", 0)) as first:
            port: int = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError), socket.create_server(("127.0.0.1", port + 1)):
                return port
    raise OSError("no two free ports beside each other")


def _tunnel_of(udid: str, port: int, log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while True:
        with contextlib.suppress(OSError), contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as asking:
            asking.request("GET", f"/tunnel/{udid}")
            answer = asking.getresponse()
            if answer.status == 200:
                return dict(json.loads(answer.read()))
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.1)
