"""How long melt takes to start, over a bare Python's start, interleaved.

python benchmarks/start_time.py [--rounds 30]
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common import arguments, machine

COMMANDS = {
    "bare Python": [sys.executable, "-c", "pass"],
    "import melt": [sys.executable, "-c", "import melt"],
    "melt --help": [str(Path(sys.executable).with_name("melt")), "--help"],
    "melt run --help": [str(Path(sys.executable).with_name("melt")), "run", "--help"],
}


def main() -> None:
    """Prints the median of each command, and what it adds to a bare Python."""
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    print(machine())
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(args.rounds + 1):
        for name, argv in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(argv, check=True, capture_output=True)
            taken[name].append(time.perf_counter() - started)
    bare = statistics.median(taken["bare Python"][1:])
    for name, seconds in taken.items():
        middle = statistics.median(seconds[1:])  # the first fills the caches
        print(f"{name:<16} {middle * 1e3:6.1f} ms   over bare Python {1e3 * (middle - bare):6.1f} ms")


if __name__ == "__main__":
    main()
