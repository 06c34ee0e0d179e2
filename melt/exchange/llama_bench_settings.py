"""What two tests of llama-bench ran with: as a cell as far as a cell can say it, and all of it as a passport.

What a row does not tell is unknown and claimed by nobody: its column is NaN, and runs are pooled only where they have
the same of it known.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from pydantic import ValidationError

from melt.analysis.passport import UNKNOWN_SETTINGS
from melt.backends.llama_bench_rows import AXES_OF_ROWS, Row
from melt.backends.llamabench import LlamaBench
from melt.errors import PlanError, StoreError
from melt.models.info import ModelInfo
from melt.spec.cell import AXES, Cell
from melt.spec.facts import DeviceFacts
from melt.store.manifest import Flag
from melt.util.yaml import describe_problems

HINT = "melt reads what llama-bench writes with -o jsonl."
# What differs between two tests of one setting.
OF_TEST = (
    *("n_prompt", "n_gen", "n_depth", "test_time", "samples_ns", "samples_ts"),
    *("avg_ns", "stddev_ns", "avg_ts", "stddev_ts"),
)
# What an export of melt's adds to llama-bench's own columns.
RUN, ENGINE, FLAGS, POWER_MODE = "melt_run", "melt_engine", "melt_flags", "melt_power_mode"
FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}  # a cell's words, and the numbers in a row
MANY_LAYERS = 99  # by custom: more than the model has
_NEVER_TOLD = ("warmups", "seed")
_OF_THE_MACHINE = ("cpu_info", "gpu_info", "backends", "build_commit")  # in the passport by other names, or below
_FLAG_NAME = re.compile(r"[a-z][a-z_]{0,39}")
_MAX_FLAGS = 50
_MAX_VALUE_CHARS = 200


def more(row: Row) -> Mapping[str, Any]:
    """The columns that melt knows by no field: versions of llama-bench differ in them."""
    return row.model_extra or {}


def cell_of(prefill: Row, decode: Row, device: str, info: ModelInfo | None) -> tuple[Cell, tuple[str, ...]]:
    """The cell of a pair of tests, and its axes that neither tells, whose values mean nothing.

    Raises:
        MeltError: no cell can be like this, or the two were repeated differently often.
    """
    counts = {len(prefill.samples_ns), len(decode.samples_ns)}
    if len(counts) > 1:
        raise StoreError(f"{name(prefill)} and {name(decode)} were repeated differently often", "Run them together.")
    told = _told(prefill)
    fields = {
        "device": device,
        "model": info.ref if info else PurePath(prefill.model_filename).name or "unknown",
        "backend": LlamaBench.name,
        "runner": "imported",
        "accelerator": "gpu" if prefill.gpu_info and more(prefill).get("n_gpu_layers") != 0 else "cpu",
        "prompt_tokens": prefill.n_prompt,
        "gen_tokens": decode.n_gen,
        "iterations": counts.pop(),
        **told,
    }
    may_tell = (*AXES_OF_ROWS, *_OTHERS, *_NEVER_TOLD)
    try:
        return Cell.model_validate(fields), tuple(axis for axis in AXES if axis in may_tell and axis not in told)
    except ValidationError as e:
        raise PlanError(describe_problems(e, name(prefill), Cell), HINT) from e


def _told(row: Row) -> dict[str, Any]:
    """The axes that a row tells."""
    columns = more(row)
    found = {axis: columns[key] for axis, key in AXES_OF_ROWS.items() if key in columns}
    others = {axis: read(columns) for axis, read in _OTHERS.items()}
    return found | {axis: value for axis, value in others.items() if value is not None}


def _flash_attn(columns: Mapping[str, Any]) -> str | None:
    """By number, by yes or no in rows of before it had three values, or in words."""
    value = columns.get("flash_attn")
    return next((word for word, number in FLASH_ATTENTION.items() if value in (word, number)), None)


def _load_mode(columns: Mapping[str, Any]) -> str | None:
    """Once a yes or no; of the later words "mmap" alone says what was done, "auto" among others does not."""
    mapped = columns.get("use_mmap")
    if isinstance(mapped, bool | int):
        return "mmap" if mapped else "read"
    return "mmap" if columns.get("load_mode") == "mmap" else None


def _cores(columns: Mapping[str, Any]) -> str | None:
    mask = columns.get("cpu_mask")
    if not isinstance(mask, str) or not re.fullmatch(r"0x[0-9a-fA-F]{1,16}", mask):
        return None
    return f"{int(mask, 16):#x}" if int(mask, 16) else "all"


def _power_mode(columns: Mapping[str, Any]) -> Any:
    return columns.get(POWER_MODE)


_OTHERS = {"flash_attn": _flash_attn, "load_mode": _load_mode, "cores": _cores, "power_mode": _power_mode}


def passport_of(row: Row, facts: DeviceFacts, engine: Mapping[str, str], unknown: tuple[str, ...]) -> dict[str, str]:
    """Everything that tells one setting from another; of the model what its columns say, by their own names."""
    columns = {k: v for k, v in row.model_dump(mode="json").items() if k not in OF_TEST}
    own = {k: v for k, v in columns.items() if k not in (*_OF_THE_MACHINE, RUN, FLAGS)}
    own["model_filename"] = PurePath(row.model_filename).name
    settings = {k if k.startswith("model") else f"llama_bench_{k}": _text(v) for k, v in own.items()}
    given = {"driver": "imported", **facts.passport(), **engine, "gpu_info": row.gpu_info, "backends": row.backends}
    return {**given, UNKNOWN_SETTINGS: ",".join(unknown), **settings}


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= _MAX_VALUE_CHARS else hashlib.sha256(text.encode()).hexdigest()


def flags_of(row: Row, info: ModelInfo | None) -> tuple[Flag, ...]:
    """What stands against an imported run: what an export of melt's says of it, and layers left on the processor."""
    flags = [Flag(name="imported", evidence="by llama-bench, which alone says what it ran on and in which conditions")]
    said = more(row).get(FLAGS)
    for flag in said[:_MAX_FLAGS] if isinstance(said, list) else ():
        if isinstance(flag, str) and _FLAG_NAME.fullmatch(flag) and flag != "imported":
            flags.append(Flag.model_validate({"name": flag, "evidence": "flagged where it was measured"}))
    layers = more(row).get("n_gpu_layers")
    whole = info.n_layers if info else MANY_LAYERS
    if row.gpu_info and isinstance(layers, int) and 0 < layers < whole:
        of = f"of {whole}" if info else "of how many it does not say"
        flags.append(Flag(name="partial_fallback", evidence=f"{layers} layers on the GPU, {of}; the rest on the CPU"))
    return tuple({f.name: f for f in flags}.values())


def setting(row: Row) -> str:
    """All that two tests of one setting have in common."""
    kept = {k: v for k, v in row.model_dump(mode="json").items() if k not in OF_TEST}
    return json.dumps(kept, sort_keys=True)


def name(row: Row) -> str:
    """A test as llama-bench names it."""
    parts = [f"pp{row.n_prompt}" if row.n_prompt else "", f"tg{row.n_gen}" if row.n_gen else ""]
    return "+".join(p for p in parts if p) + (f" @ d{row.n_depth}" if row.n_depth else "")
