"""Large stores: the telemetry of many runs worked out on every processor.

The helpers are fresh interpreters that are told the runs' folders and answer in JSON. Unlike multiprocessing's,
they neither fork a process that may have threads nor run the caller's main module again. Whatever a helper
cannot do is done here, so that the answer never depends on them.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

from pydantic import TypeAdapter, ValidationError

from melt.analysis.observation import Observation, observe
from melt.analysis.run_record import RunRecord, read
from melt.store.manifest import MANIFEST, read_manifest
from melt.store.store import Run

MAX_HELPERS = 7
_SERVE = "from melt.analysis.parallel import serve; serve()"
_ANSWER: TypeAdapter[list[Observation]] = TypeAdapter(list[Observation])


def observe_all(recorded: Sequence[RunRecord], least: int) -> list[Observation]:
    """``observe`` of each run, in order.

    Args:
        recorded: the runs.
        least: fewer runs than this for each process are not worth starting one.
    """
    n_helpers = max(0, min(MAX_HELPERS, _processors() - 1, len(recorded) // least - 1))
    parts = [recorded[i :: n_helpers + 1] for i in range(n_helpers + 1)]
    helpers = [_start([str(r.run.folder.absolute()) for r in part]) for part in parts[1:]]
    answers = [[observe(r) for r in parts[0]]]
    for helper, part in zip(helpers, parts[1:], strict=True):
        answers.append(_collect(*helper, len(part)) or [observe(r) for r in part])
    out = [Observation()] * len(recorded)
    for i, answer in enumerate(answers):
        out[i :: len(parts)] = answer
    return out


def serve() -> None:
    """A helper's whole life: folders from stdin, one answer to stdout."""
    folders = [Path(text) for text in json.load(sys.stdin)]
    answer = [observe(read(Run(folder, read_manifest(folder / MANIFEST)))) for folder in folders]
    json.dump([asdict(one) for one in answer], sys.stdout)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(folders: list[str]) -> tuple["subprocess.Popen[bytes] | None", IO[bytes]]:
    answer = tempfile.TemporaryFile()  # noqa: SIM115 - closed where it is read
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        with tempfile.TemporaryFile() as request:
            request.write(json.dumps(folders).encode())
            request.seek(0)
            helper = subprocess.Popen(
                [sys.executable, "-c", _SERVE],
                stdin=request,
                stdout=answer,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )
    except OSError:
        return None, answer
    return helper, answer


def _collect(helper: "subprocess.Popen[bytes] | None", answer: IO[bytes], expected: int) -> list[Observation] | None:
    """A helper's answer; None where it failed."""
    with answer:
        if helper is None or helper.wait() != 0:
            return None
        answer.seek(0)
        try:
            observations = _ANSWER.validate_json(answer.read())
        except ValidationError:
            return None
        return observations if len(observations) == expected else None
