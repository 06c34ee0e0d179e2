"""A backend of somebody else's: installed as a package of its own, found by its entry point, and run."""

from pathlib import Path

import pytest

import melt
from tests.support.packages import TESTS, install, melt_with

PACKAGE = TESTS / "example_backend"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install("example_backend", tmp_path_factory.mktemp("package"))


def test_it_is_found_and_measures(installed: Path, tmp_path: Path, tiny_model: Path) -> None:
    assert "read-weights" in melt_with(installed, "doctor").stdout
    few = ["--context", "32", "--gen", "8", "--sessions", "1", "--iterations", "2", "--results", str(tmp_path / "r")]
    where = ["--device", "local", "--model", str(tiny_model), "--backend", "read-weights"]
    done = melt_with(installed, "run", *where, *few, "--no-report")
    assert done.returncode == 0, done.stderr
    row = melt.load(tmp_path / "r").runs.iloc[0]
    assert (row["backend"], row["status"], row["effective_accelerator"]) == ("read-weights", "ok", "cpu")
    assert row["decode_tok_per_s"] > 0
    assert row["weights_bytes"] == tiny_model.stat().st_size


def test_its_option_changes_what_it_does_and_stands_in_results(
    installed: Path, tmp_path: Path, tiny_model: Path
) -> None:
    few = ["--context", "8", "--gen", "4", "--sessions", "1", "--iterations", "1", "--results", str(tmp_path / "r")]
    where = ["--device", "local", "--model", str(tiny_model), "--backend", "read-weights"]
    done = melt_with(installed, "run", *where, *few, "--no-report", "--set", "options={block_kib: [64, 512, 256]}")
    assert done.returncode == 0, done.stderr
    sizes = melt.load(tmp_path / "r").runs.set_index("options")["compute_bytes"]
    assert sizes.to_dict() == {"block_kib=64": 64 * 1024, "block_kib=512": 512 * 1024, "": 256 * 1024}


def test_an_option_that_nobody_has_is_told_with_the_nearest(installed: Path, tmp_path: Path, tiny_model: Path) -> None:
    where = ["--device", "local", "--model", str(tiny_model), "--backend", "read-weights", "--results", str(tmp_path)]
    for command in (["run", *where], ["run", *where, "--dry-run"]):
        done = melt_with(installed, *command, "--set", "options={blok_kib: 64}")
        assert done.returncode == 2
        assert "has 'blok_kib' (did you mean 'block_kib'?)" in done.stderr.replace("\n", " ")
    assert "block_kib (1 to 65536; default 256)" in melt_with(installed, "doctor").stdout.replace("\n", " ")


def test_what_it_refuses_is_told_as_melts_own_errors_are(installed: Path, tiny_model: Path, tmp_path: Path) -> None:
    where = ["--device", "local", "--model", str(tiny_model), "--backend", "read-weights", "--accelerator", "gpu"]
    done = melt_with(installed, "run", *where, "--results", str(tmp_path / "r"))
    assert done.returncode == 3
    assert done.stderr.startswith("error: read-weights reads memory with the CPU, not the gpu")


def test_without_the_package_nobody_knows_it(tmp_path: Path, tiny_model: Path) -> None:
    where = ["--device", "local", "--model", str(tiny_model), "--backend", "read-weights"]
    done = melt_with(tmp_path, "run", *where, "--results", str(tmp_path / "r"))
    assert done.returncode == 2
    assert "unknown backend 'read-weights'" in done.stderr


def test_the_backend_is_as_short_as_the_docs_say() -> None:
    lines = (PACKAGE / "melt_read_weights" / "backend.py").read_text().splitlines()
    code = [line for line in lines if line.strip() and not line.strip().startswith('"""')]
    assert len(code) <= 40
