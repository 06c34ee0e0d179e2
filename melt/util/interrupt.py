"""Ctrl-C before anything has begun: melt ends with one line and exit code 130, however much is being imported."""

import os
import signal

INTERRUPTED = 130


def leave_when_interrupted() -> None:
    """Until ``raise_when_interrupted``, Ctrl-C ends the process at once; nohup and `&` still hold."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def raise_when_interrupted() -> None:
    """From here on there may be something to clean up: Ctrl-C is a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(_signal: int, _frame: object) -> None:
    """An exception would be lost within an import at times, or come out as another."""
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)
