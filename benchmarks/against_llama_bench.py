"""melt's speed against llama-bench's, from the same llama.cpp source, flags, model and settings, interleaved.

    python benchmarks/against_llama_bench.py [--rounds 8] [--repetitions 4] [--runner native] [--model REF ...]

llama-bench is built once, from the source inside the pinned llama-cpp-python sdist, and cached. A round is
one session of each program, in random order, of several timed repetitions; the ratio is melt over llama-bench.
llama-bench restores a saved state before it decodes at a depth, where melt decodes straight after a prefill and so on
a processor that has just worked at its hardest; of the two one after the other it does the same as melt. melt's
first iteration is also set against its later ones, which shows whether its short warm-up is warm-up enough.
"""

import argparse
import os
import random
import shlex
import subprocess
from pathlib import Path

from benchmarks.common import (
    Speeds,
    arguments,
    bench_cell,
    last_json_lines,
    local_device,
    machine,
    ratio_line,
    run_melt,
)
from melt.drivers.local.driver import LocalDriver
from melt.models.info import ModelInfo
from melt.models.refs import resolve
from melt.toolchain.source import llama_source
from melt.util.files import cache_folder

POINTS = {512: 128, 2048: 64}  # prompt tokens, and the tokens generated at that depth
THREADS = 2


def llama_bench() -> Path:
    """The program, built where it is not there yet."""
    source = llama_source()
    folder = cache_folder() / "benchmarks" / source.name
    program = folder / "build" / "bin" / "llama-bench"
    if program.exists():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    print("building llama-bench (five to ten minutes, once)", flush=True)
    flags = ["-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=ON", "-DLLAMA_CURL=OFF"]
    flags += [f"-DLLAMA_BUILD_{part}=OFF" for part in ("TESTS", "EXAMPLES", "SERVER", "APP")]
    flags += shlex.split(os.environ.get("CMAKE_ARGS", ""))
    build = ["cmake", "--build", str(folder / "build"), "--target", "llama-bench", f"-j{os.cpu_count()}"]
    with (folder / "build.log").open("w") as log:
        for command in (["cmake", "-S", str(source), "-B", str(folder / "build"), *flags], build):
            subprocess.run(command, check=True, stdout=log, stderr=log)
    return program


def bench(program: Path, model: ModelInfo, prompt: int, gen: int, repetitions: int) -> Speeds:
    """llama-bench's prefill of the prompt, decode at that depth, and one straight after the other."""
    shared = [str(program), "-m", model.path, "-t", str(THREADS), "-ngl", "0", "-lm", "mmap", "-o", "jsonl"]
    speeds = []
    tests = (
        ["-p", str(prompt), "-n", "0"],
        ["-p", "0", "-n", str(gen), "-d", str(prompt)],
        ["-p", "0", "-n", "0", "-pg", f"{prompt},{gen}"],
    )
    for what in tests:
        done = subprocess.run([*shared, "-r", str(repetitions), *what], capture_output=True, text=True, check=True)
        speeds.append(last_json_lines(done.stdout)[-1]["samples_ts"])
    return Speeds(*speeds)


def main() -> None:
    """Prints each point and phase."""
    parser = arguments(__doc__, rounds=1, repetitions=1, prompt=[min(POINTS)], model=["synth:smollm2-135m@Q4_0"])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=4)
    parser.add_argument("--model", action="append", help="default: pypi:smollm2-135m and synth:mamba-130m@Q4_1")
    parser.add_argument("--runner", choices=("python", "native"), default="python")
    parser.add_argument("--prompt", type=int, choices=POINTS, action="append", help="default: all")
    args = parser.parse_args()
    program = llama_bench()
    print(machine())
    with local_device() as driver:
        for ref in args.model or ["pypi:smollm2-135m", "synth:mamba-130m@Q4_1"]:
            for prompt in args.prompt or POINTS:
                compare(driver, program, ref, prompt, POINTS[prompt], args)


def compare(driver: LocalDriver, program: Path, ref: str, prompt: int, gen: int, args: argparse.Namespace) -> None:
    """Prints one model at one depth."""
    model, n, shuffler = resolve(ref), args.repetitions, random.Random(0)
    cell = bench_cell(ref, prompt, gen, n, args.runner, THREADS)
    ours: list[Speeds] = []
    theirs: list[Speeds] = []
    for _ in range(args.rounds):
        turns = ["ours", "theirs"]
        shuffler.shuffle(turns)
        for turn in turns:
            if turn == "theirs":
                theirs.append(bench(program, model, prompt, gen, n))
            else:
                ours.append(run_melt(driver, model, cell))
    prefills = [[s.prefill_tok_per_s for s in side] for side in (ours, theirs)]
    decodes = [[s.decode_tok_per_s for s in side] for side in (ours, theirs)]
    print(ratio_line(f"{ref} prefill {prompt}", prefills[0], prefills[1]))
    print(ratio_line(f"{ref} decode {gen} at depth {prompt}", decodes[0], decodes[1]))
    both = [[s.both_tok_per_s for s in side] for side in (ours, theirs)]
    print(ratio_line(f"{ref} prefill {prompt} and then decode {gen}", both[0], both[1]))
    if n > 1:
        first, later = [s.prefill_tok_per_s[:1] for s in ours], [s.prefill_tok_per_s[1:] for s in ours]
        print(ratio_line(f"{ref} prefill {prompt}: melt's first iteration / its later ones", first, later), flush=True)


if __name__ == "__main__":
    main()
