"""How long it takes to load a store of many runs and to write its report, and how much memory.

Builds the store in a temporary folder (not timed), then loads and reports it in a fresh process:

    python benchmarks/load_report.py            # 2,000 runs, 3 iterations of 64 tokens, 20 s of 8 probes at 10 Hz
    python benchmarks/load_report.py --runs 200

Prints seconds and peak resident memory, and fails over the limits.
"""

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import arguments
from tests.support.store_factory import FALCON_H1, MAMBA, MAMBA2, SMOLLM, FakeModel, Recipe, write_run

MAX_SECONDS = 15.0
MAX_BYTES = 2**30
CONTEXTS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)
DEVICES = ("laptop", "board", "phone")
# Faster than the tests' models, so that a run's telemetry lasts about 20 s whatever its context length.
BASE = Recipe(iterations=3, gen_tokens=64, power_w=(3.0, 12.0, 9.0), telemetry_period_ms=100)


def build(folder: Path, n_runs: int) -> None:
    """The store: every model at every context length on every device, in as many sessions as it takes."""
    cells = list(itertools.product((SMOLLM, MAMBA, MAMBA2, FALCON_H1), CONTEXTS, DEVICES))
    jobs = [(folder, *cells[i % len(cells)], i // len(cells)) for i in range(n_runs)]
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_one, jobs, chunksize=50))


def _one(job: tuple[Path, FakeModel, int, str, int]) -> None:
    folder, model, context, device, session = job
    work_s = 4 * (model.ttft_s(context) + 63 * model.decode_s(context))
    scale = 17.0 / work_s
    fast = replace(
        model,
        prefill_s_per_token=model.prefill_s_per_token * scale,
        prefill_s_per_token2=model.prefill_s_per_token2 * scale,
        tpot_s=model.tpot_s * scale,
        tpot_s_per_token=model.tpot_s_per_token * scale,
    )
    write_run(folder, fast, context, session, replace(BASE, device=device))


def measure(folder: Path) -> None:
    """Loads and reports; prints what it took as JSON."""
    started = time.perf_counter()
    import melt
    from melt.report import write_report

    imported = time.perf_counter()
    results = melt.load(folder)
    loaded = time.perf_counter()
    _ = results.cells
    analysed = time.perf_counter()
    index = write_report(results, folder / ".report")
    written = time.perf_counter()
    took = {
        "import_s": imported - started,
        "load_s": loaded - imported,
        "frames_s": analysed - loaded,
        "report_s": written - analysed,
        "total_s": written - started,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "page_bytes": index.stat().st_size,
    }
    print(json.dumps(took))


def main() -> int:
    """Builds, measures in a fresh process, and judges."""
    parser = arguments(__doc__, runs=20)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "results"
        started = time.perf_counter()
        build(folder, args.runs)
        size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
        print(f"store: {args.runs} runs, {size / 1e6:.0f} MB, built in {time.perf_counter() - started:.0f} s")
        print(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        command = [sys.executable, str(Path(__file__)), "--measure", str(folder)]
        took = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    for name, value in took.items():
        print(f"{name}: {value / 1e6:.0f} MB" if name.endswith("bytes") else f"{name}: {value:.2f}")
    good = took["total_s"] <= MAX_SECONDS and took["peak_rss_bytes"] <= MAX_BYTES
    print(f"{'within' if good else 'OVER'} the limits of {MAX_SECONDS:.0f} s and {MAX_BYTES / 1e9:.2f} GB")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
