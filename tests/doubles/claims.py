"""Numbers of which a machine has few, each held by one test run at a time."""

import socket
from collections.abc import Iterable


def claim(kind: str, numbers: Iterable[int]) -> tuple[int, socket.socket]:
    """The first free number, and what holds it: a name that the kernel frees with this process at the latest.

    Raises:
        LookupError: all are held.
    """
    for number in numbers:
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0{kind}{number}")
        except OSError:
            name.close()
        else:
            return number, name
    raise LookupError(f"{kind}: every number is held")
