"""Results of a llama-bench that somebody ran by hand, as runs in a results folder.

A cell of melt's is a prompt and the tokens written behind it. So a test of reading P tokens belongs with the test of
writing at depth P by the same build with the same settings; what finds none is reported and not imported.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from melt.backends.llama_bench_rows import AXES_OF_ROWS, LlamaBenchOutput, Row, hello, read_row, without_path
from melt.backends.llamabench import LlamaBench
from melt.errors import ModelError, PlanError, StoreError
from melt.models.info import ModelInfo
from melt.models.refs import peek
from melt.spec.cell import Cell
from melt.spec.facts import DeviceFacts
from melt.store.manifest import Flag, Manifest
from melt.store.model_record import model_record
from melt.store.store import EVENTS, Run, Store, cannot_write
from melt.util.units import S_PER_NS
from melt.util.yaml import describe_problems
from melt.version import __version__

MAX_BYTES = 64 * 2**20
# What differs between two tests of one setting.
_OF_TEST = (
    *("n_prompt", "n_gen", "n_depth", "test_time", "samples_ns", "samples_ts"),
    *("avg_ns", "stddev_ns", "avg_ts", "stddev_ts"),
)
_HINT = "melt reads what llama-bench writes with -o jsonl."


@dataclass(frozen=True)
class Imported:
    """What came of a file: the runs made, those there already, and the tests that go with no other."""

    made: tuple[Run, ...]
    already_there: int
    unmatched: tuple[str, ...]


def import_llama_bench(path: Path, results: Path, device: str, model: str | None = None) -> Imported:
    """Takes the tests of a file into a results folder; the same tests are taken once.

    Args:
        path: llama-bench's output in JSON lines.
        results: the folder that takes the runs.
        device: what to call the machine that it ran on.
        model: melt's reference of the model, which tells its family and shape; the file's name is kept without it.

    Raises:
        MeltError: the file is not llama-bench's, or the model is another one.
    """
    rows = read_rows(path)
    info = _known_model(model, rows) if model else None
    store = Store(results)
    store.check_writable()
    have = {r.manifest.run_id for r in store.runs()[0]} if results.is_dir() else set()
    pairs, unmatched = pair(rows)
    made, again = [], 0
    for prefill, decode in pairs:
        manifest, lines = _run_of(prefill, decode, device, info)
        if manifest.run_id in have:
            again += 1
        else:
            made.append(_publish(store, manifest, lines))
            have.add(manifest.run_id)
    return Imported(tuple(made), again, tuple(_name(row) for row in unmatched))


def read_rows(path: Path) -> list[Row]:
    """The tests in a file.

    Raises:
        StoreError: it cannot be read, or a line is no test; the line is named.
    """
    try:
        with path.open("rb") as f:
            raw = f.read(MAX_BYTES + 1)
    except OSError as e:
        raise StoreError(f"{path}: {e.strerror}", "Check the path.") from e
    if len(raw) > MAX_BYTES:
        raise StoreError(f"{path}: larger than {MAX_BYTES // 2**20} MiB", _HINT)
    lines = [(n, line) for n, line in enumerate(raw.decode(errors="replace").split("\n"), 1) if line.strip()]
    rows = [(n, read_row(line)) for n, line in lines]
    for n, row in rows:
        if row is None:
            raise StoreError(f"{path}:{n}: is no test of llama-bench's", _HINT)
    if not rows:
        raise StoreError(f"{path}: is empty", _HINT)
    return [row for _, row in rows if row is not None]


def pair(rows: Sequence[Row]) -> tuple[list[tuple[Row, Row]], list[Row]]:
    """Each reading of P tokens with each writing at depth P of its setting, in order; and what stands unmatched."""
    pairs = []
    for prefill in (r for r in rows if r.n_prompt and not r.n_gen and not r.n_depth):
        partners = (r for r in rows if r.n_gen and not r.n_prompt and r.n_depth == prefill.n_prompt)
        pairs += [(prefill, decode) for decode in partners if _setting(decode) == _setting(prefill)]
    used = {id(row) for both in pairs for row in both}
    return pairs, [row for row in rows if id(row) not in used]


def _setting(row: Row) -> str:
    kept = {k: v for k, v in row.model_dump(mode="json").items() if k not in _OF_TEST}
    return json.dumps(kept, sort_keys=True)


def _name(row: Row) -> str:
    parts = [f"pp{row.n_prompt}" if row.n_prompt else "", f"tg{row.n_gen}" if row.n_gen else ""]
    return "+".join(p for p in parts if p) + (f" @ d{row.n_depth}" if row.n_depth else "")


def _known_model(ref: str, rows: Sequence[Row]) -> ModelInfo:
    info = peek(ref)
    if info is None:
        raise ModelError(f"{ref} is not on this machine yet", f"Fetch it first: melt models pull {ref}")
    for row in rows:
        counted = _more(row).get("model_n_params")
        if counted != info.n_params:
            raise ModelError(
                f"{ref} has {info.n_params} parameters, and the model measured {counted}", "Name that one."
            )
    return info


def _more(row: Row) -> Mapping[str, Any]:
    return row.model_extra or {}


def _run_of(prefill: Row, decode: Row, device: str, info: ModelInfo | None) -> tuple[Manifest, list[str]]:
    cell = _cell(prefill, decode, device, info)
    given = [json.dumps(without_path(row), sort_keys=True) for row in (prefill, decode)]
    translate = LlamaBenchOutput(cell)
    lines = [line for row in given for line in translate(row)]
    started, ended = _times(prefill, decode)
    content = hashlib.sha256("\n".join([cell.id, *given]).encode()).hexdigest()
    who = hello(decode, None)
    engine = {"engine": who.engine, "engine_version": who.engine_version}
    facts = DeviceFacts(platform="unknown", machine="unknown", soc=prefill.cpu_info or None)
    manifest = Manifest(
        run_id=f"{started:%Y%m%dT%H%M%S}-{cell.id}-i{content[:8]}",
        cell=cell,
        cell_id=cell.id,
        plan_name="imported",
        session=int(content[8:14], 16),
        attempt=0,
        status="ok",
        flags=(
            Flag(name="imported", evidence="by llama-bench, which alone says what it ran on and in which conditions"),
        ),
        started_at=started.isoformat(timespec="milliseconds"),
        ended_at=ended.isoformat(timespec="milliseconds"),
        device=facts,
        passport={"driver": "imported", **facts.passport(), **engine},
        model=model_record(info) if info else None,
        job={"iterations": cell.iterations, "threads": cell.threads},
        versions={"melt": __version__, "runner": f"{who.runner} {who.runner_version}", "engine": engine["engine"]},
    )
    return manifest, lines


def _cell(prefill: Row, decode: Row, device: str, info: ModelInfo | None) -> Cell:
    more = _more(prefill)
    counts = {len(prefill.samples_ns), len(decode.samples_ns)}
    if len(counts) > 1:
        raise StoreError(f"{_name(prefill)} and {_name(decode)} were repeated differently often", "Run them together.")
    fields = {
        "device": device,
        "model": info.ref if info else Path(prefill.model_filename).name or "unknown",
        "backend": LlamaBench.name,
        "runner": "imported",
        "accelerator": "gpu" if prefill.gpu_info and more.get("n_gpu_layers") != 0 else "cpu",
        "prompt_tokens": prefill.n_prompt,
        "gen_tokens": decode.n_gen,
        "iterations": counts.pop(),
        **{axis: more[key] for axis, key in AXES_OF_ROWS.items() if key in more},
    }
    try:
        return Cell.model_validate(fields)
    except ValidationError as e:
        raise PlanError(describe_problems(e, _name(prefill), Cell), _HINT) from e


def _times(prefill: Row, decode: Row) -> tuple[datetime, datetime]:
    """When it began by its own word, and when it must have ended."""
    try:
        started, last = (datetime.fromisoformat(str(_more(r)["test_time"])) for r in (prefill, decode))
        if started.tzinfo is None or last.tzinfo is None:
            raise ValueError("no time zone")
        first = min(started, last)
        took_s = sum(prefill.samples_ns + decode.samples_ns) * S_PER_NS
        return first, max(started, last) + timedelta(seconds=took_s)
    except (KeyError, ValueError, OverflowError) as e:
        raise StoreError(f"{_name(prefill)}: test_time is missing or no time", _HINT) from e


def _publish(store: Store, manifest: Manifest, lines: Sequence[str]) -> Run:
    partial = store.begin(manifest.run_id)
    try:
        (partial / EVENTS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as e:
        store.discard(partial)
        raise cannot_write(store.folder, e) from e
    return store.publish(partial, manifest)
