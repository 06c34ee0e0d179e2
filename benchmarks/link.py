"""A slow link in front of a TCP server: so many bytes a second, and so much delay each way."""

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_CHUNK_BYTES = 32768


@contextmanager
def slow_link(server: tuple[str, int], bytes_per_s: float, rtt_s: float) -> Iterator[int]:
    """Gives the port of this machine that leads to the server by such a link."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(server)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_carry, args=(source, sink, bytes_per_s, rtt_s / 2), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _carry(source: socket.socket, sink: socket.socket, bytes_per_s: float, delay_s: float) -> None:
    """One direction. What is on its way is bounded, as a link's buffers are."""
    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    on_the_way: queue.Queue[tuple[float, bytes]] = queue.Queue(maxsize=256)

    def arrive() -> None:
        with contextlib.suppress(OSError):
            while True:
                due, part = on_the_way.get()
                if not part:
                    sink.shutdown(socket.SHUT_WR)
                    return
                time.sleep(max(0.0, due - time.monotonic()))
                sink.sendall(part)

    threading.Thread(target=arrive, daemon=True).start()
    free = time.monotonic()
    with contextlib.suppress(OSError):
        while part := source.recv(_CHUNK_BYTES):
            free = max(free, time.monotonic()) + len(part) / bytes_per_s
            on_the_way.put((free + delay_s, part))
            time.sleep(max(0.0, free - time.monotonic() - 0.002))
    on_the_way.put((0.0, b""))
