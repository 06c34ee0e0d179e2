"""Damaged inputs for everything that reads what is not melt's own: ``python -m tests.fuzz --count 1000000``.

What is refused is refused by a MeltError, in less than two seconds and less than half a GB; anything else is told with
the input, which is kept, and ends the program with 1.
"""

import argparse
import multiprocessing
import sys
from collections import Counter

from tests.fuzz.targets import TARGETS
from tests.fuzz.trying import try_some

SHARE = 2000  # inputs that a process takes at a time


def main() -> None:
    """Shares the inputs among the targets, by turns, until all are tried."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=TARGETS, help="this target alone")
    asked = parser.parse_args()
    names = [asked.only] if asked.only else list(TARGETS)
    each = -(-asked.count // len(names))
    shares = [min(SHARE, each - done) for done in range(0, each, SHARE)]
    jobs = [(name, 1000 * asked.seed + k, share) for k, share in enumerate(shares) for name in names]
    ends = {name: Counter[str]() for name in names}
    longest_s = dict.fromkeys(names, 0.0)
    wrong: list[str] = []
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=20) as pool:
        for name, ended, problems, took_s in pool.imap_unordered(try_some, jobs):
            ends[name] += ended
            longest_s[name] = max(longest_s[name], took_s)
            wrong += problems
    for name in names:
        told = ", ".join(f"{count:,} {end}" for end, count in sorted(ends[name].items()))
        print(f"{name:25} {told}; the longest took {longest_s[name]:.2f} s")
    print(f"{sum(sum(ended.values()) for ended in ends.values()):,} inputs, {len(wrong)} wrong")
    sys.exit("\n".join(wrong[:20]) if wrong else 0)


if __name__ == "__main__":
    main()
