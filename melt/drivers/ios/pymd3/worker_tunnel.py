"""A tunnel in a process of its own (``worker``), so that as many iPhones as one likes have theirs at once.

Only the tunnel is there: what is said to a service travels through it, and all that melt knows of an iPhone stays in
melt's process. The worker is handed one end of a pair of sockets, so that nobody else can reach an iPhone by it.
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
import threading
from typing import Any

from pymobiledevice3.remote.remote_service_discovery import RemoteServiceDiscoveryService

from melt.drivers.ios.pymd3.errors import BACK_HINT
from melt.drivers.ios.pymd3.pipe import Pipe, check
from melt.drivers.remote.base import ConnectionLostError

_ANSWER_S = 40.0
_END_S = 5.0
_SAID_CHARS = 300


class WorkerTunnel:
    """See ``melt.drivers.ios.pymd3.tunnel.Tunnel``."""

    def __init__(self, udid: str) -> None:
        self._udid = udid
        self._worker: _Worker | None = None
        self._provider: _InWorker | None = None

    async def open(self, name: str) -> Any:
        """See ``Tunnel``."""
        if self._provider is None:
            await self.close()
            self._worker = await asyncio.to_thread(_Worker, name)
            answer = await asyncio.to_thread(self._worker.ask, {"open": self._udid, "name": name})
            self._provider = _InWorker(self._worker, self._udid, answer)
        return self._provider

    async def close(self) -> None:
        """See ``Tunnel``."""
        self._provider = None
        if self._worker is not None:
            worker, self._worker = self._worker, None
            await asyncio.to_thread(worker.close)


class _InWorker(RemoteServiceDiscoveryService):  # type: ignore[misc] # the library's classes are Any here
    """The library's provider of services, without a connection to RSD: the worker has that one."""

    def __init__(self, worker: "_Worker", udid: str, answer: dict[str, Any]) -> None:
        super().__init__((str(answer["address"]), 0), open_connection=self._dial)
        services = {str(name): {"Port": str(int(port))} for name, port in dict(answer["services"]).items()}
        self.udid, self.peer_info = udid, {"Properties": {}, "Services": services}
        self._worker = worker

    async def _dial(self, _host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        own, theirs = socket.socketpair()
        try:
            with theirs:
                await asyncio.to_thread(self._worker.ask, {"connect": port}, theirs)
            return await asyncio.open_connection(sock=own)
        except BaseException:
            own.close()
            raise


class _Worker:
    """The process. It is out of reach of a terminal's Ctrl-C, for what is under way is ended through it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._asking = threading.Lock()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        own, theirs = socket.socketpair()
        own.settimeout(_ANSWER_S)
        self._pipe = Pipe(own)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "melt.drivers.ios.pymd3.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                start_new_session=True,
            )

    def ask(self, question: dict[str, Any], end: socket.socket | None = None) -> dict[str, Any]:
        """The answer.

        Raises:
            MeltError: what the worker tells.
            ConnectionLostError: it is gone, or does not answer.
        """
        try:
            with self._asking:
                self._pipe.send(question, None if end is None else end.fileno())
                answer, _file = self._pipe.receive()
        except (EOFError, OSError, ValueError) as e:
            self._pipe.close()  # what comes late is no answer to the next question
            raise ConnectionLostError(
                f"{self._name}: the process with the tunnel to the iPhone is gone{self._last_words()}", BACK_HINT
            ) from e
        check(answer)
        return answer

    def _last_words(self) -> str:
        try:
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").strip()[-_SAID_CHARS:]
        except ValueError:  # it was let go meanwhile
            return ""
        return f": {said.splitlines()[-1]}" if said else ""

    def close(self) -> None:
        """Ends it; it ends by itself where its pipe is closed, and is ended where it does not."""
        self._pipe.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
        self._said.close()
