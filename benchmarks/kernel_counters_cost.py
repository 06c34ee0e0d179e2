"""What reading the kernel's counters around the phases of a pass costs: passes with them against passes without.

python benchmarks/kernel_counters_cost.py [--passes 60]

Both kinds take turns in one process of the Python runner. Nothing is read within decode, so its ratio should be 1 as
near as passes can tell; a read's own time, a part of the TTFT, is told beside it.
"""

import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.common import arguments, machine, ratio_line
from melt.drivers.runner import runner_path
from melt.models.refs import resolve
from melt.spec.job import Job, Workload

REF = "pypi:smollm2-135m"
PROMPT, GEN, THREADS = 128, 64, 2


class _Nothing:
    """In place of the counters."""

    def read(self, mark: int) -> None:
        """Reads nothing."""

    def close(self) -> None:
        """Has nothing to close."""


def main() -> None:
    """Prints the ratios, and what a read takes between the phases."""
    parser = arguments(__doc__, passes=4)
    parser.add_argument("--passes", type=int, default=60, help="of each kind")
    args = parser.parse_args()
    print(machine())
    with TemporaryDirectory() as folder:
        engine = _engine(Path(folder))
        counters, workload = importlib.import_module("kernel_counters"), importlib.import_module("workload")
        tokens = workload.prompt_tokens(PROMPT, engine.n_vocab, 0)
        times: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for i in range(2 * args.passes + 2):
            counted = bool(i % 2)
            engine.reset()
            engine.prepare(tokens)
            reader = counters.KernelCounters() if counted else _Nothing()
            timing = workload._timed(engine, GEN, reader)
            if i > 1:  # the first of each kind warm up
                times[counted].append(_speeds(timing))
            reader.close()
        for at, phase in enumerate(("first token", "decode")):
            on, off = ([[speeds[at]] for speeds in times[counted]] for counted in (True, False))
            print(ratio_line(f"{phase}: counters on / off", on, off, "/s"))
        took_us = sorted(_reads_us(counters))
        print(f"a read between the phases: {np.median(took_us):.1f} us, 99 % below {np.quantile(took_us, 0.99):.1f} us")


def _engine(folder: Path) -> Any:
    """llama.cpp as the runner loads it, in this process."""
    sys.path.insert(0, str(runner_path()))
    workload = Workload(prompt_tokens=PROMPT, gen_tokens=GEN)
    job = Job(job_id="b", engine="llama.cpp", model=str(resolve(REF).path), threads=THREADS, workload=workload)
    path = folder / "job.json"
    path.write_text(job.model_dump_json())
    module = importlib.import_module("engine_llamacpp")
    home = importlib.import_module("engines").ENGINES["llama.cpp"]
    return getattr(module, home.driver)(module.Library(), importlib.import_module("job").read_job(str(path)))


def _speeds(timing: Any) -> tuple[float, float]:
    """First tokens a second, and tokens of decode a second."""
    stamps = timing.token_t_ns
    return 1e9 / (stamps[0] - timing.start_ns), (len(stamps) - 1) / (stamps[-1] - stamps[0]) * 1e9


def _reads_us(counters: Any) -> Iterator[float]:
    reader = counters.KernelCounters()
    for _ in range(2_000):
        began = time.perf_counter_ns()
        reader.read(counters.BETWEEN)
        yield (time.perf_counter_ns() - began) / 1e3
    reader.close()


if __name__ == "__main__":
    main()
