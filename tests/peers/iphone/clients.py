"""Other people's programs for iPhones, which hold the simulated one to what they expect of a real one."""

import os
import platform
import subprocess
from pathlib import Path

_GO_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "amd64")
_DIST = f"go-ios-linux-{_GO_ARCH}_linux_{_GO_ARCH}"
# `make peers` puts it there, from npm.
GO_IOS = Path(__file__).parents[3] / f".test-cache/go-ios/node_modules/go-ios/dist/{_DIST}/ios"


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

    def go_ios_for(self, seconds: float, *words: str) -> str:
        """What go-ios says until it is stopped."""
        done = self.run("timeout", "--signal=INT", str(seconds), GO_IOS, *words, timeout_s=seconds + 30)
        return done.stdout + done.stderr
