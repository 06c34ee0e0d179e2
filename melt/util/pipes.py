"""Output that outlasts its reader: ``melt run ... | head -1`` measures to the end, and ends with its own code."""

import io
import os
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Outlasting(io.FileIO):
    """A pipe into which, once nobody reads it, everything vanishes."""

    def write(self, content: "ReadableBuffer", /) -> int:
        """All of it, as far as anybody cares."""
        try:
            return super().write(content)
        except OSError as e:
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, self.fileno())  # also of what is full: it is told once, and not at the end again
            os.close(nowhere)
            if not isinstance(e, BrokenPipeError):
                raise
            return memoryview(content).nbytes


def outlasting(stream: TextIO) -> TextIO:
    """The same output; where it is a pipe, one whose reader may leave. What has no descriptor comes back as it is."""
    try:
        fd = stream.fileno()
        if stream.isatty():
            return stream
        stream.flush()
    except (OSError, ValueError, AttributeError):  # closed, or captured by a test
        return stream
    raw = io.BufferedWriter(_Outlasting(fd, "wb", closefd=False))
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors=stream.errors, line_buffering=True)
