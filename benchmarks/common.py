"""What the benchmarks share: one local job, and ratios with their spread."""

import argparse
import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from melt.backends.llamacpp import LlamaCpp
from melt.drivers.base import DeviceFile
from melt.drivers.local.driver import LocalDriver, connect
from melt.drivers.profiles import load_profile
from melt.models.info import ModelInfo
from melt.spec.cell import Cell
from melt.spec.events import Failed, Iteration, parse_event

LINE_TIMEOUT_S = 900.0
MIB = 2**20


class _Arguments(argparse.ArgumentParser):
    """Words after the program's name, with ``--smallest`` beside a benchmark's own."""

    def __init__(self, about: str | None, smallest: Mapping[str, object]) -> None:
        super().__init__(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
        as_words = ", ".join(f"{name} {value}" for name, value in smallest.items())
        self.add_argument("--smallest", action="store_true", help=f"only to see that it works: {as_words}")
        self._smallest = smallest

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """As argparse's; ``--smallest`` takes the place of what it is smallest in."""
        parsed = super().parse_args(*args, **kwargs)
        if parsed.smallest:
            vars(parsed).update(self._smallest)
        return parsed


def arguments(about: str | None, **smallest: object) -> argparse.ArgumentParser:
    """The parser of a benchmark's arguments.

    Args:
        about: the benchmark's own words on it.
        smallest: by argument, what is least and still goes through all of it.
    """
    return _Arguments(about, smallest)


Tables = Callable[[argparse.Namespace, list[str]], Iterator[str]]


def simulated(about: str | None, trials: int, least: int, tables: Tables) -> int:
    """A benchmark that simulates: prints its tables in Markdown, and keeps them where it is told to.

    Args:
        about: the benchmark's own words on it.
        trials: of each number, where the command line says nothing.
        least: trials of ``--smallest``.
        tables: gives the lines, and adds the goals that are missed to the list.

    Returns:
        The exit status: 1 where a goal is missed.
    """
    parser = arguments(about, trials=least)
    parser.add_argument("--trials", type=int, default=trials, help="of each number")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the tables there too")
    asked = parser.parse_args()
    missed: list[str] = []
    lines = list(tables(asked, missed))
    print("\n".join(lines))
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for goal in missed:
        print(f"MISSED: {goal}", file=sys.stderr)
    return 1 if missed else 0


@dataclass(frozen=True)
class Speeds:
    """Tokens a second of one session, a value a timed iteration."""

    prefill_tok_per_s: list[float]
    decode_tok_per_s: list[float]
    both_tok_per_s: list[float]  # the prompt, and straight after it as many tokens as were asked for


@contextmanager
def local_device() -> Iterator[LocalDriver]:
    """This machine, closed at the end."""
    driver = connect(load_profile("local"))
    try:
        yield driver
    finally:
        driver.close()


def bench_cell(ref: str, prompt: int, gen: int, iterations: int, runner: str, threads: int = 2) -> Cell:
    """What the benchmarks measure on this machine."""
    return Cell(
        device="local",
        model=ref,
        prompt_tokens=prompt,
        gen_tokens=gen,
        threads=threads,
        iterations=iterations,
        runner=runner,
    )


def run_melt(
    driver: LocalDriver, model: ModelInfo, cell: Cell, env: Mapping[str, str] = MappingProxyType({})
) -> Speeds:
    """One session by melt's own runner, started as ``melt run`` starts it."""
    bundle = LlamaCpp().bundle(cell, model, driver.facts(), "benchmark")
    places = {key: driver.push(file).device_path for key, file in bundle.files.items()}
    job = bundle.job.model_copy(update={"model": places["model"]})
    process = driver.launch([places.get(a, a) for a in bundle.argv], job.model_dump(mode="json"), {**bundle.env, **env})
    timed: list[Iteration] = []
    try:
        while (line := process.next_line(LINE_TIMEOUT_S)) is not None:
            event = parse_event(line)
            if isinstance(event, Failed):
                raise SystemExit(f"melt's runner failed: {event.message}")
            if isinstance(event, Iteration) and not event.warmup:
                timed.append(event)
        process.wait(30)
    finally:
        process.kill()
    return Speeds([prefill_speed(t) for t in timed], [decode_speed(t) for t in timed], [both_speed(t) for t in timed])


def prefill_speed(event: Iteration) -> float:
    """Prompt tokens a second."""
    return event.prefill.tokens / (event.prefill.t_end_ns - event.prefill.t_start_ns) * 1e9


def decode_speed(event: Iteration) -> float:
    """Generated tokens a second, from the first to the last."""
    stamps = event.token_t_ns
    return (len(stamps) - 1) / (stamps[-1] - stamps[0]) * 1e9


def both_speed(event: Iteration) -> float:
    """Tokens a second of the whole pass. The first token costs no decoding here, so the time of one is added."""
    stamps = event.token_t_ns
    whole_ns = stamps[-1] - event.prefill.t_start_ns + (stamps[-1] - stamps[0]) / (len(stamps) - 1)
    return (event.prefill.tokens + len(stamps)) / whole_ns * 1e9


Sessions = Sequence[Sequence[float]]
Statistic = Callable[["np.ndarray[tuple[int], np.dtype[np.float64]]"], float]


def ratio_line(name: str, ours: Sessions, theirs: Sessions, unit: str = "tok/s") -> str:
    """Two ratios, ours over theirs, of all iterations pooled, each with a 95 % interval by drawing rounds anew.

    Other guests of a shared machine only ever slow an iteration down, and by more than the two programs can differ.
    So beside the medians stand the fastest tenths: what each program does when it is left alone.
    """
    medians = ratio(ours, theirs, lambda v: float(np.median(v)))
    fastest = ratio(ours, theirs, fastest_tenth)
    a, b = pooled(ours), pooled(theirs)
    return (
        f"{name}\n"
        f"    medians {np.median(a):9.2f} / {np.median(b):9.2f} {unit}  ratio {medians}\n"
        f"    fastest {fastest_tenth(a):9.2f} / {fastest_tenth(b):9.2f} {unit}  ratio {fastest}\n"
        f"    {len(ours)} rounds, {len(a)} / {len(b)} iterations, which differ by ±{spread(a):.1%} / ±{spread(b):.1%}"
    )


def ratio(ours: Sessions, theirs: Sessions, statistic: Statistic) -> str:
    """The ratio of a statistic, and its interval over rounds drawn with replacement."""
    draws = np.random.default_rng(0).integers(0, len(ours), (2_000, len(ours)))
    drawn = [statistic(pooled([ours[i] for i in d])) / statistic(pooled([theirs[i] for i in d])) for d in draws]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{statistic(pooled(ours)) / statistic(pooled(theirs)):.4f}  [{low:.4f}, {high:.4f}]"


def pooled(sessions: Sessions) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Every iteration of every session."""
    return np.concatenate([np.asarray(s, dtype=np.float64) for s in sessions])


def fastest_tenth(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    """The mean of the fastest tenth: steadier than the one fastest."""
    count = max(1, len(values) // 10)
    return float(np.sort(values)[-count:].mean())


def spread(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    """Half the interquartile range over the median: what one iteration differs by."""
    quarter, half, three = np.percentile(values, [25, 50, 75])
    return float((three - quarter) / 2 / half)


def machine() -> str:
    """The machine, for the head of a benchmark's output."""
    load = Path("/proc/loadavg").read_text().split()[0]
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in cpuinfo.splitlines() if "model name" in line), "")
    return f"{model or platform.machine()}, {cpuinfo.count('processor')} cores, load average {load} at the start"


def last_json_lines(text: str) -> list[dict[str, Any]]:
    """The JSON objects among lines of output."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def a_file(folder: Path, size: int) -> DeviceFile:
    """Random bytes, which no compression shortens."""
    path = folder / f"{size}.bin"
    sha256, block = hashlib.sha256(), os.urandom(16 * MIB)
    with path.open("wb") as out:
        for at in range(0, size, len(block)):
            part = block[: min(len(block), size - at)]
            out.write(part)
            sha256.update(part)
    return DeviceFile(path.name, path, sha256.hexdigest(), size)
