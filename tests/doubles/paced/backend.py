"""The backend ``paced``: a plan's options say how long each pass takes, and nothing is computed.

    prefill  base_ms + token_us * S + square_ns * S^2   of S prompt tokens
    decode   decode_ms a token
    both     * (1 + trend * minutes) * every step's factor * (1 + noise * normal) * (1 + session_noise * normal)

The noise follows ``seed``, the cell and the session, so that the same plan gives the same times again. A box draws
power as if ``prefill_cores`` and ``decode_cores`` were busy meanwhile.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from melt.backends.base import Backend, Bundle
from melt.backends.job import check_format, job_for, model_file
from melt.drivers.runner import program_file
from melt.errors import RunnerError
from melt.models.info import ModelInfo
from melt.spec.cell import Cell
from melt.spec.facts import DeviceFacts
from melt.spec.options import Option, Value, option_values
from tests.doubles.paced.build import paced_runner

Ms = Annotated[float, Field(ge=0, le=3_600_000)]
Share = Annotated[float, Field(ge=0, le=0.2)]
Cores = Annotated[float, Field(ge=0, le=64)]
_STEP = r"\d+(\.\d+)?:\d+(\.\d+)?"
OPTIONS = (
    Option("base_ms", Ms, 5.0, "of a prefill, whatever its length"),
    Option("token_us", Ms, 20.0, "of a prefill, a token"),
    Option("square_ns", Ms, 0.0, "of a prefill, a token and token: attention"),
    Option("decode_ms", Ms, 2.0, "of each generated token"),
    Option("load_ms", Ms, 0.0, "of loading the model"),
    Option("noise", Share, 0.0, "relative standard deviation of each pass"),
    Option("session_noise", Share, 0.0, "relative standard deviation of a whole session"),
    Option("seed", Annotated[int, Field(ge=0, le=2**62)], 0, "of the noise"),
    Option(
        "steps",
        Annotated[str, Field(pattern=rf"^({_STEP}(,{_STEP})*)?$", max_length=200)],
        "",
        "SECONDS:FACTOR,...: from then on everything takes so many times as long",
    ),
    Option("trend", Annotated[float, Field(ge=-10, le=10)], 0.0, "how much longer everything takes after a minute"),
    Option("since_s", Annotated[float, Field(ge=0, le=1e10)], 0.0, "Unix time that those two count from; 0: loading"),
    Option("prefill_cores", Cores, 0.0, "cores that a prefill seems to keep busy"),
    Option("decode_cores", Cores, 0.0, "cores that decoding seems to keep busy"),
)
_SESSION = re.compile(r"-s(\d+)-\w+$")  # of a run's id


class Paced(Backend):
    """See ``melt.backends.base.Backend``."""

    name = "paced"
    options = OPTIONS
    why_fixed = "nothing is computed"

    def check_cell(self, cell: Cell) -> None:
        """Any GGUF file will do."""
        check_format(cell, "gguf", self.name)
        if cell.accelerator != "cpu":
            raise RunnerError(f"{self.name} has the CPU alone, not the {cell.accelerator}", "--accelerator cpu")

    def check(self, facts: DeviceFacts) -> None:
        """Linux, or an app that is installed."""

    def decide(self, cell: Cell, facts: DeviceFacts) -> Cell:
        """The cell with its runner."""
        return cell.model_copy(update={"runner": "native"})

    def bundle(self, cell: Cell, model: ModelInfo, facts: DeviceFacts, job_id: str) -> Bundle:
        """The runner, the model and the job; the paces are in the environment."""
        job = job_for(cell, facts, job_id, "llama.cpp")  # the one engine that the runner takes a job for
        env = {"PACED": json.dumps(self._paces(cell, model, job_id))}
        if facts.installed_runner:
            return Bundle({"model": model_file(model)}, (facts.installed_runner, "run"), job, env=env)
        files = {"runner": program_file(paced_runner(facts.machine)), "model": model_file(model)}
        return Bundle(files, ("runner", "run"), job, ("runner", "sample"), env)

    def _paces(self, cell: Cell, model: ModelInfo, job_id: str) -> Mapping[str, Any]:
        values: dict[str, Value] = option_values(self.options, cell.options)
        session = _SESSION.search(job_id)
        drawn = f"{values.pop('seed')} {cell.id} {session[1] if session else ''}"
        steps = [[float(n) for n in step.split(":")] for step in str(values.pop("steps")).split(",") if step]
        stream = int.from_bytes(hashlib.sha256(drawn.encode()).digest()[:8])
        return {**values, "steps": steps, "stream": stream, "model": _described(model)}


def _described(model: ModelInfo) -> Mapping[str, Any]:
    """What the runner says of the model that it cannot read."""
    own_word = {"recurrent": model.family == "ssm", "hybrid": model.family == "hybrid"}
    shape = {"n_params": model.n_params, "n_layers": model.n_layers, "file_bytes": model.file_bytes}
    return {"architecture": model.arch, **(own_word if model.family != "unknown" else {}), **shape}
