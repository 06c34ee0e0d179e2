"""Damaged inputs of one target, each in bounds of time and memory."""

import random
import resource
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from melt.errors import MeltError
from tests.fuzz.mutate import damaged
from tests.fuzz.targets import TARGETS

LONGEST_S = 2.0
MOST_BYTES = 500_000_000
KEPT = Path(tempfile.gettempdir()) / "melt-fuzz"


def try_some(job: tuple[str, int, int]) -> tuple[str, Counter[str], list[str], float]:
    """So many inputs of one target: how they ended, what went wrong, and the longest time."""
    name, seed, count = job
    chance, ends, wrong, longest_s = random.Random(f"{name} {seed}"), Counter[str](), [], 0.0
    with tempfile.TemporaryDirectory(prefix="melt-fuzz-") as folder:
        target = TARGETS[name](Path(folder))
        before_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        for n in range(count):
            data = damaged(chance, target.seeds)
            began = time.process_time()
            try:
                target.read(data)
                end = "read"
            except MeltError:
                end = "refused"
            except Exception:
                end = "raised"
                wrong.append(_kept(name, seed, n, data, traceback.format_exc(limit=-3)))
            took_s = time.process_time() - began
            longest_s = max(longest_s, took_s)
            if took_s > LONGEST_S:
                wrong.append(_kept(name, seed, n, data, f"took {took_s:.1f} s"))
            ends[end] += 1
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before_bytes
        if more > MOST_BYTES:
            wrong.append(f"{name}: {more / 1e6:.0f} MB more for one of {count} inputs from seed {seed} on")
    return name, ends, wrong, longest_s


def _kept(name: str, seed: int, n: int, data: bytes, why: str) -> str:
    KEPT.mkdir(exist_ok=True)
    path = KEPT / f"{name.replace(' ', '-')}-{seed}-{n}"
    path.write_bytes(data)
    return f"{name}: {path}\n{why}"
