"""melt's speed against llama-bench's, from the same llama.cpp source, flags, model and settings, interleaved.

    python benchmarks/against_llama_bench.py [--rounds 12] [--model synth:mamba-130m@Q4_1 ...]

llama-bench is built once, from the source inside the pinned llama-cpp-python sdist, and cached. A round makes
each measurement once with each program, in random order; the ratio is melt over llama-bench.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks.common import last_json_lines, local_device, machine, ratio_line, run_melt
from melt.models.info import ModelInfo
from melt.models.refs import resolve
from melt.paths import cache_folder
from melt.plan import Cell

POINTS = ((512, 128), (2048, 64))  # prompt tokens, tokens generated at that depth
THREADS = 2


def llama_bench() -> Path:
    """The program, built where it is not there yet."""
    package = f"llama-cpp-python=={version('llama-cpp-python')}"
    folder = cache_folder() / "benchmarks" / package.replace("==", "-")
    program = folder / "build" / "bin" / "llama-bench"
    if program.exists():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    print(f"building llama-bench from {package} (five to ten minutes, once)", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", package]
        subprocess.run([*pip, "-d", temporary], check=True)
        subprocess.run(["tar", "xf", str(next(Path(temporary).glob("*.tar.gz"))), "-C", str(folder)], check=True)
    source = next(folder.glob("llama_cpp_python-*")) / "vendor" / "llama.cpp"
    flags = ["-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=ON", "-DLLAMA_CURL=OFF"]
    flags += [f"-DLLAMA_BUILD_{part}=OFF" for part in ("TESTS", "EXAMPLES", "SERVER")]
    flags += os.environ.get("CMAKE_ARGS", "").split()
    build = ["cmake", "--build", str(folder / "build"), "--target", "llama-bench", f"-j{os.cpu_count()}"]
    with (folder / "build.log").open("w") as log:
        for command in (["cmake", "-S", str(source), "-B", str(folder / "build"), *flags], build):
            subprocess.run(command, check=True, stdout=log, stderr=log)
    return program


def bench(program: Path, model: ModelInfo, prompt: int, gen: int) -> tuple[float, float]:
    """llama-bench's prefill of the prompt, and decode at that depth; tokens a second."""
    shared = [str(program), "-m", model.path, "-t", str(THREADS), "-ngl", "0", "-lm", "mmap", "-r", "1", "-o", "jsonl"]
    speeds = []
    for what in (["-p", str(prompt), "-n", "0"], ["-p", "0", "-n", str(gen), "-d", str(prompt)]):
        done = subprocess.run([*shared, *what], capture_output=True, text=True, check=True)
        row = last_json_lines(done.stdout)[-1]
        speeds.append(float(str(row["avg_ts"])))
    return speeds[0], speeds[1]


def main() -> None:
    """Prints one line a point and phase."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--model", action="append", help="default: pypi:smollm2-135m and synth:mamba-130m@Q4_1")
    args = parser.parse_args()
    program = llama_bench()
    print(machine())
    shuffler = random.Random(0)
    with local_device() as driver:
        for ref in args.model or ["pypi:smollm2-135m", "synth:mamba-130m@Q4_1"]:
            model = resolve(ref)
            for prompt, gen in POINTS:
                cell = Cell(
                    device="local", model=ref, prompt_tokens=prompt, gen_tokens=gen, threads=THREADS, iterations=1
                )
                ours, theirs = [], []
                for _ in range(args.rounds):
                    turns = ["ours", "theirs"]
                    shuffler.shuffle(turns)
                    for turn in turns:
                        if turn == "theirs":
                            theirs.append(bench(program, model, prompt, gen))
                        else:
                            speed = run_melt(driver, model, cell)
                            ours.append((speed.prefill_tok_per_s, speed.decode_tok_per_s))
                for i, phase in enumerate(("prefill", f"decode {gen} at depth")):
                    line = ratio_line(f"{ref} {phase} {prompt}", [o[i] for o in ours], [t[i] for t in theirs])
                    print(line, flush=True)


if __name__ == "__main__":
    main()
