"""The rows of llama-bench (``-o jsonl``) as events of protocol 1; what it does not measure is in none of them."""

import json
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from melt.events import Accelerator, Done, Hello, Repetitions, Warned

_Tokens = Annotated[int, Field(ge=0, le=2**31, strict=True)]
_Nanoseconds = Annotated[int, Field(ge=1, le=2**62, strict=True)]


class Row(BaseModel):
    """One test of llama-bench, by the names of its own columns; versions differ in what else they tell."""

    model_config = ConfigDict(frozen=True, extra="allow")

    build_commit: str
    build_number: int
    n_prompt: _Tokens
    n_gen: _Tokens
    n_depth: _Tokens = 0  # none before April 2025
    samples_ns: Annotated[tuple[_Nanoseconds, ...], Field(min_length=1, max_length=100_000)]
    cpu_info: str = ""
    gpu_info: str = ""
    backends: str = ""
    model_filename: str = ""

    @property
    def repetitions(self) -> Repetitions | None:
        """The test as an event; None for one that reads and writes in one (``-pg``), whose phases nobody can tell."""
        if self.n_prompt and not self.n_gen:
            return Repetitions(phase="prefill", tokens=self.n_prompt, depth=self.n_depth, took_ns=self.samples_ns)
        if self.n_gen and not self.n_prompt:
            return Repetitions(phase="decode", tokens=self.n_gen, depth=self.n_depth, took_ns=self.samples_ns)
        return None


def read_row(line: str) -> Row | None:
    """A line of JSON as a row; None where it is none."""
    try:
        return Row.model_validate_json(line)
    except (ValidationError, ValueError, RecursionError):
        return None


def hello(row: Row, pid: int | None) -> Hello:
    """Who it is, by its own word. A processor and each GPU that it names are what it can compute on."""
    gpus = [name.strip() for name in row.gpu_info.split(",") if name.strip()]
    return Hello(
        protocol=1,
        runner="llama-bench",
        runner_version=f"b{row.build_number}",
        engine="llama.cpp",
        engine_version=row.build_commit,
        engine_build={"backends": row.backends},
        system_info=row.cpu_info,
        accelerators=(
            Accelerator(name="CPU", kind="cpu", description=row.cpu_info),
            *(Accelerator(name=name, kind="gpu") for name in gpus),
        ),
        pid=pid,
    )


def told(row: Row) -> dict[str, Any]:
    """The row as it came, but for where the model lay."""
    return row.model_dump(mode="json") | {"model_filename": PurePath(row.model_filename).name}


class LlamaBenchOutput:
    """Turns the lines of one run of ``llama_bench.sh``, a prefill and a decode at its depth, into protocol 1."""

    def __init__(self) -> None:
        self._prefill: Row | None = None
        self._greeted = False

    def __call__(self, line: str) -> list[str]:
        """What a line says; one that is no row is passed on, and reported as what it is."""
        pid = _pid(line)
        if pid is not None and self._prefill is not None and not self._greeted:
            return self._greet(self._prefill, pid)
        row = read_row(line)
        found = row.repetitions if row else None
        if row is None or found is None:
            return [line]
        if found.phase == "prefill" and self._prefill is None:
            self._prefill = row
            return [_repetitions(row, found)]
        greeting = [] if self._greeted else self._greet(row, None)
        return [*greeting, _repetitions(row, found), Done(status="ok").model_dump_json()]

    def _greet(self, row: Row, pid: int | None) -> list[str]:
        self._greeted = True
        lines = [hello(row, pid).model_dump_json()]
        if row.gpu_info and (row.model_extra or {}).get("n_gpu_layers") == 0:
            message = "a GPU is there: for a large batch llama.cpp may use it although no layer is on it"
            lines.append(Warned(kind="accelerator", message=message).model_dump_json())
        return lines


def _repetitions(row: Row, found: Repetitions) -> str:
    return json.dumps(found.model_dump(mode="json") | {"row": told(row)}, ensure_ascii=False)


def _pid(line: str) -> int | None:
    """The process to watch, as the script tells it between the two tests."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    pid = told.get("pid") if isinstance(told, dict) else None
    return pid if isinstance(pid, int) and not isinstance(pid, bool) and 0 < pid < 2**31 else None
