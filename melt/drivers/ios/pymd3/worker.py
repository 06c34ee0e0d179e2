"""A process that has the tunnel to one iPhone, and connects melt to the services in it.

    python -m melt.drivers.ios.pymd3.worker FD

The library's TCP/IP stack is there once in a process, so that two iPhones need two. FD is the worker's end of a pipe
(``pipe``); the process ends when the other one is closed.
"""

import asyncio
import contextlib
import socket
import sys
from typing import Any

from melt.drivers.ios.pymd3.errors import explain
from melt.drivers.ios.pymd3.pipe import Pipe, told_error
from melt.drivers.ios.pymd3.tunnel import OwnTunnel

_PART_BYTES = 65536


async def serve(pipe: Pipe) -> None:
    """Answers until the other end is gone."""
    worker = _Worker()
    try:
        while True:
            message, file = await asyncio.to_thread(pipe.receive)
            pipe.send(await worker.answer(message, file))
    except (EOFError, OSError):
        return
    finally:
        await worker.close()


class _Worker:
    def __init__(self) -> None:
        self._tunnel: OwnTunnel | None = None
        self._rsd: Any = None
        self._name = ""
        self._relays: set[asyncio.Task[None]] = set()

    async def answer(self, message: dict[str, Any], file: int | None) -> dict[str, Any]:
        try:
            if "open" in message:
                return await self._open(str(message["open"]), str(message["name"]))
            return await self._connect(int(message["connect"]), file)
        except Exception as e:
            return told_error(explain(e, self._name, "in its tunnel", connected=True))

    async def _open(self, udid: str, name: str) -> dict[str, Any]:
        self._name, self._tunnel = name, OwnTunnel(udid)
        self._rsd = await self._tunnel.open(name)
        services = {str(n): self._rsd.get_service_port(n) for n in self._rsd.peer_info["Services"]}
        return {"address": str(self._rsd.service.address[0]), "services": services}

    async def _connect(self, port: int, file: int | None) -> dict[str, Any]:
        if file is None:
            raise ValueError("nothing to connect with")
        host = socket.socket(fileno=file)
        try:
            if self._rsd is None:
                raise ConnectionError("no tunnel is open")
            dial = self._rsd.open_connection or asyncio.open_connection
            there = await dial(self._rsd.service.address[0], port)
        except BaseException:
            host.close()
            raise
        task = asyncio.create_task(_relay(await asyncio.open_connection(sock=host), there))
        self._relays.add(task)
        task.add_done_callback(self._relays.discard)
        return {"connected": port}

    async def close(self) -> None:
        for task in self._relays:
            task.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)
        if self._tunnel is not None:
            with contextlib.suppress(Exception):
                await self._tunnel.close()


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _relay(here: Ends, there: Ends) -> None:
    """Until either end is closed; then both are, for no service goes on with half a connection."""
    ways = [asyncio.create_task(_pass_on(here[0], there[1])), asyncio.create_task(_pass_on(there[0], here[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for writer in (here[1], there[1]):
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_PART_BYTES):
            writer.write(data)
            await writer.drain()


def main() -> None:
    """See the module."""
    end = socket.socket(fileno=int(sys.argv[1]))
    pipe = Pipe(end)
    try:
        asyncio.run(serve(pipe))
    finally:
        pipe.close()


if __name__ == "__main__":
    main()
