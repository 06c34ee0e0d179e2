"""llama-bench's files: taken into a results folder, and written from one."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import melt
from melt.errors import MeltError, ModelError, StoreError
from melt.exchange.llama_bench_export import export_llama_bench
from melt.exchange.llama_bench_import import import_llama_bench, pair, read_rows
from melt.execution.plan import run
from melt.models.gguf.synth import synthesise
from melt.models.shapes.zoo import find_shape, scaled_down
from melt.report import write_report
from melt.spec.plan import Plan
from melt.store.store import Store
from tests.support.cli import melt_here

REAL = Path(__file__).parents[1] / "data" / "llama-bench" / "tiny-2-threads.jsonl"
FIRST = json.loads(REAL.read_text().splitlines()[0])


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_real_file_becomes_a_run_with_its_own_numbers(tmp_path: Path) -> None:
    found = import_llama_bench(REAL, tmp_path / "r", "box")
    assert (len(found.made), found.already_there) == (1, 0)
    assert found.unmatched == ("tg16", "pp64 @ d64")
    results = melt.load(tmp_path / "r")
    row = results.runs.iloc[0]
    assert (row["status"], row["device"], row["backend"], row["runner"]) == ("ok", "box", "llamabench", "llama-bench")
    assert (row["prompt_tokens"], row["gen_tokens"], row["threads"], row["n_iterations"]) == (64, 16, 2, 3)
    prefill, _, _, decode = rows_of(REAL)
    assert row["prefill_tok_per_s"] == pytest.approx(64e9 / sorted(prefill["samples_ns"])[1])
    assert row["decode_tok_per_s"] == pytest.approx(16e9 / sorted(decode["samples_ns"])[1])
    for absent in ("ttft_s", "itl_p50_s", "load_s", "peak_rss_bytes", "energy_decode_j"):
        assert row[absent] != row[absent], absent
    page = write_report(results, tmp_path / "page").read_text()
    assert "tiny-smollm2-135m.gguf" in page
    assert "which alone says what it ran on" in page
    assert FIRST["model_filename"] not in (found.made[0].folder / "manifest.json").read_text()


def test_the_same_tests_are_taken_once(tmp_path: Path) -> None:
    import_llama_bench(REAL, tmp_path / "r", "box")
    again = import_llama_bench(REAL, tmp_path / "r", "box")
    assert (len(again.made), again.already_there) == (0, 1)
    assert len(import_llama_bench(REAL, tmp_path / "r", "other box").made) == 1


def test_a_named_model_tells_its_family_and_must_be_the_one(tmp_path: Path) -> None:
    model = tmp_path / "tiny.gguf"
    synthesise(scaled_down(find_shape("smollm2-135m")), "Q8_0", model)
    import_llama_bench(REAL, tmp_path / "r", "box", str(model))
    row = melt.load(tmp_path / "r").runs.iloc[0]
    assert (row["family"], row["quant"], row["n_params"]) == ("transformer", "Q8_0", FIRST["model_n_params"])
    with pytest.raises(ModelError, match="parameters"):
        import_llama_bench(REAL, tmp_path / "r", "box", "synth:mamba-130m@Q4_0")


def test_melts_own_runs_are_written_and_read_again(tmp_path: Path, tiny_model: Path) -> None:
    few = {"devices": ("local",), "context": (32,), "gen": (9,), "sessions": 1, "iterations": 3, "idle_s": 0.1}
    assert run(Plan.model_validate({**few, "models": (str(tiny_model),), "threads": (2,)}), tmp_path / "r").complete
    done = melt_here("export", str(tmp_path / "r"), "--format", "llama-bench")
    assert done.returncode == 0
    prefill, decode = (json.loads(line) for line in done.stdout.splitlines())
    assert (prefill["n_prompt"], prefill["n_gen"], prefill["n_depth"]) == (32, 0, 0)
    assert (decode["n_prompt"], decode["n_gen"], decode["n_depth"]) == (0, 9, 32)
    assert set(FIRST) & set(prefill) >= {"build_commit", "cpu_info", "model_type", "n_threads", "avg_ts", "samples_ts"}
    row = melt.load(tmp_path / "r").runs.iloc[0]
    assert sorted(prefill["samples_ts"])[1] == pytest.approx(row["prefill_tok_per_s"])
    assert sorted(decode["samples_ts"])[1] == pytest.approx(row["decode_tok_per_s"])
    written = tmp_path / "own.jsonl"
    written.write_text(done.stdout)
    import_llama_bench(written, tmp_path / "back", "here")
    back = melt.load(tmp_path / "back").runs.iloc[0]
    assert back["decode_tok_per_s"] == pytest.approx(row["decode_tok_per_s"])
    for told in ("gen_tokens", "flash_attn", "load_mode", "cores", "threads"):
        assert back[told] == row[told], told


def test_what_was_imported_is_given_back_as_it_was(tmp_path: Path) -> None:
    import_llama_bench(REAL, tmp_path / "r", "box")
    [made] = Store(tmp_path / "r").runs()[0]
    given_back = [json.loads(line) for line in export_llama_bench(made)]
    expected = [rows_of(REAL)[0], rows_of(REAL)[3]]
    for row in expected:
        row["model_filename"] = Path(row["model_filename"]).name
    assert given_back == expected


def test_the_command_says_what_it_leaves_out(tmp_path: Path) -> None:
    done = melt_here("import", "llama-bench", str(REAL), "--results", str(tmp_path / "r"), "--device", "box")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "r")
    assert "left out: tg16" in done.stderr
    lone = tmp_path / "lone.jsonl"
    lone.write_text(REAL.read_text().splitlines()[0])
    done = melt_here("import", "llama-bench", str(lone), "--results", str(tmp_path / "none"))
    assert done.returncode == 2
    assert "no test of a prompt has one of generation at its depth" in done.stderr


def test_tests_of_two_settings_are_no_pair() -> None:
    prefill, _, _, decode = read_rows(REAL)
    other = decode.model_copy(update={"build_number": 2})
    assert pair([prefill, other]) == ([], [prefill, other])
    assert pair([decode, prefill])[0] == [(prefill, decode)]


@pytest.mark.parametrize("text", ["", "\n", "{}", "x", "[1]", "\x00", json.dumps(FIRST | {"samples_ns": []})])
def test_what_is_no_llama_bench_file_is_refused_by_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(StoreError, match=r"bad\.jsonl"):
        import_llama_bench(path, tmp_path / "r", "box")
    assert not (tmp_path / "r").exists()


@given(
    key=st.sampled_from(sorted(FIRST)),
    value=st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers(), max_size=2),
)
def test_no_value_in_a_row_raises_anything_else(tmp_path: Path, key: str, value: Any) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text("\n".join(json.dumps(row | {key: value}) for row in rows_of(REAL)))
    with contextlib.suppress(MeltError):
        import_llama_bench(path, tmp_path / "r", "box")
    if (tmp_path / "r").is_dir():
        melt.load(tmp_path / "r")
