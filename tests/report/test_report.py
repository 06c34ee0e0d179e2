"""The report as files: complete, harmless, the same twice, and sensible where there is little to tell."""

import csv
import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

import melt
from melt.cli.report import report
from melt.report import write_report
from melt.store.manifest import MANIFEST, Flag
from melt.store.store import EVENTS, PLAN
from tests.support.store_factory import (
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
        "95 % interval",
        "Time to first token (TTFT)",
        "tokens on (95 % interval",
        "Holds for the 6 claims of this page together.",
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


def page_of(folder: Path) -> str:
    return write_report(melt.load(folder / "results"), folder / "report").read_text(encoding="utf-8")


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
        assert "not settled" in page
        assert "Only 1 round of both, and 6 are needed." in page

    def test_five_sessions_tell_no_difference_however_large(self, tmp_path: Path) -> None:
        write_store(tmp_path / "results", models=(SMOLLM, MAMBA), contexts=(512, 4096), sessions=5)
        page = page_of(tmp_path)
        assert "range of 5 sessions" in page
        assert "Only 5 rounds of both, and 6 are needed; they range over " in page
        assert "Not settled at any length (512 to 4,096 tokens): 5 whole rounds of 6 needed." in page
        assert 'class="card better"' not in page
        assert "95 % interval" not in page

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
    "text", ["-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n", "[secret]\n", "devices: [local]\nmodels: 7\n"]
)
def test_a_plan_that_is_none_is_not_shown(text: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "results", MAMBA, 128)
    (run.folder / PLAN).write_text(text)
    page = write_report(melt.load(tmp_path / "results"), tmp_path / "page").read_text()
    assert "BEGIN OPENSSH" not in page
    assert "secret" not in page
    (run.folder / PLAN).write_text("devices: [local]\nmodels: [mine.gguf]  # a remark of mine\n")
    page = write_report(melt.load(tmp_path / "results"), tmp_path / "page").read_text()
    assert "mine.gguf" in page
    assert "a remark of mine" not in page


def test_a_model_of_no_known_size_ends_no_report(tmp_path: Path) -> None:
    for model in (SMOLLM, MAMBA):
        for context in (128, 512):
            path = write_run(tmp_path / "results", model, context).folder / "manifest.json"
            manifest = json.loads(path.read_text())
            manifest["model"]["n_params"] = 0
            path.write_text(json.dumps(manifest))
    page = write_report(melt.load(tmp_path / "results"), tmp_path / "page").read_text()
    assert "not closely matched" in page
