"""A model in several files is measured as the whole one is: by every runner, and on a device that gets all files."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from melt.execution.plan import run
from melt.spec.events import ModelLoaded
from melt.store.store import Run
from tests.support.cli import melt_here
from tests.support.plans import a_plan, timed
from tests.support.split_models import split


@pytest.fixture
def first(tiny_model: Path, tmp_path: Path) -> Path:
    """The first of three files."""
    folder = tmp_path / "model"
    folder.mkdir()
    return split(tiny_model, folder)[0]


def what_was_run(made: Run) -> Mapping[str, object]:
    """What the engine says of the model, and the tokens that it made."""
    (loaded,) = [e for e in made.events() if isinstance(e, ModelLoaded)]
    assert made.manifest.model is not None
    return {
        "engine": (loaded.n_params, loaded.file_bytes),
        "melt": (made.manifest.model.n_params, made.manifest.model.quant, made.manifest.prediction),
        "tokens": [e.tokens for e in timed(made)],
    }


def test_either_runner_makes_of_it_what_it_makes_of_the_whole(
    first: Path, tiny_model: Path, tmp_path: Path, kept_builds: None
) -> None:
    outcome = run(a_plan("local", tiny_model, first, runners=("python", "native")), tmp_path / "r")
    assert outcome.complete, [made.manifest.error for made in outcome.made]
    said = [what_was_run(made) for made in outcome.made]
    assert len(said) == 4
    assert all(one == said[0] for one in said)
    hashes = {made.manifest.cell.model: made.manifest.passport["model_sha256"] for made in outcome.made}
    assert len(set(hashes.values())) == 2


def test_a_dry_run_tells_the_size_of_all_files(first: Path, tmp_path: Path) -> None:
    said = melt_here("run", "--device", "local", "--model", str(first), "--dry-run", "--results", str(tmp_path / "r"))
    assert said.returncode == 0, said.stderr
    total = sum(p.stat().st_size for p in first.parent.iterdir())
    assert f"{total / 2**10:,.1f} KiB" in said.stdout or f"{total / 2**20:,.1f} MiB" in said.stdout


def test_a_missing_file_is_told_before_anything_is_run(first: Path, tmp_path: Path) -> None:
    first.with_name("split-00003-of-00003.gguf").unlink()
    said = melt_here("run", "--device", "local", "--model", str(first), "--results", str(tmp_path / "r"))
    assert said.returncode != 0
    assert "split-00003-of-00003.gguf is missing" in said.stderr
    assert not list((tmp_path / "r").glob("*/manifest.json"))
