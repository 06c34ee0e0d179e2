"""Graphs compiled for an accelerator, kept by their content, the provider's version and its options.

A process of its own compiles, so that neither its time nor its memory is in what is measured.
"""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort
from channel import JobError
from clock import now_ns
from job import Job, parse_job
from onnx_decoder import Decoder
from onnx_placement import Placed, placement
from onnx_plugins import options_of, version_of
from onnx_session import choose_provider, open_session

FOLDER = "MELT_COMPILED"  # where compiled graphs are kept; beside the runner where it is not set
GRAPH, _TOLD = "compiled.onnx", "placement.json"
_MADE = "made"  # in a draft
_COMPILING = ("QNN",)
_OLD_S = 24 * 3600  # no compile takes so long


@dataclass(frozen=True)
class Compiled:
    """A graph that was compiled, and where its operators went before they became one."""

    path: str
    placed: Placed

    @property
    def size_bytes(self) -> int:
        """Of all that was made of it."""
        near = Path(self.path)
        return sum(f.stat().st_size for f in near.parent.iterdir()) if near.name == GRAPH else 0


def compiles(provider: str) -> bool:
    """Whether a provider makes something of a graph that is worth keeping."""
    return provider in _COMPILING


def compiled(graph: str, decoder: Decoder, job: Job, provider: str) -> tuple[Compiled, dict[str, Any]]:
    """A graph for the provider, compiled where that was not done before; and what an event says of it.

    Raises:
        JobError: the provider refuses the graph; it says which operators, where it can tell.
    """
    told: dict[str, Any] = {"graph": os.path.basename(graph), "cached": True}  # noqa: PTH119
    place = _place(graph, decoder, job, provider)
    kept = _kept(place)
    if kept is None:
        told |= {"cached": False, **_compile(graph, job, place)}
        kept = _kept(place)
    if kept is None:
        raise JobError("compile", f"{place}: what was compiled is not there any more, or was changed")
    made = place / GRAPH  # not there where the provider took nothing, which the job has to have allowed
    return Compiled(str(made) if made.exists() else graph, kept), told


def _kept(place: Path) -> Placed | None:
    """Which provider computes what in the graph that is kept there; None where there is none, or a damaged one."""
    try:
        told = json.loads((place / _TOLD).read_bytes())
        if told["files"] != _sizes(place):
            return None
        return {str(name): Counter({str(op): int(n) for op, n in ops.items()}) for name, ops in told["placed"].items()}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of everything that was made of a graph."""
    return {f.name: f.stat().st_size for f in sorted(folder.iterdir()) if f.name != _TOLD}


def _place(graph: str, decoder: Decoder, job: Job, provider: str) -> Path:
    kept = os.environ.get(FOLDER) or Path(sys.argv[0]).absolute().parent / "compiled"
    return Path(kept) / _key(graph, decoder, job, provider)


def _key(graph: str, decoder: Decoder, job: Job, provider: str) -> str:
    versions = [ort.__version__, provider, version_of(provider), options_of(provider), job.cpu_fallback]
    digest = hashlib.sha256(json.dumps(versions, sort_keys=True).encode())
    for file in (graph, *decoder.weight_files()):
        digest.update(_content(file))
    return digest.hexdigest()[:32]


@functools.cache
def _content(path: str) -> bytes:
    with open(path, "rb") as f:  # noqa: PTH123 - the device program keeps its imports few
        return hashlib.file_digest(f, "sha256").digest()


def _compile(graph: str, job: Job, place: Path) -> dict[str, Any]:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place.parent)
        draft = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    except OSError as e:
        raise JobError("compile", f"{place.parent}: {e.strerror}: compiled graphs are kept there") from e
    try:
        made = draft / _MADE
        made.mkdir()
        argv = [sys.executable, sys.argv[0], "compile", graph, str(made)]
        with subprocess.Popen(argv, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(job, default=vars).encode() + b"\n")
                process.stdin.flush()  # and stays open: its end tells that this process is gone
            said = process.stdout.read()
        try:
            told = json.loads(said)
        except ValueError as e:
            raise JobError("compile", f"compiling {graph} ended with status {process.returncode} and no word") from e
        if "kind" in told:
            raise JobError(told["kind"], told["message"])
        _keep(draft, place)
        return {key: told[key] for key in ("t_start_ns", "t_end_ns")}
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Removes drafts of processes that were killed long ago, and so could not."""
    for draft in folder.glob(".*"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > _OLD_S:
                shutil.rmtree(draft, ignore_errors=True)


def _keep(draft: Path, place: Path) -> None:
    """Puts what was compiled in its place, where nobody was quicker; what is damaged there goes."""
    if _kept(place) is not None:
        return
    try:
        if os.path.lexists(place):
            place.rename(draft / "damaged")
        (draft / _MADE).rename(place)
    except OSError as e:
        if _kept(place) is None:
            raise JobError("compile", f"{place}: {e.strerror}: compiled graphs are kept there") from e


def _end_with_runner(draft: Path) -> None:
    """Ends this process when its standard input does, with what it has made: nobody will want it."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        shutil.rmtree(draft, ignore_errors=True)
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()


def compile_graph(graph: str, folder: str) -> dict[str, Any]:
    """What the process for it does, for the job on its standard input: stamps, or what went wrong."""
    try:
        with open(0, "rb", buffering=0, closefd=False) as given:
            job = parse_job(json.loads(given.readline()))
        _end_with_runner(Path(folder).parent)
        provider = choose_provider(job)
        start_ns = now_ns()
        session = open_session(graph, job, provider, compile_to=str(Path(folder) / GRAPH))
        end_ns = now_ns()
        told = {"placed": placement(session), "files": _sizes(Path(folder))}
        (Path(folder) / _TOLD).write_text(json.dumps(told))
    except JobError as e:
        return {"kind": e.kind, "message": e.message}
    return {"t_start_ns": start_ns, "t_end_ns": end_ns}
