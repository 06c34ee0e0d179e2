"""What the sampler itself takes: 30 probes ten times a second, for each flavour of the runner.

    python benchmarks/sampler_cost.py [--seconds 20] [--program PATH ...]

Prints its share of one core and its resident memory. ``--program`` adds a runner, for example a static one that
``melt runner build linux-x86_64-musl`` made.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import machine
from melt.drivers.runner import runner_file
from melt.toolchain.build import build
from melt.toolchain.targets import TARGETS

PROBES, PERIOD_MS = 30, 100
SETTLED_S = 2.0


def cost(words: list[str], seconds: float) -> tuple[float, int, int]:
    """Share of one core, resident bytes at the end, samples taken."""
    with TemporaryDirectory() as folder:
        out, spec = Path(folder) / "out.jsonl", Path(folder) / "spec.json"
        probes = [{"name": f"p{i}", "read": "/proc/self/statm"} for i in range(PROBES)]
        spec.write_text(json.dumps({"out": str(out), "period_ms": PERIOD_MS, "probes": probes}))
        sampler = subprocess.Popen([*words, "sample", str(spec)], stdin=subprocess.PIPE)
        time.sleep(SETTLED_S)
        before = cpu_s(sampler.pid)
        time.sleep(seconds)
        used_s = cpu_s(sampler.pid) - before
        resident_kib = next(
            int(line.split()[1])
            for line in Path(f"/proc/{sampler.pid}/status").read_text().splitlines()
            if line.startswith("VmRSS:")
        )
        assert sampler.stdin is not None
        sampler.stdin.close()
        sampler.wait()
        return used_s / seconds, resident_kib * 1024, len(out.read_text().splitlines())


def cpu_s(pid: int) -> float:
    """The scheduler's own sum."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) * 1e-9


def main() -> None:
    """Prints a line a flavour."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--program", action="append", default=[])
    args = parser.parse_args()
    print(machine())
    flavours = {"python": [sys.executable, str(runner_file().path)], "native": [str(build(TARGETS["host"]))]}
    flavours |= {Path(p).name: [p] for p in args.program}
    for name, words in flavours.items():
        share, resident_bytes, rows = cost(words, args.seconds)
        print(f"{name:<44} {share:.3%} of a core, {resident_bytes / 1e6:.1f} MB resident, {rows} samples", flush=True)


if __name__ == "__main__":
    main()
