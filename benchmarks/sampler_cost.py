"""What the sampler itself takes, for each flavour of the runner: 30 probes ten times a second, and 12 rails at 100 Hz.

    python benchmarks/sampler_cost.py [--seconds 20] [--program PATH ...]

Prints its share of one core, its resident memory, and how many periods have their reading. A rail is two
files, its current and its voltage. ``--program`` adds a runner, for example a static one that
``melt runner build linux-x86_64-musl`` made.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import arguments, machine
from melt.drivers.runner import runner_path
from melt.toolchain.build import build
from melt.toolchain.targets import TARGETS

LOADS = {"30 files at 10 Hz": (30, 100), "12 rails at 100 Hz": (24, 10)}  # files, period in ms
SETTLED_S = 2.0


def cost(words: list[str], files: int, period_ms: int, seconds: float) -> tuple[float, int, float]:
    """Share of one core, resident bytes at the end, share of the periods that have their reading."""
    with TemporaryDirectory() as folder:
        out, spec = Path(folder) / "out.jsonl", Path(folder) / "spec.json"
        rails = [Path(folder) / f"rail{i}" for i in range(files)]
        for rail in rails:
            rail.write_text("1020\n")
        probes = [{"name": rail.name, "read": str(rail)} for rail in rails]
        spec.write_text(json.dumps({"out": str(out), "period_ms": period_ms, "probes": probes}))
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
        return used_s / seconds, resident_kib * 1024, complete(out, period_ms)


def complete(out: Path, period_ms: int) -> float:
    """Of every probe's periods between its first reading and its last."""
    t_ns: dict[str, list[int]] = {}
    for line in out.read_text().splitlines():
        row = json.loads(line)
        t_ns.setdefault(row["probe"], []).append(row["t_ns"])
    periods = [(stamps[-1] - stamps[0]) / (period_ms * 1e6) for stamps in t_ns.values()]
    return float(sum(len(stamps) - 1 for stamps in t_ns.values()) / sum(periods))


def cpu_s(pid: int) -> float:
    """The scheduler's own sum."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) * 1e-9


def main() -> None:
    """Prints a line a flavour."""
    parser = arguments(__doc__, seconds=2.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--program", action="append", default=[])
    args = parser.parse_args()
    print(machine())
    flavours = {"python": [sys.executable, str(runner_path())], "native": [str(build(TARGETS["host"]))]}
    flavours |= {Path(p).name: [p] for p in args.program}
    for load, (files, period_ms) in LOADS.items():
        for name, words in flavours.items():
            share, resident_bytes, in_time = cost(words, files, period_ms, args.seconds)
            said = f"{share:.3%} of a core, {resident_bytes / 1e6:.1f} MB resident, {in_time:.2%} of readings"
            print(f"{load}, {name:<40} {said}", flush=True)


if __name__ == "__main__":
    main()
