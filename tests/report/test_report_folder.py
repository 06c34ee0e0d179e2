"""The folder of a report: replaced whole, and never somebody else's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import melt
from melt.errors import ReportError
from melt.report import write_report
from melt.report.folder import MARKER
from tests.support.store_factory import (
    MAMBA,
    write_store,
)


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
