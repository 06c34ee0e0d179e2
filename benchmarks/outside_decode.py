"""What a program does outside llama_decode, as a share of a prefill's or a token's time: melt and llama-bench.

    python benchmarks/outside_decode.py [--model REF ...] [--depth 512]

Both call the same library in the same way, so all that a program can add is what it does outside the calls. A small
library loaded before llama.cpp stamps them. Unlike a ratio of two programs' speeds, the share is taken within one
process, and a noisy machine does not blur it. The native runner's: the Python runner finds llama.cpp's functions
past the loader.
"""

import os
import subprocess
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.against_llama_bench import THREADS, llama_bench
from benchmarks.common import arguments, bench_cell, last_json_lines, local_device, machine, run_melt
from melt.drivers.local.driver import LocalDriver
from melt.models.info import ModelInfo
from melt.models.refs import resolve
from melt.toolchain.source import llama_source

REPETITIONS = 3
DEPTHS = {0: 128, 512: 128, 2048: 64}  # tokens before, and the tokens generated after them


@dataclass(frozen=True)
class Call:
    """One call of llama_decode."""

    begin_ns: int
    end_ns: int
    n_tokens: int


def decode_share(calls: list[Call], gen: int) -> str:
    """The time between calls of every unbroken series of single tokens as long as a timed pass."""
    series: list[list[Call]] = [[]]
    for call in calls:
        if call.n_tokens == 1 and len(series[-1]) < gen - 1:
            series[-1].append(call)
        else:
            series.append([call] if call.n_tokens == 1 else [])
    whole = [one for one in series if len(one) == gen - 1]
    gaps = [b.begin_ns - a.end_ns for one in whole for a, b in pairwise(one)]
    inside = [c.end_ns - c.begin_ns for one in whole for c in one[1:]]
    share = sum(gaps) / (sum(gaps) + sum(inside))
    return f"decode {share:8.3%} ({median(gaps) / 1e3:.1f} us a token, {len(gaps)} tokens)"


def prefill_share(calls: list[Call], prompt: int, told_s: list[float]) -> str:
    """Of the prefill's time, as the program itself tells it, what its calls do not explain. Warm-ups come first."""
    passes: list[list[Call]] = [[]]
    for call in calls:
        if call.n_tokens > 1:
            passes[-1].append(call)
        if call.n_tokens == 1 or sum(c.n_tokens for c in passes[-1]) >= prompt:
            passes.append([])
    timed = [one for one in passes if sum(c.n_tokens for c in one) == prompt][-len(told_s) :]
    inside_s = sum(c.end_ns - c.begin_ns for one in timed for c in one) / 1e9
    return f"prefill {1 - inside_s / sum(told_s):8.3%} ({len(timed[-1])} calls of {sum(told_s) / len(told_s):.2f} s)"


def compiled(folder: Path) -> Path:
    """The library that stamps the calls."""
    source, out = llama_source(), folder / "decode_calls.so"
    headers = [f"-I{source / 'include'}", f"-I{source / 'ggml' / 'include'}"]
    file = Path(__file__).with_name("decode_calls.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", *headers, str(file), "-o", str(out), "-ldl"], check=True)
    return out


def read_calls(path: Path) -> list[Call]:
    """The stamps that the library wrote."""
    found = [Call(*map(int, line.split())) for line in path.read_text().splitlines()]
    path.unlink()
    return found


def of_llama_bench(model: ModelInfo, depth: int, gen: int, calls: Path, stamped: dict[str, str]) -> list[str]:
    """Its prefill, and its decode: alone at depth 0, else straight after the prefill."""

    def run(*test: str) -> str:
        words = [str(llama_bench()), "-m", model.path, "-t", str(THREADS), "-ngl", "0", "-lm", "mmap", "-o", "jsonl"]
        words += ["-r", str(REPETITIONS), *test]
        return subprocess.run(words, env={**os.environ, **stamped}, check=True, capture_output=True, text=True).stdout

    shares = []
    if depth:
        samples_ns = last_json_lines(run("-p", str(depth), "-n", "0"))[-1]["samples_ns"]
        shares.append(prefill_share(read_calls(calls), depth, [ns / 1e9 for ns in samples_ns]))
    run("-p", "0", *(("-n", "0", "-pg", f"{depth},{gen}") if depth else ("-n", str(gen))))
    return [*shares, decode_share(read_calls(calls), gen)]


def of_melt(
    driver: LocalDriver, model: ModelInfo, ref: str, depth: int, gen: int, calls: Path, stamped: dict[str, str]
) -> list[str]:
    """The native runner's; depth 0 is a prompt of one token."""
    cell = bench_cell(ref, depth or 1, gen, REPETITIONS, "native", THREADS)
    speeds = run_melt(driver, model, cell, stamped)
    found = read_calls(calls)
    prefill = [prefill_share(found, depth, [depth / s for s in speeds.prefill_tok_per_s])] if depth else []
    return [*prefill, decode_share(found, gen)]


def main() -> None:
    """Prints both programs' shares, model by model."""
    parser = arguments(__doc__, model=["synth:smollm2-135m@Q4_0"], depth=[min(DEPTHS)])
    parser.add_argument("--model", action="append", help="default: pypi:smollm2-135m and synth:mamba-130m@Q4_1")
    parser.add_argument("--depth", type=int, choices=DEPTHS, action="append", help="default: all")
    args = parser.parse_args()
    llama_bench()
    print(machine())
    with local_device() as driver, TemporaryDirectory() as name:
        calls = Path(name) / "calls"
        stamped = {"LD_PRELOAD": str(compiled(Path(name))), "DECODE_CALLS": str(calls)}
        for ref in args.model or ["pypi:smollm2-135m", "synth:mamba-130m@Q4_1"]:
            for depth in args.depth or DEPTHS:
                model, gen = resolve(ref), DEPTHS[depth]
                print(f"{ref}, decode of {gen} at depth {depth}")
                for who, shares in (
                    ("llama-bench", of_llama_bench(model, depth, gen, calls, stamped)),
                    ("melt native", of_melt(driver, model, ref, depth, gen, calls, stamped)),
                ):
                    print(*(f"  {who}  {share}" for share in shares), sep="\n", flush=True)


if __name__ == "__main__":
    main()
