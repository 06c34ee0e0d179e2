"""The long tests, in parts that can be run alone and gone on with: ``make test-long [PART=fuzz] [SEED=7]``.

What has passed at a commit is remembered in ``.test-cache/long`` and not run again; a tree with changes is not
remembered. Random choices follow the seed, which is the commit's own unless one is given, and is printed.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
STAMPS = ROOT / ".test-cache" / "long"
PYTEST = (sys.executable, "-m", "pytest", "-q", "--durations=10")
BENCHMARKS = tuple(
    (sys.executable, str(path.relative_to(ROOT)), "--smallest")
    for path in sorted((ROOT / "benchmarks").glob("*.py"))
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")  # else it is what benchmarks share
)


@dataclass(frozen=True)
class Part:
    """Commands, each remembered by itself; ``{seed}`` in a word becomes the seed."""

    name: str
    about: str
    commands: tuple[tuple[str, ...], ...]


def _marked(name: str) -> tuple[tuple[str, ...], ...]:
    """The tests that are marked ``long(part=name)``, one after the other."""
    return ((*PYTEST, "--seed={seed}", "-m", f"long(part='{name}')"),)


PARTS = (
    Part("conformance", "every case with every flavour of the runner", _marked("conformance")),
    Part("llama-bench", "a stock llama-bench, here and on a phone", _marked("llama-bench")),
    Part("faults", "storms of faults over whole plans, and each fault by second ways", _marked("faults")),
    Part("joules", "joules of every board, and by power mode, against what was drawn", _marked("joules")),
    Part("doubles", "the tests' doubles against other makers' clients", ((*PYTEST, "-m", "doubles"),)),
    Part(
        "fuzz",
        "a million damaged inputs for all that melt reads, and every property test with 5,000 examples of its own",
        (
            (
                *(*PYTEST, "-n2", "--dist=loadfile", "--timeout=7200", "-m", "hypothesis"),
                *("--hypothesis-profile=explore", "--hypothesis-seed={seed}"),
            ),
            (sys.executable, "-m", "tests.fuzz", "--count", "1000000", "--seed", "{seed}"),
        ),
    ),
    Part(
        "benchmarks",
        "every benchmark at its smallest",
        BENCHMARKS,
    ),
)


def main() -> None:
    """Runs the parts asked for; ends with 1 where one has failed, and does the others all the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=[p.name for p in PARTS], help="this one alone")
    parser.add_argument("--seed", type=int, help="of every random choice; the commit's own by default")
    asked = parser.parse_args()
    commit = _git("rev-parse", "HEAD")
    seed = int(commit[:8], 16) if asked.seed is None else asked.seed
    stamps = None if _git("status", "--porcelain") else STAMPS / f"{commit[:12]}-{seed}"
    failed = []
    for part in PARTS:
        if asked.part in (None, part.name):
            print(f"== {part.name}: {part.about} (seed {seed})", flush=True)
            began = time.monotonic()
            failed += [" ".join(words) for words in failing(part, seed, stamps)]
            print(f"== {part.name} took {time.monotonic() - began:.0f} s", flush=True)
    sys.exit("\n".join(["== Failed:", *failed]) if failed else 0)


def failing(part: Part, seed: int, stamps: Path | None) -> Iterator[tuple[str, ...]]:
    """Runs what has not passed yet."""
    for n, command in enumerate(part.commands):
        stamp = stamps / f"{part.name}-{n}" if stamps else None
        if stamp and stamp.exists():
            print(f"== passed already: {' '.join(command)}", flush=True)
            continue
        words = tuple(word.replace("{seed}", str(seed)) for word in command)
        if subprocess.run(words, cwd=ROOT, check=False).returncode:
            yield words
        elif stamp:
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.touch()


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
