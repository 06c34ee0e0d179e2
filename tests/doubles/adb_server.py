"""Google's adb server on a port and with a home of its own."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def own_adb_server(home: Path) -> Iterator[int]:
    """Starts one, and ends it at the end; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    home.mkdir()
    env = {**os.environ, "HOME": str(home), "ANDROID_ADB_SERVER_PORT": str(port)}
    env.pop("ADB_SERVER_SOCKET", None)
    subprocess.run(["adb", "start-server"], env=env, check=True, capture_output=True, timeout=30)
    try:
        yield port
    finally:
        subprocess.run(["adb", "kill-server"], env=env, check=False, capture_output=True, timeout=30)
