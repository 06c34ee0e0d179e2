"""The rows of llama-bench (``-o jsonl``) as events of protocol 1; what it does not measure is in none of them."""

import json
import re
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from melt.spec.cell import Cell
from melt.spec.events import Accelerator, Done, Failed, Hello, Repetitions, Text, Warned
from melt.spec.job import PROTOCOL
from melt.util.text import plural

# What it calls the axes that its tests tell, beside those of a test itself.
AXES_OF_ROWS = {
    "threads": "n_threads",
    "batch": "n_batch",
    "ubatch": "n_ubatch",
    "type_k": "type_k",
    "type_v": "type_v",
}
ALL_LAYERS = 999  # more than any model has, for n_gpu_layers: all that an accelerator takes
_Tokens = Annotated[int, Field(ge=0, le=2**31, strict=True)]
_NPU = re.compile(r"hexagon|htp|npu", re.I)  # llama.cpp lists them among the GPUs
_Nanoseconds = Annotated[int, Field(ge=1, le=2**62, strict=True)]


class Row(BaseModel):
    """One test of llama-bench, by the names of its own columns; versions differ in what else they tell."""

    model_config = ConfigDict(frozen=True, extra="allow")

    build_commit: Text
    build_number: Annotated[int, Field(ge=0, le=2**62)]
    n_prompt: _Tokens
    n_gen: _Tokens
    n_depth: _Tokens = 0  # none before April 2025
    samples_ns: Annotated[tuple[_Nanoseconds, ...], Field(min_length=1, max_length=100_000)]
    cpu_info: Text = ""
    gpu_info: Text = ""
    backends: Text = ""
    model_filename: Text = ""

    @property
    def build(self) -> tuple[str, int, str]:
        """What two tests of one program have in common."""
        return self.build_commit, self.build_number, self.backends

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
    """Who it is, by its own word. The processor and what it calls GPUs, NPUs among them, are what it can compute on."""
    gpus = [name.strip() for name in row.gpu_info.split(",") if name.strip()]
    return Hello(
        protocol=PROTOCOL,
        runner="llama-bench",
        runner_version=f"b{row.build_number}",
        engine="llama.cpp",
        engine_version=row.build_commit,
        engine_build={"backends": row.backends},
        system_info=row.cpu_info,
        accelerators=(
            Accelerator(name="CPU", kind="cpu", description=row.cpu_info),
            *(Accelerator(name=name, kind="npu" if _NPU.search(name) else "gpu") for name in gpus),
        ),
        pid=pid,
    )


def without_path(row: Row) -> dict[str, Any]:
    """The row as it came, but for where the model lay."""
    return row.model_dump(mode="json") | {"model_filename": PurePath(row.model_filename).name}


class LlamaBenchOutput:
    """Turns the lines of one run of ``llama_bench.sh``, a prefill and a decode at its depth, into protocol 1.

    Both must be what the cell asks for, and by one build: else the run fails, here and not when somebody reads it.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._rows: list[Row] = []
        self._pid: int | None = None

    def __call__(self, line: str) -> list[str]:
        """What a line says; one that is no row is passed on, and reported as what it is."""
        pid = _pid(line)
        if pid is not None and self._pid is None and len(self._rows) == 1:
            self._pid = pid
            return self._greeting(self._rows[0])
        row = read_row(line)
        repetitions = row.repetitions if row else None
        if row is None or repetitions is None:
            return [line]
        problem = self._problem(row, repetitions)
        self._rows.append(row)
        if problem:
            return [Failed(kind="invalid_events", message=problem).model_dump_json()]
        if repetitions.phase == "prefill":
            return [_repetitions(row, repetitions)]
        greeting = [] if self._pid is not None else self._greeting(row)
        return [*greeting, _repetitions(row, repetitions), Done(status="ok").model_dump_json()]

    def _problem(self, row: Row, repetitions: Repetitions) -> str:
        """Why this cannot be the next test of the run; empty where it is."""
        cell, first = self._cell, len(self._rows) == 0
        phase = "prefill" if first else "decode"
        wanted = (phase, *cell.phases[phase])
        if len(self._rows) > 1:
            return "llama-bench gives more than a prefill and a decode"
        if (repetitions.phase, repetitions.tokens, repetitions.depth) != wanted:
            return "llama-bench gives a {} of {} tokens at depth {}, and not a {} of {} at {}".format(
                repetitions.phase, repetitions.tokens, repetitions.depth, *wanted
            )
        if len(repetitions.took_ns) != cell.iterations:
            made = f"{plural(len(repetitions.took_ns), 'repetition')} of the {repetitions.phase}"
            return f"llama-bench gives {made}, and not {cell.iterations}"
        if not first and row.build != self._rows[0].build:
            return "the prefill and the decode are of two builds of llama-bench"
        return ""

    def _greeting(self, row: Row) -> list[str]:
        lines = [hello(row, self._pid).model_dump_json()]
        if row.gpu_info and (row.model_extra or {}).get("n_gpu_layers") == 0:
            message = "a GPU is there: for a large batch llama.cpp may use it although no layer is on it"
            lines.append(Warned(kind="accelerator", message=message).model_dump_json())
        return lines


def _repetitions(row: Row, repetitions: Repetitions) -> str:
    return json.dumps(repetitions.model_dump(mode="json") | {"row": without_path(row)}, ensure_ascii=False)


def _pid(line: str) -> int | None:
    """The process to watch, as the script tells it between the two tests."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    pid = content.get("melt_pid") if isinstance(content, dict) else None
    return pid if isinstance(pid, int) and not isinstance(pid, bool) and 0 < pid < 2**31 else None
