"""Jobs, and the events that a runner answers them with."""

import json
import subprocess
from pathlib import Path
from typing import Any

from melt.spec.events import parse_event
from melt.spec.job import Job, Workload

JOB_SCHEMA = Path(__file__).parents[2] / "runners/ios/job-schema.sh"


def job_schema_header(folder: Path) -> None:
    """Makes the header that CMake makes, as the iOS app has it made."""
    made = subprocess.run([str(JOB_SCHEMA)], capture_output=True, check=True).stdout
    (folder / "job_schema.hpp").write_bytes(made)


def job(model: Path | str, **fields: Any) -> dict[str, Any]:
    workload = Workload(prompt_tokens=40, gen_tokens=5, **fields.pop("workload", {}))
    engine = "onnxruntime" if Path(model).is_dir() else "llama.cpp"
    made = Job(job_id="j", engine=engine, model=str(model), threads=1, warmups=1, iterations=2, workload=workload)
    return {**made.model_dump(mode="json"), **fields}


class Ran:
    """A job run to its end by a program, or by the words of a command that lacks only the job."""

    def __init__(self, program: list[str], tmp_path: Path, given: object, *, command: bool = True) -> None:
        path = tmp_path / "job.json"
        path.write_text(given if isinstance(given, str) else json.dumps(given))
        words = [*program, *(["run"] if command else []), str(path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        self.code, self.stderr = done.returncode, done.stderr
        self.events = [parse_event(line) for line in done.stdout.splitlines()]

    def one(self, kind: type[Any]) -> Any:
        found = [e for e in self.events if isinstance(e, kind)]
        assert len(found) == 1, self.events
        return found[0]
