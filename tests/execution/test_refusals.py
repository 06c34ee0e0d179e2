"""Bad input is refused before anything is made."""

import os
from pathlib import Path

import pytest

from melt.errors import DeviceError, ModelError, PlanError, ProfileError, StoreError
from melt.execution.plan import run
from tests.support.plans import a_plan


def test_every_wrong_name_is_reported_at_once(tmp_path: Path) -> None:
    bad = a_plan("lcoal", "synth:mamba-131m", "no.gguf").model_copy(update={"backends": ("lama.cpp",)})
    with pytest.raises(PlanError) as e:
        run(bad, tmp_path / "r")
    for said in ("lama.cpp", "lcoal", "mamba-131m", "no.gguf"):
        assert said in e.value.message


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"devices": ("lcoal",)}, ProfileError, "did you mean 'local'"),
        ({"backends": ("lama.cpp",)}, PlanError, "did you mean 'llama.cpp'"),
        ({"models": ("no-such-file.gguf",)}, ModelError, "no-such-file.gguf"),
        ({"models": ("synth:mamba-131m",)}, ModelError, "mamba-130m"),
        ({"models": ("ftp:x",)}, ModelError, "ftp"),
        ({"devices": ("pixel8",)}, DeviceError, "pixel8: no phone"),
        ({"models": ()}, PlanError, "models"),
        ({"context": ()}, PlanError, "context is empty"),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(
    tmp_path: Path, tiny_model: Path, fields: dict[str, object], error: type[Exception], said: str
) -> None:
    bad = a_plan("local", tiny_model).model_copy(update=fields)
    with pytest.raises(error) as e:
        run(bad, tmp_path / "r")
    assert said in str(e.value) + getattr(e.value, "hint", "")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("damage", ["truncated", "corrupt", "empty"])
def test_a_damaged_model_is_refused_before_anything_is_made(tmp_path: Path, tiny_model: Path, damage: str) -> None:
    data = tiny_model.read_bytes()
    bad = tmp_path / "bad.gguf"
    bad.write_bytes({"truncated": data[: len(data) // 2], "corrupt": b"GGUF" + os.urandom(4000), "empty": b""}[damage])
    with pytest.raises(ModelError, match=r"bad\.gguf"):
        run(a_plan("local", bad), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_results_folder_that_cannot_be_is_refused_before_a_model_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is not a folder") as e:
        run(a_plan("local", "synth:mamba-130m"), tmp_path / "file" / "r")
    assert "--results" in e.value.hint
    assert not (tmp_path / "cache" / "models").exists()
