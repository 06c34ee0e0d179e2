"""What the benchmarks share: one local job, and ratios with their spread."""

import json
import platform
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from melt.backends.llamacpp import LlamaCpp
from melt.drivers.local import LocalDriver, connect
from melt.events import Failed, Iteration, parse_event
from melt.models.info import ModelInfo
from melt.plan import Cell
from melt.profile import load_profile

LINE_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Speed:
    """Tokens a second of one session: medians over its timed iterations."""

    prefill_tok_per_s: float
    decode_tok_per_s: float


@contextmanager
def local_device() -> Iterator[LocalDriver]:
    """This machine, closed at the end."""
    driver = connect(load_profile("local"))
    try:
        yield driver
    finally:
        driver.close()


def run_melt(driver: LocalDriver, model: ModelInfo, cell: Cell) -> Speed:
    """One session by melt's own runner, started as ``melt run`` starts it."""
    bundle = LlamaCpp().bundle(cell, model, driver.facts(), "benchmark")
    places = {key: driver.push(file).device_path for key, file in bundle.files.items()}
    job = bundle.job.model_copy(update={"model": places["model"]})
    process = driver.launch([places.get(a, a) for a in bundle.argv], job.model_dump(mode="json"), bundle.env)
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
    return Speed(statistics.median(map(prefill_speed, timed)), statistics.median(map(decode_speed, timed)))


def prefill_speed(event: Iteration) -> float:
    """Prompt tokens a second."""
    return event.prefill.tokens / (event.prefill.t_end_ns - event.prefill.t_start_ns) * 1e9


def decode_speed(event: Iteration) -> float:
    """Generated tokens a second, from the first to the last."""
    stamps = event.token_t_ns
    return (len(stamps) - 1) / (stamps[-1] - stamps[0]) * 1e9


def ratio_line(name: str, ours: Sequence[float], theirs: Sequence[float], unit: str = "tok/s") -> str:
    """The ratio of medians with a 95 % bootstrap interval over paired rounds, and how noisy each side was.

    Other guests of a shared machine only ever slow a round down, so the ratio of the best rounds stands beside it.
    """
    a, b = np.asarray(ours), np.asarray(theirs)
    picks = np.random.default_rng(0).integers(0, len(a), (10_000, len(a)))
    ratios = np.median(a[picks], axis=1) / np.median(b[picks], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    middle, best = np.median(a) / np.median(b), a.max() / b.max()
    return (
        f"{name:<44} {np.median(a):9.2f} / {np.median(b):9.2f} {unit}  ratio {middle:.4f}"
        f"  [{low:.4f}, {high:.4f}]  best {best:.4f}  n={len(a)}  noise ±{spread(a):.1%} / ±{spread(b):.1%}"
    )


def spread(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    """Half the interquartile range over the median: what one round differs by."""
    quarter, half, three = np.percentile(values, [25, 50, 75])
    return float((three - quarter) / 2 / half)


def machine() -> str:
    """The machine, for the head of a benchmark's output."""
    load = Path("/proc/loadavg").read_text().split()[0]
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in cpuinfo.splitlines() if "model name" in line), "")
    return f"{model or platform.machine()}, {cpuinfo.count('processor')} cores, load average {load} at the start"


def last_json_lines(text: str) -> list[dict[str, object]]:
    """The JSON objects among lines of output."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
