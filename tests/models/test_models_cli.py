import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from melt.cli.models import models
from melt.errors import MeltError, ModelError
from melt.models import ModelCache, inspect, read_header, scaled_down, synthesise
from melt.models.shapes.zoo import load_zoo


def melt_models(*args: str) -> Result:
    return CliRunner().invoke(models, args, catch_exceptions=False)


def last_line(result: Result) -> Path:
    return Path(result.stdout.splitlines()[-1])


def test_every_command_has_an_example() -> None:
    assert "Examples:" in melt_models("--help").stdout
    for name in models.commands:
        assert "Example" in melt_models(name, "--help").stdout, name


def test_list_shows_zoo_and_cache() -> None:
    path = last_line(melt_models("synth", "mamba-130m"))
    listed = json.loads(melt_models("list", "--json").stdout)
    assert {row["name"] for row in listed["zoo"]} == set(load_zoo())
    assert [(row["refs"], row["path"]) for row in listed["cached"]] == [("synth:mamba-130m@Q4_0", str(path))]
    human = melt_models("list").stdout
    assert "falcon-h1-0.5b" in human
    assert "synth:mamba-130m@Q4_0" in human


def test_show_needs_no_file(cache: ModelCache) -> None:
    shown = json.loads(melt_models("show", "synth:falcon-h1-0.5b", "--json", "--context", "512,4096").stdout)
    assert (shown["family"], shown["kv_bytes_per_token"], shown["path"]) == ("hybrid", 18432, "")
    assert [row["context"] for row in shown["predicted_memory"]] == [512, 4096]
    human = melt_models("show", "synth:falcon-h1-0.5b").stdout
    for expected in (
        "hybrid (falcon-h1)",
        "521,411,104",
        "18,432 bytes a token",
        "29,085,696 bytes",
        "Q6_K",
        "not made yet",
    ):
        assert expected in human
    assert cache.entries() == []


def test_contexts_that_a_fixed_cache_has_no_room_for_are_not_predicted() -> None:
    shown = json.loads(melt_models("show", "synth:smollm2-135m@onnx-w8a16", "--json").stdout)
    assert [row["context"] for row in shown["predicted_memory"]] == [128, 512]
    human = melt_models("show", "synth:smollm2-135m@onnx-w8a16").stdout
    assert "1,024 tokens with those generated" in human
    assert "8,192 " not in human.partition("Predicted memory")[2]


def test_show_of_what_is_not_here_says_how_to_get_it() -> None:
    with pytest.raises(ModelError) as caught:
        melt_models("show", "hf:org/repo:m.gguf")
    assert "pull" in caught.value.hint


@pytest.mark.parametrize("contexts", ["1,x", "0", "128,99999999"])
def test_contexts_that_no_cell_could_have_are_refused(contexts: str) -> None:
    refused = melt_models("show", "synth:mamba-130m", "--context", contexts)
    assert refused.exit_code == 2
    assert f"Invalid value for '--context': '{contexts}'" in refused.stderr


def test_hostile_names_are_defused(tmp_path: Path) -> None:
    evil = "[bold red]\x1b[2J\x07\r[/bold red][link=https://e.vil]x"
    shape = replace(scaled_down(load_zoo()["smollm2-135m"]), name=evil)
    path = synthesise(shape, "Q4_0", tmp_path / "evil.gguf").path
    shown = melt_models("show", str(path)).stdout
    assert "[bold red]" in shown
    assert not {"\x1b", "\x07", "\r"} & set(shown)
    assert json.loads(melt_models("show", str(path), "--json").stdout)["name"].startswith("[bold red]\x1b")


def test_pull_prints_the_path_last() -> None:
    result = melt_models("pull", "synth:mamba-130m@Q8_0")
    assert inspect(last_line(result)).quant == "Q8_0"
    assert result.stdout.count("\n") == 1


def test_synth_writes_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "made" / "m.gguf"
    assert last_line(melt_models("synth", "mamba-130m", "--quant", "Q4_K_M", "--seed", "5", "--out", str(out))) == out
    assert read_header(out).metadata["melt.synthetic.seed"] == 5
    monkeypatch.chdir(tmp_path)
    seeded = last_line(melt_models("synth", "mamba-130m", "--seed", "6"))
    assert seeded == Path("mamba-130m-Q4_0-seed6.gguf")
    assert seeded.exists()


def test_quantize_prints_the_path_last_and_keeps_the_synthetic_mark(tmp_path: Path) -> None:
    wide = synthesise(scaled_down(load_zoo()["mamba2-130m"]), "F16", tmp_path / "m-F16.gguf").path
    made = last_line(melt_models("quantize", str(wide), "--type", "q4_k_m"))
    assert made == tmp_path / "m-Q4_K_M.gguf"
    info = inspect(made)
    assert (info.quant, info.synthetic, info.family) == ("Q4_K_M", True, "ssm")
    assert [p.name for p in tmp_path.glob(".m-*")] == []


def test_quantize_refuses_clearly(tmp_path: Path, tiny_file: Path) -> None:
    for args, complaint in (
        ((str(tiny_file), "--type", "Q4_X"), "unknown quantisation"),
        ((str(tmp_path / "none.gguf"), "--type", "Q4_0"), "no such"),
        ((str(tiny_file), "--type", "Q8_0", "--out", str(tmp_path / "o.gguf")), "cannot be quantised"),
        ((str(tiny_file), "--type", "Q8_0", "--out", str(tiny_file)), "the file to be quantised"),
    ):
        with pytest.raises(ModelError, match=complaint):
            melt_models("quantize", *args)
    assert not (tmp_path / "o.gguf").exists()


def test_quantize_without_the_engine_says_what_to_install(tiny_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "llama_cpp", None)
    with pytest.raises(ModelError) as caught:
        melt_models("quantize", str(tiny_file), "--type", "Q8_0", "--out", str(tiny_file.with_name("o.gguf")))
    assert "melt-bench[local]" in caught.value.hint


def test_cache_shows_and_limits() -> None:
    melt_models("synth", "mamba-130m")
    melt_models("synth", "mamba2-130m")
    assert "2 models" in melt_models("cache").stdout
    assert "removed 1 model," in melt_models("cache", "--limit", "0.1GB").stdout
    left = json.loads(melt_models("cache", "--json", "--limit", "100MiB").stdout)
    assert [row["refs"] for row in left["entries"]] == ["synth:mamba2-130m@Q4_0"]
    for bad in ("lots", "-1GB", "5 parsecs", ""):
        with pytest.raises(MeltError, match="size"):
            melt_models("cache", "--limit", bad)
