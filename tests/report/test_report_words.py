"""What a report tells, in words and numbers."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import melt
from melt.analysis.crossover import Crossover
from melt.report import text, write_report
from melt.report.caveats import caveats
from melt.report.charts import fitted_apart, spread
from melt.report.conditions import protocol
from melt.report.crossings import crossing_words
from melt.report.curve_groups import curve_groups
from melt.report.figures.traces import MAX_POINTS, thinned
from melt.report.pairs import told_together
from melt.report.tables import cells_table
from melt.store.manifest import Flag
from tests.support.store_factory import (
    CONTEXTS,
    MAMBA,
    SMOLLM,
    Recipe,
    write_run,
    write_store,
)


class TestTold:
    def test_models_of_one_name_have_labels_that_differ(self, tmp_path: Path) -> None:
        found = (MAMBA, replace(MAMBA, quant="Q8_0"))
        write_store(tmp_path / "results", models=found, contexts=(128, 512), sessions=1)
        write_store(tmp_path / "results", models=(MAMBA,), contexts=(128,), recipe=Recipe(cell={"seed": 7}))
        other = Recipe(cell={"model": "elsewhere/mamba-130m.gguf"}, passport={"model_sha256": "ff" * 32})
        write_store(tmp_path / "results", models=(MAMBA,), contexts=(128,), recipe=other)
        labels = [d.label for s in curve_groups(melt.load(tmp_path / "results")) for d in s.curves]
        assert len(set(labels)) == len(labels) == 4
        assert len(set(fitted_apart(labels).values())) == 4

    def test_what_ran_elsewhere_than_asked_is_on_no_curve_and_says_so(self, tmp_path: Path) -> None:
        elsewhere = Flag(name="accelerator_fallback", evidence="asked for gpu, ran on cpu")
        for recipe in (Recipe(), Recipe(cell={"accelerator": "gpu"}, flags=(elsewhere,))):
            write_store(tmp_path, models=(SMOLLM,), contexts=(128, 512), sessions=1, recipe=recipe)
        results = melt.load(tmp_path)
        groups = curve_groups(results)
        assert [group.title.split(" · ", 2)[2] for group in groups] == ["cpu"]
        assert any(line.startswith("Accelerator fallback: ") for line in caveats(results, groups))

    def test_settings_that_change_the_numbers_are_in_the_protocol(self, tmp_path: Path) -> None:
        cell = {"flash_attn": "on", "type_k": "q8_0", "batch": 256, "ubatch": 64, "seed": 42}
        write_run(tmp_path / "results", MAMBA, 128, recipe=Recipe(iterations=5, warmups=2, cell=cell))
        write_run(tmp_path / "results", MAMBA, 128, recipe=Recipe(iterations=5, warmups=2))
        results = melt.load(tmp_path / "results")
        facts = {f.name: f.value for f in protocol(results)}
        assert (facts["Iterations"], facts["Warm-ups"]) == ("5 a session", "2 a session")
        assert facts["Generated tokens"].endswith(" after each prompt")
        assert "Timed passes" not in facts  # as many as were asked for
        assert facts["Logical batch"] == "256, 2,048 tokens: cells differ, see the table"
        assert facts["Physical batch"] == "64, 512 tokens: cells differ, see the table"
        assert facts["Key cache"] == "f16, q8_0: cells differ, see the table"
        assert facts["Value cache"] == "f16"
        assert facts["Flash attention"].startswith("auto, on: cells differ")
        assert facts["Seed"] == "0, 42: cells differ, see the table"
        assert not {"Duration", "CPU fallback", "Options", "Power mode", "Device", "Backend"} & set(facts)
        notes = {row[1].note for row in cells_table(results).rows}
        assert "logical batch 256, physical batch 64, flash attention on, key cache q8_0, seed 42" in notes

    def test_passes_in_a_given_time_are_counted(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, MAMBA, 128, recipe=Recipe(iterations=5, cell={"workload": "sustained"}))
        path = run.folder / "manifest.json"
        asked = run.manifest.cell.model_copy(update={"iterations": 1})
        text = path.read_text().replace('"iterations": 5', '"iterations": 1').replace(run.manifest.cell_id, asked.id)
        path.write_text(text)
        facts = {f.name: f.value for f in protocol(melt.load(tmp_path))}
        assert (facts["Iterations"], facts["Timed passes"]) == ("1 a session", "5 a session")

    def test_a_table_of_several_places_says_each_as_the_figures_do(self, tmp_path: Path) -> None:
        for cell in ({}, {"backend": "onnxruntime"}):
            write_run(tmp_path, MAMBA, 128, recipe=Recipe(cell=cell))
        results = melt.load(tmp_path)
        table = cells_table(results)
        assert table.header[0] == ("Measured on", "device, backend, accelerator")
        assert {row[0].shown for row in table.rows} == {g.title for g in curve_groups(results)}

    def test_what_gives_no_energy_is_told_by_what_it_would_have_measured(self, tmp_path: Path) -> None:
        write_run(tmp_path, MAMBA, 128)
        [told] = [line for line in caveats(melt.load(tmp_path), []) if line.startswith("Energy on")]
        assert "(rapl: /sys/class/powercap is empty" in told

    def test_a_mixture_of_experts_is_told_to_read_random_tokens_otherwise_than_text(self, tmp_path: Path) -> None:
        path = write_run(tmp_path, SMOLLM, 128).folder / "manifest.json"
        assert "experts" not in " ".join(caveats(melt.load(tmp_path), []))
        manifest = json.loads(path.read_text())
        manifest["model"]["shape"] = {"n_experts": 64, "n_experts_used": 8}
        path.write_text(json.dumps(manifest))
        assert "8 of its 64 experts" in " ".join(caveats(melt.load(tmp_path), []))

    @pytest.mark.parametrize(("sessions", "odds"), [(2, "50 % with 2"), (4, "87.5 % with 4"), (5, "93.8 % with 5")])
    def test_what_few_sessions_are_worth(self, tmp_path: Path, sessions: int, odds: str) -> None:
        write_store(tmp_path, models=(MAMBA,), contexts=(128,), sessions=sessions, recipe=Recipe(telemetry=False))
        told = " ".join(caveats(melt.load(tmp_path), []))
        assert f"{odds}." in told
        assert "three" not in told

    def test_medians_come_with_their_interval_and_their_doubts(self, tmp_path: Path) -> None:
        flag = Flag(name="memory_gap", evidence="a fifth more than explained")
        write_store(tmp_path, models=(SMOLLM, MAMBA), contexts=(128, 512), recipe=Recipe(flags=(flag,)))
        results = melt.load(tmp_path)
        (group,) = curve_groups(results)
        (told,) = told_together([(group, *group.pairs[0])], results)
        ends = r"\(range of 3 sessions [\d.]+ to [\d.]+ m?s\) with"
        assert re.search(rf"time to first token is [\d.]+ s {ends} Mamba-130M and ", told.sentence)
        assert re.search(rf"time per output token is [\d.]+ ms {ends} ", told.sentence)
        cells = [f"{name} at {n} tokens" for n in (128, 512) for name in ("Mamba-130M", "SmolLM2-135M")]
        assert told.flags == f"Flagged: {', '.join(cells[:3])} and {cells[3]} (memory gap)."

    def test_a_session_that_was_disturbed_is_traced_where_there_is_no_other(self, tmp_path: Path) -> None:
        flag = Flag(name="background_load", evidence="others were at work")
        write_store(tmp_path / "results", models=(MAMBA,), contexts=(128,), sessions=2, recipe=Recipe(flags=(flag,)))
        page = write_report(melt.load(tmp_path / "results"), tmp_path / "report").read_text()
        assert "the one to see what went on, for all were disturbed, warm-up included" in page
        assert "2 of 2 sessions disturbed: background load (2)." in page

    def test_every_part_of_memory_is_named(self, tmp_path: Path) -> None:
        recipe = Recipe(tables_bytes=2**24, repacked_bytes=2**25)
        write_store(tmp_path / "results", models=(SMOLLM,), contexts=(128, 512), sessions=1, recipe=recipe)
        index = write_report(melt.load(tmp_path / "results"), tmp_path / "report")
        svg = (index.parent / "figures" / "memory-smollm2-135m.svg").read_text(encoding="utf-8")
        for words in (
            "weights",
            "repacked",
            "KV cache",
            "compute buffers",
            "output buffers",
            "vocabulary",
            "runtime",
        ):
            assert f">{words}</text>" in svg, words

    def test_figures_tell_their_scale_and_their_shades(self, demo: Path) -> None:
        for slug, words in (("ttft-s", "log scale"), ("trace-mamba-130m", "prefill"), ("trace-mamba-130m", "decode")):
            svg = (demo.parent / "figures" / f"{slug}.svg").read_text(encoding="utf-8")
            assert f">{words}</text>" in svg, slug


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0004321, "432 µs"), (0.0132, "13.2 ms"), (1.0, "1.00 s"), (75.25, "75.2 s"), (float("nan"), "–")],
)
def test_seconds(value: float, expected: str) -> None:
    assert text.seconds(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(128, "128"), (1024, "1k"), (1536, "1.5k"), (131072, "128k"), (3000, "3k")]
)
def test_short_tokens(value: int, expected: str) -> None:
    assert text.short_tokens(value) == expected


@pytest.mark.parametrize("hostile", ["../../etc", "a/b\\c", "CON", "\x00", "ünïcödé", "." * 300, ""])
def test_file_names_are_safe(hostile: str) -> None:
    assert re.fullmatch(r"[a-z0-9-]{1,60}", text.file_name(hostile))


def test_labels_are_moved_apart_and_keep_their_order() -> None:
    placed = spread([0.5, 0.5, 0.52, 0.9], 0.08)
    assert (np.diff(placed) >= 0.08 - 1e-6).all()


def test_thinning_keeps_the_extremes() -> None:
    t = np.arange(100_000.0)
    v = np.sin(t / 300)
    v[77_777] = 9.0
    kept_t, kept_v = thinned(t, v)
    assert len(kept_t) <= MAX_POINTS
    assert kept_v.max() == 9.0
    assert (np.diff(kept_t) > 0).all()


@pytest.mark.parametrize(
    ("kind", "crossings", "low", "high", "words"),
    [
        ("crosses", (1350.0,), 1100.0, 1620.0, "From about 1,350 tokens on (95 % interval 1,100 to 1,600): sooner."),
        ("crosses_back", (512.0,), 500.0, 600.0, "Up to about 510 tokens (95 % interval 500 to 600): sooner."),
        ("better_everywhere", (), np.nan, np.nan, "Sooner at every measured length (128 to 4,096 tokens)."),
        ("never_better", (), np.nan, np.nan, "no crossover within the range"),
        ("multiple", (200.0, 900.0), np.nan, np.nan, "more than once: near 200 and 900 tokens"),
        ("not_settled", (), np.nan, np.nan, "Not settled at any length (128 to 4,096 tokens)."),
        ("partly", (), np.nan, np.nan, "Sooner at 4,096 tokens, not settled at 128 tokens."),
    ],
)
def test_crossovers_in_words(kind: str, crossings: tuple[float, ...], low: float, high: float, words: str) -> None:
    at = crossings[0] if len(crossings) == 1 else np.nan
    ends = (float(CONTEXTS[0]), float(CONTEXTS[-1]))
    found = Crossover("ttft_s", "A", "B", kind, ends, (0, -1), crossings, at, low, high, 6)  # type: ignore[arg-type]
    assert words in crossing_words(found)
