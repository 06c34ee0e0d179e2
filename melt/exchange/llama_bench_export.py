"""Runs as the lines that llama-bench writes with ``-o jsonl``, for whatever reads those.

Two lines a run: reading the prompt, and writing at that depth. A run by llama-bench gives its own lines back. Of a
timed pass of melt's the first token is known with the prompt, so its stamps tell one step less than tokens were
generated, where llama-bench takes a step for each: its time is that of so many steps at the pace of those stamped.
"""

import json
import statistics
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from melt.backends.llama_bench_rows import ALL_LAYERS, AXES_OF_ROWS
from melt.exchange.llama_bench_settings import ENGINE, FLAGS, FLASH_ATTENTION, POWER_MODE, RUN
from melt.spec.events import Hello, Iteration
from melt.store.store import EVENTS, Run


def export_llama_bench(run: Run, flags: Collection[str] = ()) -> Iterator[str]:
    """A run's lines; none of one that is no measurement.

    Args:
        run: from a results folder.
        flags: names of all that stands against it, of which a reader of the lines should know.
    """
    if run.manifest.status != "ok":
        return
    doubts = {FLAGS: sorted(set(flags) - {"imported"})}
    own = _own_rows(run)
    if own:
        yield from (json.dumps(row | (doubts if doubts[FLAGS] else {}), ensure_ascii=False) for row in own)
        return
    events = list(run.events())
    passes = [e for e in events if isinstance(e, Iteration) and not e.warmup and len(e.token_t_ns) > 1]
    if not passes:
        return
    shared = _shared(run, next((e for e in events if isinstance(e, Hello)), None)) | doubts
    cell = run.manifest.cell
    prefill = [p.prefill.t_end_ns - p.prefill.t_start_ns for p in passes]
    decode = [_steps_ns(p.token_t_ns, cell.gen_tokens) for p in passes]
    yield _line(shared, cell.prompt_tokens, 0, 0, prefill)
    yield _line(shared, 0, cell.gen_tokens, cell.prompt_tokens, decode)


def _steps_ns(token_t_ns: Sequence[int], tokens: int) -> int:
    """How long so many steps take at the mean pace of the stamped ones."""
    return round((token_t_ns[-1] - token_t_ns[0]) * tokens / (len(token_t_ns) - 1))


def _own_rows(run: Run) -> list[dict[str, Any]]:
    """What a llama-bench said itself: kept whole in the events of its runs."""
    found = []
    for line in (run.folder / EVENTS).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and event.get("event") == "repetitions" and isinstance(event.get("row"), dict):
            found.append(event["row"])
    return found


def _shared(run: Run, who: Hello | None) -> dict[str, Any]:
    m = run.manifest
    model = m.model
    accelerators = who.accelerators if who else ()
    return {
        "build_commit": (who.engine_build.get("commit") or who.engine_version) if who else "unknown",
        "build_number": 0,
        "cpu_info": m.device.soc or "",
        "gpu_info": ", ".join(a.description or a.name for a in accelerators if a.kind == "gpu"),
        "backends": ",".join(dict.fromkeys(a.name for a in accelerators)),
        "model_filename": m.cell.model,
        "model_type": f"{model.arch} {model.quant}" if model else "",
        "model_size": model.file_bytes if model else 0,
        "model_n_params": model.n_params if model else 0,
        **{key: getattr(m.cell, axis) for axis, key in AXES_OF_ROWS.items()},
        "n_threads": m.job.get("threads") or m.cell.threads or 0,
        "n_gpu_layers": 0 if m.cell.accelerator == "cpu" else ALL_LAYERS,
        "flash_attn": FLASH_ATTENTION[m.cell.flash_attn],
        "use_mmap": m.cell.load_mode == "mmap",
        "cpu_mask": f"{m.job.get('cpu_mask') or 0:#x}",
        RUN: m.run_id,
        ENGINE: m.cell.backend,
        **({POWER_MODE: m.device.power_mode} if m.device.power_mode else {}),
        "test_time": m.started_at.split(".")[0].removesuffix("+00:00").removesuffix("Z") + "Z",
    }


def _line(shared: dict[str, Any], n_prompt: int, n_gen: int, n_depth: int, samples_ns: list[int]) -> str:
    speeds = [(n_prompt + n_gen) * 1e9 / ns for ns in samples_ns]
    test = {"n_prompt": n_prompt, "n_gen": n_gen, "n_depth": n_depth}
    ns = {"avg_ns": round(statistics.mean(samples_ns)), "stddev_ns": round(_spread(samples_ns))}
    ts = {"avg_ts": statistics.mean(speeds), "stddev_ts": _spread(speeds)}
    return json.dumps({**shared, **test, **ns, **ts, "samples_ns": samples_ns, "samples_ts": speeds})


def _spread(values: list[int] | list[float]) -> float:
    """The sample's standard deviation; 0 of one value, as llama-bench has it."""
    return float(statistics.stdev(values)) if len(values) > 1 else 0.0
