"""A library that is all coroutines, for callers that have none: one event loop in a thread of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

T = TypeVar("T")
_END_S = 5.0
_TIDY_S = 0.05


class Loop:
    """Runs until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # What the library's own tasks and callbacks raise when a phone is pulled out. Whoever asked for something is
        # told by that; by default asyncio would print a traceback for each.
        self._loop.set_exception_handler(lambda _loop, _context: None)
        self._thread = threading.Thread(target=self._loop.run_forever, name="melt-ios", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Its result; raises what it raises, and TimeoutError."""
        self._check_open(work)
        return self.start(_within(work, timeout_s)).result(timeout_s + _END_S)

    def start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """On its way; ``end`` ends it."""
        self._check_open(work)
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _check_open(self, work: Coroutine[Any, Any, Any]) -> None:
        if self._loop.is_closed():
            work.close()
            raise ConnectionError("the connection was let go")

    def end(self, task: "Future[Any]") -> None:
        """Cancels it and waits for its end, whatever that is."""
        task.cancel()
        with contextlib.suppress(Exception, CancelledError):
            task.result(_END_S)

    def close(self) -> None:
        """Ends everything in it."""
        if self._thread.is_alive():
            with contextlib.suppress(Exception):
                self.call(_cancel_all(), _END_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_END_S)
            self._loop.close()


async def _within(work: Coroutine[Any, Any, T], timeout_s: float) -> T:
    async with asyncio.timeout(timeout_s):
        return await work


async def _cancel_all() -> None:
    tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # The library leaves a connection open where it is interrupted in the middle of making it.
    for transport in list(getattr(asyncio.get_running_loop(), "_transports", {}).values()):
        transport.abort()
    await asyncio.sleep(_TIDY_S)  # transports that were closed get their turn
