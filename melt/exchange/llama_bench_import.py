"""Results of a llama-bench that somebody ran by hand, as runs in a results folder.

A cell of melt's is a prompt and the tokens written behind it. So a test of reading P tokens belongs with the test of
writing at depth P by the same build with the same settings; what finds none is reported and not imported.
"""

import codecs
import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from melt.backends.llama_bench_rows import LlamaBenchOutput, Row, hello, read_row, without_path
from melt.errors import ModelError, StoreError
from melt.exchange.llama_bench_settings import HINT, cell_of, flags_of, more, name, passport_of, setting
from melt.models.info import ModelInfo
from melt.models.refs import peek
from melt.spec.facts import DeviceFacts
from melt.store.manifest import Manifest
from melt.store.model_record import model_record
from melt.store.store import EVENTS, Run, Store, cannot_write
from melt.util.units import S_PER_NS
from melt.version import __version__

MAX_BYTES = 64 * 2**20
# What a file begins with that is not plain UTF-8: PowerShell's > writes UTF-16, and some editors a mark before UTF-8.
_ENCODINGS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


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
    return Imported(tuple(made), again, tuple(name(row) for row in unmatched))


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
        raise StoreError(f"{path}: larger than {MAX_BYTES // 2**20} MiB", HINT)
    lines = [(n, line) for n, line in enumerate(_decoded(raw, path).split("\n"), 1) if line.strip()]
    rows = [(n, read_row(line)) for n, line in lines]
    for n, row in rows:
        if row is None:
            raise StoreError(f"{path}:{n}: is no test of llama-bench's", HINT)
    if not rows:
        raise StoreError(f"{path}: is empty", HINT)
    return [row for _, row in rows if row is not None]


def _decoded(raw: bytes, path: Path) -> str:
    """A file's text, by the mark that it begins with; what was appended to it may have brought another one."""
    encoding = next((name for mark, name in _ENCODINGS if raw.startswith(mark)), "utf-8")
    try:
        return raw.decode(encoding).replace("\ufeff", "")
    except UnicodeDecodeError as e:
        raise StoreError(f"{path}: is no {encoding.upper()} text at byte {e.start:,}", "Save it as UTF-8.") from e


def pair(rows: Sequence[Row]) -> tuple[list[tuple[Row, Row]], list[Row]]:
    """The k-th reading of P tokens with the k-th writing at depth P of its setting; and what stands unmatched.

    One reading may stand beside writings of several lengths, which are cells of their own.
    """
    reading: dict[tuple[str, int], list[Row]] = defaultdict(list)
    writing: dict[tuple[str, int], dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.n_prompt and not row.n_gen and not row.n_depth:
            reading[setting(row), row.n_prompt].append(row)
        elif row.n_gen and not row.n_prompt:
            writing[setting(row), row.n_depth][row.n_gen].append(row)
    pairs = [
        both
        for key, prefills in reading.items()
        for decodes in writing.get(key, {}).values()
        for both in zip(prefills, decodes, strict=False)
    ]
    used = {id(row) for both in pairs for row in both}
    return pairs, [row for row in rows if id(row) not in used]


def _known_model(ref: str, rows: Sequence[Row]) -> ModelInfo:
    info = peek(ref)
    if info is None:
        raise ModelError(f"{ref} is not on this machine yet", f"Fetch it first: melt models pull {ref}")
    for row in rows:
        counted = more(row).get("model_n_params")
        if counted != info.n_params:
            raise ModelError(
                f"{ref} has {info.n_params} parameters, and the model measured {counted}", "Name that one."
            )
    return info


def _run_of(prefill: Row, decode: Row, device: str, info: ModelInfo | None) -> tuple[Manifest, list[str]]:
    cell, unknown = cell_of(prefill, decode, device, info)
    given = [json.dumps(without_path(row), sort_keys=True) for row in (prefill, decode)]
    translate = LlamaBenchOutput(cell)
    lines = [line for row in given for line in translate(row)]
    started, ended = _times(prefill, decode)
    content = hashlib.sha256("\n".join([cell.id, *given]).encode()).hexdigest()
    who = hello(decode, None)
    engine = {"engine": who.engine, "engine_version": who.engine_version}
    facts = DeviceFacts(platform="unknown", machine="unknown", soc=prefill.cpu_info or None, power_mode=cell.power_mode)
    manifest = Manifest(
        run_id=f"{started:%Y%m%dT%H%M%S}-{cell.id}-i{content[:8]}",
        cell=cell,
        cell_id=cell.id,
        plan_name="imported",
        session=int(content[8:14], 16),
        attempt=0,
        status="ok",
        flags=flags_of(prefill, info),
        started_at=started.isoformat(timespec="milliseconds"),
        ended_at=ended.isoformat(timespec="milliseconds"),
        device=facts,
        passport=passport_of(prefill, facts, engine, unknown),
        model=model_record(info) if info else None,
        job={"iterations": cell.iterations},
        versions={"melt": __version__, "runner": f"{who.runner} {who.runner_version}", "engine": engine["engine"]},
    )
    return manifest, lines


def _times(prefill: Row, decode: Row) -> tuple[datetime, datetime]:
    """When it began by its own word, and when it must have ended."""
    try:
        started, last = (datetime.fromisoformat(str(more(r)["test_time"])) for r in (prefill, decode))
        if started.tzinfo is None or last.tzinfo is None:
            raise ValueError("no time zone")
        first = min(started, last)
        took_s = sum(prefill.samples_ns + decode.samples_ns) * S_PER_NS
        return first, max(started, last) + timedelta(seconds=took_s)
    except (KeyError, ValueError, OverflowError) as e:
        raise StoreError(f"{name(prefill)}: test_time is missing or no time", HINT) from e


def _publish(store: Store, manifest: Manifest, lines: Sequence[str]) -> Run:
    partial = store.begin(manifest.run_id)
    try:
        (partial.folder / EVENTS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as e:
        store.discard(partial)
        raise cannot_write(store.folder, e) from e
    return store.publish(partial, manifest)
