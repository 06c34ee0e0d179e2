"""A second pair of hands for large stores: a pure function over many items, on every processor.

The helpers are fresh interpreters that are told the function by name. Unlike multiprocessing's, they neither
fork a process that may have threads nor run the caller's main module again. Whatever a helper cannot do is
done here, so that the answer never depends on them.
"""

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, Any

MAX_HELPERS = 7
_SERVE = "from melt.analysis.processes import serve; serve()"


def over(function: str, items: Sequence[Any], least: int) -> list[Any]:
    """The function's answer for each item, in order.

    Args:
        function: "module:name" of a pure function of one item, importable and with picklable answers.
        items: picklable.
        least: fewer items than this for each process are not worth starting one.
    """
    n_helpers = min(MAX_HELPERS, _processors() - 1, len(items) // least - 1)
    parts = [items[i :: n_helpers + 1] for i in range(max(n_helpers, 0) + 1)] if n_helpers > 0 else [items]
    helpers = [_start(function, part) for part in parts[1:]]
    answers = [_here(function, parts[0])]
    for helper, part in zip(helpers, parts[1:], strict=True):
        answers.append(_collect(*helper) or _here(function, part))
    out: list[Any] = [None] * len(items)
    for i, answer in enumerate(answers):
        out[i :: len(parts)] = answer
    return out


def serve() -> None:
    """A helper's whole life: one request from stdin, one answer to stdout."""
    function, items = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by the process that started this one
    pickle.dump(_here(function, items), sys.stdout.buffer)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _here(function: str, items: Sequence[Any]) -> list[Any]:
    module, name = function.split(":")
    do = getattr(import_module(module), name)
    return [do(item) for item in items]


def _start(function: str, items: Sequence[Any]) -> tuple["subprocess.Popen[bytes] | None", IO[bytes]]:
    answer = tempfile.TemporaryFile()  # noqa: SIM115 - closed where it is read
    try:
        with tempfile.TemporaryFile() as request:
            pickle.dump((function, items), request)
            request.seek(0)
            found = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
            helper = subprocess.Popen(
                [sys.executable, "-c", _SERVE],
                stdin=request,
                stdout=answer,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": found},
            )
    except OSError:
        return None, answer
    return helper, answer


def _collect(helper: "subprocess.Popen[bytes] | None", answer: IO[bytes]) -> list[Any] | None:
    """A helper's answer; None where it failed."""
    with answer:
        if helper is None or helper.wait() != 0:
            return None
        answer.seek(0)
        try:
            found: list[Any] = pickle.load(answer)  # noqa: S301 - written by our own helper
        except (pickle.UnpicklingError, EOFError):
            return None
        return found
