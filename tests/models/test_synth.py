import hashlib
import subprocess
import sys
from pathlib import Path

import gguf
import pytest

from melt.errors import ModelError
from melt.models import find_shape, inspect, load_zoo, quantize, read_header, scaled_down, synthesise
from melt.models.gguf.mix import QUANTS
from melt.models.gguf.synth import design
from melt.models.shapes.zoo import Shape
from tests.models.llama_engine import decode

FULL_SIZE = (
    "smollm2-135m",
    "mamba-130m",
    "mamba2-130m",
    "rwkv7-0.1b",
    "falcon-h1-0.5b",
    "granite-4.0-h-350m",
    "lfm2-350m",
)

# Parameters as their publishers state them (model cards; Mamba: its paper's names).
PUBLISHED_PARAMS = {
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "llama-3.2-1b": 1_235_814_400,
    "tinyllama-1.1b": 1_100_048_384,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "rwkv7-0.1b": 191_000_000,
    "falcon-h1-0.5b": 521_411_104,
    "granite-4.0-h-350m": 340_000_000,
    "lfm2-350m": 354_483_968,
    "lfm2-1.2b": 1_170_340_608,
    "deepseek-v2-lite": 15_700_000_000,
    "kimi-linear-48b": 49_122_681_728,
}


def types_of(path: Path) -> dict[str, str]:
    return {t.name: t.type.name for t in read_header(path).tensors}


@pytest.mark.parametrize("quant", QUANTS)
def test_every_family_decodes_without_nan(tiny: Shape, quant: str, tmp_path: Path) -> None:
    written = synthesise(tiny, quant, tmp_path / "m.gguf")
    decoded = decode(written.path)
    info = inspect(written.path)
    assert decoded.finite, decoded.tokens
    assert (decoded.n_params, decoded.model_bytes) == (info.n_params, info.weights_bytes)
    assert decoded.recurrent == (info.family == "ssm")
    assert decoded.hybrid == (info.family == "hybrid")
    assert (info.quant, info.synthetic) == (quant, True)


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_models_decode_without_nan(name: str, tmp_path: Path) -> None:
    path = synthesise(find_shape(name), "Q4_0", tmp_path / "m.gguf").path
    decoded = decode(path, n_tokens=8, prompt=16, threads=2)
    path.unlink()
    assert decoded.finite
    assert len(set(decoded.tokens)) >= 1


@pytest.mark.parametrize("quant", ["Q8_0", "Q4_0", "Q4_1", "Q4_K_M"])
def test_types_are_those_of_llama_cpps_quantiser(tiny: Shape, quant: str, tmp_path: Path) -> None:
    wide = synthesise(tiny, "F16", tmp_path / "wide.gguf").path
    theirs = quantize(wide, quant, tmp_path / "theirs.gguf")
    ours = synthesise(tiny, quant, tmp_path / "ours.gguf").path
    assert types_of(ours) == types_of(theirs)
    assert ours.stat().st_size == pytest.approx(theirs.stat().st_size, abs=256)


@pytest.mark.slow
@pytest.mark.parametrize("quant", ["Q4_0", "Q4_K_M"])
def test_types_agree_at_full_size_where_rows_do_not_fill_k_blocks(quant: str, tmp_path: Path) -> None:
    for name in ("smollm2-135m", "mamba-130m"):
        wide = synthesise(find_shape(name), "F16", tmp_path / "wide.gguf").path
        theirs = types_of(quantize(wide, quant, tmp_path / "theirs.gguf"))
        assert {t.name: t.type.name for t in design(find_shape(name), quant).header.tensors} == theirs


def test_the_file_is_what_was_designed(tiny: Shape, tmp_path: Path) -> None:
    for quant in QUANTS:
        written = synthesise(tiny, quant, tmp_path / "m.gguf", seed=7)
        assert read_header(written.path) == design(tiny, quant, seed=7).header
        assert written.file_bytes == written.path.stat().st_size
        assert written.sha256 == hashlib.sha256(written.path.read_bytes()).hexdigest()


def test_the_gguf_package_reads_it_and_sees_sane_weights(tiny: Shape, tmp_path: Path) -> None:
    import numpy as np

    for quant in QUANTS:
        reader = gguf.GGUFReader(synthesise(tiny, quant, tmp_path / f"{quant}.gguf").path)
        for tensor in reader.tensors:
            values = gguf.dequantize(tensor.data, tensor.tensor_type)
            assert np.isfinite(values).all(), tensor.name
            if tensor.name.endswith(("ssm_in.weight", "attn_q.weight", "ffn_down.weight", "token_embd.weight")):
                assert 0.008 < values.std() < 0.08, (quant, tensor.name, tensor.tensor_type)
                assert abs(values.mean()) < 0.2 * values.std()
                assert len(np.unique(values)) > 200


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    shape = scaled_down(load_zoo()["mamba2-130m"])
    first, again, other = (
        synthesise(shape, "Q4_K_M", tmp_path / f"{n}.gguf", seed=seed).sha256 for n, seed in enumerate((3, 3, 4))
    )
    assert first == again != other
    # Pinned: files made on different days and machines must be the same file.
    usual = synthesise(scaled_down(load_zoo()["smollm2-135m"]), "Q4_0", tmp_path / "usual.gguf").sha256
    assert usual == PINNED


PINNED = "410f978dd0fe923ffc05907c5737e2fc357a5d8aebd576bdecb4f38e5c72c0d6"


def test_shapes_have_the_published_number_of_parameters() -> None:
    for name, published in PUBLISHED_PARAMS.items():
        n_params = sum(t.elements for t in design(find_shape(name), "F16").header.tensors)
        assert n_params == pytest.approx(published, rel=0.002), name


def test_every_shape_names_its_source() -> None:
    zoo = load_zoo()
    assert all(shape.source.startswith("https://") for shape in zoo.values())
    wanted = {"smollm2-135m", "smollm2-360m", "qwen2.5-0.5b", "llama-3.2-1b", "tinyllama-1.1b", "mamba-130m"}
    wanted |= {"mamba-370m", "mamba-1.4b", "mamba2-130m", "mamba2-370m", "mamba2-1.3b", "rwkv7-0.1b"}
    wanted |= {"falcon-h1-0.5b", "granite-4.0-h-350m", "lfm2-350m", "gemma-3-270m", "olmoe-1b-7b", "jamba-900m"}
    wanted |= {"deepseek-v2-lite", "nemotron-h-4b", "qwen3.5-0.8b", "kimi-linear-48b"}
    assert wanted <= set(zoo)


def test_bad_requests(tmp_path: Path) -> None:
    shape = scaled_down(load_zoo()["mamba-130m"])
    with pytest.raises(ModelError) as caught:
        synthesise(shape, "Q4_K_S", tmp_path / "m.gguf")
    assert "Q4_K_M" in caught.value.hint
    with pytest.raises(ModelError, match="seed"):
        synthesise(shape, "Q4_0", tmp_path / "m.gguf", seed=-1)
    assert list(tmp_path.glob("*.gguf")) == []


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = scaled_down(load_zoo()["mamba-130m"])
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(ModelError, match="free"):
        synthesise(shape, "Q4_0", tmp_path / "m.gguf")
    monkeypatch.undo()

    def fail(done: int, total: int) -> None:
        if done > total // 2:
            raise OSError(28, "No space left on device")

    with pytest.raises(ModelError, match="No space left"):
        synthesise(shape, "Q4_0", tmp_path / "m.gguf", progress=fail)
    assert [p.name for p in tmp_path.iterdir()] == []


@pytest.mark.slow
def test_a_model_of_a_billion_needs_little_memory(tmp_path: Path) -> None:
    script = (
        "import re, sys; from pathlib import Path\n"
        "from melt.models import find_shape, synthesise\n"
        "calls = []\n"
        "w = synthesise(find_shape('llama-3.2-1b'), 'Q4_0', Path(sys.argv[1]), progress=lambda d, t: calls.append(d))\n"
        "assert calls == sorted(calls) and calls[-1] == w.file_bytes and len(calls) > 50\n"
        # Not ru_maxrss: a child starts with its parent's.
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])\n"
    )
    out = tmp_path / "1b.gguf"
    done = subprocess.run([sys.executable, "-c", script, str(out)], capture_output=True, text=True, check=True)
    assert inspect(out).n_params == pytest.approx(1.236e9, rel=0.001)
    out.unlink()
    assert int(done.stdout) * 1024 < 600e6
