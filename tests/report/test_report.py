"""The report as files: complete, harmless, the same twice, and sensible where there is little to tell."""

import csv
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from click.testing import CliRunner

import melt
from melt.analysis.crossover import Crossover
from melt.cli.report import report
from melt.errors import ReportError
from melt.report import text, write_report
from melt.report.caveats import caveats
from melt.report.charts import fitted_apart, spread
from melt.report.conditions import protocol
from melt.report.crossings import crossing_words
from melt.report.curve_groups import curve_groups
from melt.report.figures.traces import MAX_POINTS, thinned
from melt.report.folder import MARKER
from melt.report.pairs import pair
from melt.report.tables import cells_table
from melt.store.manifest import MANIFEST, Flag
from melt.store.store import EVENTS
from tests.support.store_factory import (
    CONTEXTS,
    MAMBA,
    MAMBA2,
    SMOLLM,
    FakeModel,
    Recipe,
    with_,
    write_run,
    write_store,
)

MAX_PAGE_BYTES = 5_000_000


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_store(folder / "results", sessions=3)
    return write_report(melt.load(folder / "results"), folder / "report")


def page_of(folder: Path) -> str:
    return write_report(melt.load(folder / "results"), folder / "report").read_text(encoding="utf-8")


def test_page_is_small_and_needs_nothing(demo: Path) -> None:
    page = demo.read_text(encoding="utf-8")
    assert len(page) < MAX_PAGE_BYTES
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_page_says_what_matters(demo: Path) -> None:
    page = demo.read_text(encoding="utf-8")
    for words in (
        "REAL weights",
        "SYNTHETIC weights",
        "virtual machine",
        "Energy on local is absent, not zero",
        "Cells have 3 sessions",
        "Time to first token (TTFT)",
        "From about 5",
        "melt run",
        "model_sha256",
    ):
        assert words in page, words


def test_conditions_come_before_results(demo: Path) -> None:
    page = demo.read_text(encoding="utf-8")
    places = [
        page.index(f'id="{i}"') for i in ("conditions", "short", "speed", "memory", "cells", "passport", "reproduce")
    ]
    assert places == sorted(places)


def test_every_figure_is_a_file_twice_and_the_tables_are_csv(demo: Path) -> None:
    page = demo.read_text(encoding="utf-8")
    for slug in re.findall(r'id="figure-([^"]+)"', page):
        png = (demo.parent / "figures" / f"{slug}.png").read_bytes()
        assert png.startswith(b"\x89PNG")
        assert ET.fromstring((demo.parent / "figures" / f"{slug}.svg").read_text()).tag.endswith("svg")
    with (demo.parent / "tables" / "cells.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == 15
    assert float(rows[0]["ttft_s_lo"]) <= float(rows[0]["ttft_s"]) <= float(rows[0]["ttft_s_hi"])
    assert rows[0]["energy_prefill_j"] == ""


def test_the_same_results_give_the_same_page_and_figures(tmp_path: Path) -> None:
    write_store(tmp_path / "results", models=(SMOLLM, MAMBA), contexts=(128, 512), sessions=2)
    one, two = (write_report(melt.load(tmp_path / "results"), tmp_path / name).parent for name in "ab")
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert files
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes(), file


def test_helpers_draw_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(tmp_path / "results", models=(SMOLLM, MAMBA), contexts=(128, 512), sessions=2)
    alone = write_report(melt.load(tmp_path / "results"), tmp_path / "a").read_bytes()
    monkeypatch.setattr("melt.report.write.WORTH_A_PROCESS", 1)
    assert write_report(melt.load(tmp_path / "results"), tmp_path / "b").read_bytes() == alone


def test_svg_files_tell_no_date_and_parse_no_mathematics(tmp_path: Path) -> None:
    model = FakeModel("$\\pi^{2}$ <b>", "ssm", "mamba", 10**8, 3e-3, 0, 0.01, 0, 0, 2**20)
    write_run(tmp_path / "results", model, 128)
    index = write_report(melt.load(tmp_path / "results"), tmp_path / "report")
    svg = (index.parent / "figures" / "ttft-s.svg").read_text(encoding="utf-8")
    assert "$\\pi^{2}$" in svg
    assert "&lt;b&gt;" in svg
    assert "dc:date" not in svg


def test_csv_cells_are_no_formulas(tmp_path: Path) -> None:
    flag = Flag(name="=1+1", evidence="@SUM(A1)")
    write_run(tmp_path / "results", MAMBA, 128, recipe=Recipe(device='=HYPERLINK("x")', flags=(flag,)))
    index = write_report(melt.load(tmp_path / "results"), tmp_path / "report")
    for file in (index.parent / "tables").glob("*.csv"):
        with file.open() as f:
            assert not [c for row in csv.reader(f) for c in row if c[:1] in ("=", "@", "+")], file.name


class TestLittleToTell:
    def test_one_model(self, tmp_path: Path) -> None:
        write_store(tmp_path / "results", models=(SMOLLM,), contexts=(128, 512))
        page = page_of(tmp_path)
        assert "SmolLM2-135M: time to first token " in page
        assert "Crossovers:" not in page

    def test_one_session(self, tmp_path: Path) -> None:
        write_store(tmp_path / "results", contexts=(128, 512, 1024), sessions=1)
        page = page_of(tmp_path)
        assert "single session" in page
        assert "unknown: one session" in page

    def test_one_context(self, tmp_path: Path) -> None:
        write_store(tmp_path / "results", contexts=(512,))
        assert "Too few shared context lengths" in page_of(tmp_path)

    def test_only_failures(self, tmp_path: Path) -> None:
        write_run(tmp_path / "results", SMOLLM, 128, recipe=Recipe(status="failed"))
        write_run(tmp_path / "results", MAMBA, 128, recipe=Recipe(status="skipped"))
        page = page_of(tmp_path)
        assert "No run gave a measurement" in page
        assert "names the OOM killer" in page

    def test_no_telemetry(self, tmp_path: Path) -> None:
        write_store(tmp_path / "results", contexts=(128, 512), recipe=Recipe(telemetry=False))
        assert 'id="traces"' not in page_of(tmp_path)

    def test_measured_energy(self, tmp_path: Path) -> None:
        recipe = Recipe(power_w=(3.0, 12.0, 9.0), gen_tokens=128)
        write_store(tmp_path / "results", models=(SMOLLM, MAMBA), contexts=(512, 1024), sessions=1, recipe=recipe)
        page = page_of(tmp_path)
        assert 'id="energy"' in page
        assert "Energy per generated token" in page

    def test_other_conditions_are_apart(self, tmp_path: Path) -> None:
        write_store(tmp_path / "results", models=(SMOLLM, MAMBA), contexts=(128, 512), sessions=1)
        slow = with_(Recipe(), passport={"governor": "powersave"})
        write_store(tmp_path / "results2", models=(SMOLLM, MAMBA2), contexts=(128, 512), sessions=1, recipe=slow)
        index = write_report(melt.load(tmp_path / "results", tmp_path / "results2"), tmp_path / "report")
        page = index.read_text(encoding="utf-8")
        assert page.count('class="pair"') == 2
        assert "conditions " in page


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

    def test_a_setting_that_ran_elsewhere_than_asked_says_so(self, tmp_path: Path) -> None:
        for recipe in (Recipe(), Recipe(cell={"accelerator": "gpu"})):
            write_store(tmp_path, models=(SMOLLM,), contexts=(128, 512), sessions=1, recipe=recipe)
        titles = [s.title for s in curve_groups(melt.load(tmp_path))]
        assert [t.split(" · ", 2)[2] for t in titles] == ["cpu", "gpu · ran on cpu"]

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
        path.write_text(path.read_text().replace('"iterations": 5', '"iterations": 1'))
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

    @pytest.mark.parametrize(("sessions", "odds"), [(2, "50 % with 2"), (4, "87.5 % with 4"), (5, "93.75 % with 5")])
    def test_what_few_sessions_are_worth(self, tmp_path: Path, sessions: int, odds: str) -> None:
        write_store(tmp_path, models=(MAMBA,), contexts=(128,), sessions=sessions, recipe=Recipe(telemetry=False))
        told = " ".join(caveats(melt.load(tmp_path), []))
        assert f"probability: {odds}." in told
        assert "three" not in told

    def test_medians_come_with_their_interval_and_their_doubts(self, tmp_path: Path) -> None:
        flag = Flag(name="throttled", evidence="firmware says so")
        write_store(tmp_path, models=(SMOLLM, MAMBA), contexts=(128, 512), recipe=Recipe(flags=(flag,)))
        results = melt.load(tmp_path)
        (group,) = curve_groups(results)
        told = pair(group, *group.pairs[0], results)
        assert re.search(r"time to first token is [\d.]+ s \([\d.]+ to [\d.]+ s\) with Mamba-130M and ", told.sentence)
        assert re.search(r"time per output token is [\d.]+ ms \([\d.]+ to [\d.]+ ms\) with ", told.sentence)
        assert told.flags == "Flagged: Mamba-130M at 512 tokens and SmolLM2-135M at 512 tokens (throttled)."

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


class TestFolder:
    def test_a_report_is_replaced_whole(self, tmp_path: Path) -> None:
        write_store(tmp_path / "results", models=(MAMBA,), contexts=(128,), sessions=1)
        results = melt.load(tmp_path / "results")
        index = write_report(results, tmp_path / "out")
        marker = index.parent / MARKER
        (index.parent / "figures" / "stale.svg").write_text("old")
        marker.write_text(marker.read_text() + "figures/stale.svg\n../results\n")
        write_report(results, tmp_path / "out")
        assert not (index.parent / "figures" / "stale.svg").exists()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "results"]
        assert sorted(p.name for p in index.parent.iterdir()) == [MARKER, "figures", "index.html", "tables"]

    def test_what_melt_did_not_write_stays(self, tmp_path: Path) -> None:
        write_store(tmp_path / "results", models=(MAMBA,), contexts=(128,), sessions=1)
        results = melt.load(tmp_path / "results")
        out = write_report(results, tmp_path / "out").parent
        (out / "notes.md").write_text("mine")
        (out / "figures" / "mine.svg").write_text("mine")
        write_report(results, out)
        assert (out / "notes.md").read_text() == (out / "figures" / "mine.svg").read_text() == "mine"

    @pytest.mark.parametrize("name", ["index.html", ".melt-report"])
    def test_a_web_site_is_no_report(self, tmp_path: Path, name: str) -> None:
        write_store(tmp_path / "results", models=(MAMBA,), contexts=(128,), sessions=1)
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / name).write_text("<h1>Mine</h1>")
        with pytest.raises(ReportError, match="is not a report"):
            write_report(melt.load(tmp_path / "results"), tmp_path / "site")
        assert [p.name for p in (tmp_path / "site").iterdir()] == [name]
        assert (tmp_path / "site" / name).read_text() == "<h1>Mine</h1>"

    def test_the_current_folder_will_do(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_store(tmp_path / "results", models=(MAMBA,), contexts=(128,), sessions=1)
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        for _ in range(2):
            write_report(melt.load(tmp_path / "results"), Path())
        assert Path("index.html").is_file()

    def test_what_a_killed_melt_left_is_swept(self, tmp_path: Path) -> None:
        write_store(tmp_path / "results", models=(MAMBA,), contexts=(128,), sessions=1)
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        for pid in (gone.pid, os.getppid()):
            (tmp_path / "out" / f".melt-{pid}.partial" / "figures").mkdir(parents=True)
        write_report(melt.load(tmp_path / "results"), tmp_path / "out")
        assert [p.name for p in (tmp_path / "out").glob(".melt-*.partial")] == [f".melt-{os.getppid()}.partial"]

    def test_advice_fits_the_reason(self, tmp_path: Path) -> None:
        write_store(tmp_path / "results", models=(MAMBA,), contexts=(128,), sessions=1)
        (tmp_path / "file").write_text("")
        with pytest.raises(ReportError) as caught:
            write_report(melt.load(tmp_path / "results"), tmp_path / "file" / "report")
        assert "space" not in caught.value.hint

    def test_another_folder_is_left_alone(self, tmp_path: Path) -> None:
        write_store(tmp_path / "results", models=(MAMBA,), contexts=(128,), sessions=1)
        with pytest.raises(ReportError, match="is not a report"):
            write_report(melt.load(tmp_path / "results"), tmp_path / "results")

    def test_a_failure_leaves_the_old_report(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_store(tmp_path / "results", models=(MAMBA,), contexts=(128,), sessions=1)
        results = melt.load(tmp_path / "results")
        index = write_report(results, tmp_path / "out")
        before = index.read_bytes()

        def full(*_: object) -> str:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("melt.report.write.render", full)
        with pytest.raises(ReportError, match="No space left") as caught:
            write_report(results, tmp_path / "out")
        assert "space" in caught.value.hint
        assert index.read_bytes() == before
        assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "results"]


class TestCommand:
    def test_prints_the_path_last(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        write_store(Path("results"), models=(MAMBA,), contexts=(128,), sessions=1)
        done = CliRunner().invoke(report, [])
        assert done.exit_code == 0, done.output
        assert done.output.splitlines()[-1] == str(Path("reports/demo/index.html"))
        assert Path("reports/demo/index.html").is_file()

    def test_a_single_run_will_do(self, tmp_path: Path) -> None:
        run = write_run(tmp_path / "results", MAMBA, 128)
        done = CliRunner().invoke(report, [str(run.folder), "--out", str(tmp_path / "out")])
        assert done.exit_code == 0, done.output
        assert (tmp_path / "out" / "index.html").is_file()

    def test_all_damage_is_announced_in_plain_words(self, tmp_path: Path) -> None:
        write_run(tmp_path / "results", MAMBA, 128)
        cut, late, strange = (write_run(tmp_path / "results", MAMBA, c) for c in (256, 512, 1024))
        (cut.folder / MANIFEST).write_text('{"schema_version": 1,')
        events = (late.folder / EVENTS).read_text()
        (late.folder / EVENTS).write_text(events[: len(events) // 2])
        with (strange.folder / EVENTS).open("a") as f:
            f.write("?\n")
        done = CliRunner().invoke(report, [str(tmp_path / "results"), "--out", str(tmp_path / "out")])
        said = {line.split(": ")[0]: line for line in done.stderr.splitlines()}
        assert said["left out"].endswith(f"{cut.folder}: manifest.json is cut short or is no JSON")
        assert "the event stream has no ok end" in said["counted as failed"]
        assert "no events in 1 line of events.jsonl" in said["read in part"]

    def test_help_has_an_example(self) -> None:
        assert "melt report results/ --out" in CliRunner().invoke(report, ["--help"]).output


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
        ("crosses", (1350.0,), 1100.0, 1620.0, "From about 1,350 tokens on (1,100 to 1,600): sooner."),
        ("crosses", (140.0,), 0.0, 160.0, "From about 140 tokens on (below 128 to 160): sooner."),
        ("crosses", (4000.0,), 3000.0, float("inf"), "From about 4,000 tokens on (3,000 to beyond 4,096): sooner."),
        ("crosses_back", (512.0,), 500.0, 600.0, "Up to about 510 tokens (500 to 600): sooner."),
        ("better_everywhere", (), np.nan, np.nan, "Sooner at every measured length (128 to 4,096 tokens)."),
        ("never_better", (), np.nan, np.nan, "no crossover within the range"),
        ("multiple", (200.0, 900.0), np.nan, np.nan, "more than once: near 200 and 900 tokens"),
        ("crosses", (512.0,), 0.0, float("inf"), "sessions differ too much to tell"),
    ],
)
def test_crossovers_in_words(kind: str, crossings: tuple[float, ...], low: float, high: float, words: str) -> None:
    at = crossings[0] if len(crossings) == 1 else np.nan
    ends = (float(CONTEXTS[0]), float(CONTEXTS[-1]))
    found = Crossover("ttft_s", "A", "B", kind, ends, (1.2, 0.8), crossings, at, low, high)  # type: ignore[arg-type]
    assert words in crossing_words(found)
