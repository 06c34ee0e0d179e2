"""What is pooled of llama-bench's files: what had the same settings, all of them told, and no more."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import melt
from melt.errors import StoreError
from melt.exchange.llama_bench_export import export_llama_bench
from melt.exchange.llama_bench_import import import_llama_bench
from melt.report import write_report
from melt.store.manifest import Flag
from tests.support.cli import melt_here
from tests.support.store_factory import SMOLLM, Recipe, write_run

REAL = Path(__file__).parents[1] / "data" / "llama-bench" / "tiny-2-threads.jsonl"
ROWS = [json.loads(line) for line in REAL.read_text().splitlines()]
MINUTE = iter(range(10_000))


def a_pair(
    prefill_ms: float = 100, decode_ms: float = 160, changes: Mapping[str, Any] | None = None, **more: Any
) -> list[dict[str, Any]]:
    """A reading of 64 tokens, and a writing of 16 behind them, as one invocation gives both."""
    m = next(MINUTE)
    took = {"test_time": f"2026-11-{1 + m // 1440:02d}T{m // 60 % 24:02d}:{m % 60:02d}:00Z"}
    prefill = ROWS[0] | took | {"samples_ns": [round(prefill_ms * 1e6)] * 3}
    decode = ROWS[3] | took | {"samples_ns": [round(decode_ms * 1e6)] * 3}
    return [{k: v for k, v in {**row, **(changes or {}), **more}.items() if v is not ...} for row in (prefill, decode)]


def cells_of(folder: Path, *pairs: list[dict[str, Any]], encoding: str = "utf-8") -> pd.DataFrame:
    path = folder / "bench.jsonl"
    path.write_bytes("".join(json.dumps(row) + "\n" for both in pairs for row in both).encode(encoding))
    import_llama_bench(path, folder / "r", "box")
    return melt.load(folder / "r").cells.sort_values("prefill_tok_per_s", ignore_index=True)


@pytest.mark.parametrize("invocations", [1, 2, 3])
def test_an_invocation_is_a_session_and_no_more(invocations: int, tmp_path: Path) -> None:
    cells = cells_of(tmp_path, *(a_pair(100 + i) for i in range(invocations)))
    assert list(cells["n_sessions"]) == [invocations]


def test_the_k_th_reading_goes_with_the_k_th_writing(tmp_path: Path) -> None:
    cells_of(tmp_path, a_pair(100, 160), a_pair(200, 320))
    runs = melt.load(tmp_path / "r").runs
    assert set(zip(runs["prefill_s"], runs["tpot_s"], strict=True)) == {(0.1, 0.01), (0.2, 0.02)}


def test_two_models_of_one_file_name_are_two_cells(tmp_path: Path) -> None:
    small = {
        "model_filename": "/models/llama-1b/model.gguf",
        "model_type": "llama 1B Q4_0",
        "model_n_params": 1235814432,
    }
    large = {
        "model_filename": "/models/qwen-7b/model.gguf",
        "model_type": "qwen2 7B Q4_K",
        "model_n_params": 7615616512,
    }
    cells = cells_of(tmp_path, a_pair(640, changes=small), a_pair(6400 / 3, changes=large))
    assert list(cells["prefill_tok_per_s"]) == pytest.approx([30, 100])
    assert list(cells["n_sessions"]) == [1, 1]
    write_report(melt.load(tmp_path / "r"), tmp_path / "page")


@pytest.mark.parametrize(
    ("column", "one", "other"),
    [
        ("flash_attn", False, True),
        ("flash_attn", 0, -1),
        ("use_mmap", True, False),
        ("load_mode", "auto", "mmap"),
        ("n_gpu_layers", 10, 99),
        ("model_type", "llama 1B Q4_0", "llama 1B Q4_1"),
        ("model_size", 700_000_000, 800_000_000),
        ("model_n_params", 1, 2),
        ("cpu_mask", "0x0", "0x3"),
        ("poll", 0, 50),
        ("no_kv_offload", False, True),
        ("a_column_of_later", "a", "b"),
        # unknown on one side
        ("flash_attn", True, ...),
        ("use_mmap", True, ...),
        ("n_threads", 2, ...),
        ("model_size", 700_000_000, ...),
        ("a_column_of_later", "a", ...),
    ],
)
def test_what_differs_in_a_setting_or_lacks_it_is_not_pooled(
    column: str, one: object, other: object, tmp_path: Path
) -> None:
    cells = cells_of(tmp_path, a_pair(100, changes={column: one}), a_pair(150, changes={column: other}))
    assert list(cells["prefill_s"]) == pytest.approx([0.15, 0.1])
    assert list(cells["n_sessions"]) == [1, 1]


def test_what_a_row_tells_is_its_setting_and_what_it_does_not_is_nobodys(tmp_path: Path) -> None:
    told = cells_of(tmp_path, a_pair(flash_attn=True, use_mmap=False, cpu_mask="0x0C")).iloc[0]
    assert (told["flash_attn"], told["load_mode"], told["cores"], told["threads"]) == ("on", "read", "0xc", 2)
    (tmp_path / "untold").mkdir()
    columns = ("flash_attn", "use_mmap", "load_mode", "cpu_mask", "n_threads", "n_batch", "type_k")
    untold = cells_of(tmp_path / "untold", a_pair(changes=dict.fromkeys(columns, ...))).iloc[0]
    for axis in ("flash_attn", "load_mode", "cores", "threads", "batch", "type_k", "warmups", "seed", "power_mode"):
        assert untold[axis] != untold[axis], axis
    page = write_report(melt.load(tmp_path / "untold" / "r"), tmp_path / "page").read_text()
    assert "Load mode" not in page or "not known" in page


def test_some_layers_on_the_gpu_are_not_the_gpu(tmp_path: Path) -> None:
    cells_of(tmp_path, a_pair(gpu_info="Some GPU", n_gpu_layers=10), a_pair(gpu_info="Some GPU", n_gpu_layers=99))
    flags = melt.load(tmp_path / "r").flags
    [partial] = flags[flags["flag"] == "partial_fallback"]["evidence"]
    assert partial == "10 layers on the GPU, of how many it does not say; the rest on the CPU"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_is_read_by_the_mark_that_it_begins_with(encoding: str, tmp_path: Path) -> None:
    mark = "\ufeff" if encoding.endswith("e") else ""
    path = tmp_path / "power-shell.jsonl"
    half = len(REAL.read_text().splitlines(keepends=True)[0])
    text = REAL.read_text()[:half] + "\ufeff" + REAL.read_text()[half:]  # appended by a program that marks its part
    path.write_bytes((mark + text).encode(encoding))
    assert len(import_llama_bench(path, tmp_path / "r", "box").made) == 1


def test_a_file_of_another_encoding_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "latin.jsonl"
    path.write_bytes(REAL.read_text().replace("/models", "/mod\u00e8les").encode("latin-1"))
    with pytest.raises(StoreError, match="is no UTF-8 text at byte"):
        import_llama_bench(path, tmp_path / "r", "box")


def test_doubts_and_conditions_go_out_and_come_back(tmp_path: Path) -> None:
    charging = Flag(name="charging", evidence="the charger was in")
    settings = {"flash_attn": "on", "load_mode": "read", "power_mode": "15W"}
    write_run(tmp_path / "r", SMOLLM, 128, recipe=Recipe(flags=(charging,), cell=settings))
    done = melt_here("export", str(tmp_path / "r"), "--format", "llama-bench")
    prefill, decode = (json.loads(line) for line in done.stdout.splitlines())
    assert (decode["n_gen"], prefill["flash_attn"], prefill["use_mmap"]) == (32, 1, False)
    assert prefill["melt_flags"] == ["charging"]
    written = tmp_path / "own.jsonl"
    written.write_text(done.stdout)
    import_llama_bench(written, tmp_path / "back", "here")
    before, after = melt.load(tmp_path / "r"), melt.load(tmp_path / "back")
    for column in ("flash_attn", "load_mode", "power_mode", "gen_tokens", "prompt_tokens"):
        assert after.runs.iloc[0][column] == before.runs.iloc[0][column], column
    for speed in ("prefill_tok_per_s", "decode_tok_per_s"):
        assert after.runs.iloc[0][speed] == pytest.approx(before.runs.iloc[0][speed])
    assert after.runs.iloc[0]["flags"] == "charging,imported"
    [run] = [r.run for r in after.recorded]
    assert [json.loads(line)["melt_flags"] for line in export_llama_bench(run, ["charging", "imported"])] == [
        ["charging"],
        ["charging"],
    ]


@pytest.mark.parametrize("flags", ["charging", [1, None, "<b>", "x" * 100], {"a": 1}])
def test_odd_flags_in_a_row_are_none(flags: object, tmp_path: Path) -> None:
    cells_of(tmp_path, a_pair(melt_flags=flags))
    assert melt.load(tmp_path / "r").runs.iloc[0]["flags"] == "imported"
