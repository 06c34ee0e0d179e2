"""What a program does between two calls of llama_decode, as a share of a token's time: melt and llama-bench.

    python benchmarks/between_decodes.py [--model REF ...] [--prompt 512]

Both call the same library in the same way, so all that a program can add to a token is what it does between the
calls. A small library loaded before llama.cpp stamps them. Unlike a ratio of two programs' speeds, the share is
taken within one process, and a noisy machine does not blur it. The native runner's: the Python runner finds
llama.cpp's functions past the loader.
"""

import argparse
import os
import subprocess
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.against_llama_bench import POINTS, THREADS, llama_bench
from benchmarks.common import local_device, machine, run_melt
from melt.models.refs import resolve
from melt.plan import Cell
from melt.toolchain.source import llama_source

REPETITIONS = 3


@dataclass(frozen=True)
class Call:
    """One call of llama_decode."""

    begin_ns: int
    end_ns: int
    n_tokens: int


@dataclass(frozen=True)
class Between:
    """The time between the calls of successive tokens, and its share of the whole."""

    median_us: float
    share: float
    n_tokens: int

    def __str__(self) -> str:
        return f"{self.median_us:8.1f} us a token, {self.share:.3%} of its time ({self.n_tokens} tokens)"


def between(calls: list[Call], gen: int) -> Between:
    """Of every unbroken series of single tokens as long as a timed pass; other calls are warm-ups."""
    series: list[list[Call]] = [[]]
    for call in calls:
        if call.n_tokens == 1 and len(series[-1]) < gen - 1:
            series[-1].append(call)
        else:
            series.append([call] if call.n_tokens == 1 else [])
    gaps = [b.begin_ns - a.end_ns for one in series if len(one) == gen - 1 for a, b in pairwise(one)]
    inside = [c.end_ns - c.begin_ns for one in series if len(one) == gen - 1 for c in one[1:]]
    return Between(median(gaps) / 1e3, sum(gaps) / (sum(gaps) + sum(inside)), len(gaps))


def compiled(folder: Path) -> Path:
    """The library that stamps the calls."""
    source, out = llama_source(), folder / "decode_calls.so"
    headers = [f"-I{source / 'include'}", f"-I{source / 'ggml' / 'include'}"]
    file = Path(__file__).with_name("decode_calls.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", *headers, str(file), "-o", str(out), "-ldl"], check=True)
    return out


def read_calls(path: Path) -> list[Call]:
    """The stamps that the library wrote."""
    return [Call(*map(int, line.split())) for line in path.read_text().splitlines()]


def main() -> None:
    """Prints both programs' shares, model by model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="default: pypi:smollm2-135m and synth:mamba-130m@Q4_1")
    parser.add_argument("--prompt", type=int, choices=POINTS, action="append", help="default: all")
    args = parser.parse_args()
    program = llama_bench()
    print(machine())
    with local_device() as driver, TemporaryDirectory() as name:
        calls = Path(name) / "calls"
        stamped = {"LD_PRELOAD": str(compiled(Path(name))), "DECODE_CALLS": str(calls)}
        for ref in args.model or ["pypi:smollm2-135m", "synth:mamba-130m@Q4_1"]:
            for prompt in args.prompt or POINTS:
                model, gen = resolve(ref), POINTS[prompt]
                words = [str(program), "-m", model.path, "-t", str(THREADS), "-ngl", "0", "-lm", "mmap"]
                words += ["-p", "0", "-n", "0", "-pg", f"{prompt},{gen}", "-r", str(REPETITIONS)]
                subprocess.run(words, env={**os.environ, **stamped}, check=True, capture_output=True)
                print(f"{ref} decode {gen} at depth {prompt}\n  llama-bench  {between(read_calls(calls), gen)}")
                cell = Cell(
                    device="local",
                    model=ref,
                    prompt_tokens=prompt,
                    gen_tokens=gen,
                    threads=THREADS,
                    iterations=REPETITIONS,
                    runner="native",
                )
                calls.unlink()
                run_melt(driver, model, cell, stamped)
                print(f"  melt native  {between(read_calls(calls), gen)}", flush=True)


if __name__ == "__main__":
    main()
