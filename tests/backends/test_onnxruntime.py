"""The backend for ONNX Runtime: plans of two engines, what it refuses beforehand, and a model of several files."""

import json
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import yaml

import melt
from melt.analysis.curves import MATCHED, curves
from melt.backends.onnxruntime import OnnxRuntime
from melt.errors import ModelError, RunnerError
from melt.execution.plan import run
from melt.execution.preflight import read_names
from melt.models import resolve
from melt.models.onnx.synth import Lengths, synthesise_onnx
from melt.models.shapes.zoo import find_shape, scaled_down
from melt.report import write_report
from melt.report.conditions import protocol
from melt.spec.cell import AXES, Cell
from melt.spec.events import ModelLoaded, Ops
from melt.spec.facts import DeviceFacts
from melt.spec.job import Job, Workload
from melt.spec.plan import Plan, load_plan
from melt.store.manifest import Flag
from melt.store.store import Store
from tests.doubles.sshd import Sshd
from tests.drivers.conftest import enrol_all, home, ssh_profile_of
from tests.support.plans import a_plan, last
from tests.support.store_factory import MAMBA, SMOLLM, Recipe, write_store

__all__ = ["home"]

HERE = DeviceFacts(platform="linux", machine="x86_64", python=sys.executable, engines={"onnxruntime": "1"})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    where = tmp_path_factory.mktemp("onnx")
    names = {"transformer": "smollm2-135m", "ssm": "mamba2-130m"}
    return {k: synthesise_onnx(scaled_down(find_shape(n)), "int4", where / k) for k, n in names.items()}


@pytest.fixture
def board_with_python(tmp_path: Path, home: Path) -> Iterator[Sshd]:
    """A board whose Python has the engines."""
    packages = sysconfig.get_path("platlib")
    with Sshd(tmp_path / "board", None, f"SetEnv PYTHONPATH={packages}") as server:
        server.authorised.write_text((home / ".ssh" / "id_ed25519.pub").read_text())
        yield server


def test_one_plan_sets_two_engines_side_by_side(
    folders: dict[str, Path], tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    ours, theirs = [str(f) for f in folders.values()], [str(tiny_models[k]) for k in ("transformer", "ssm")]
    both = {
        "devices": ["local"],
        "models": [*ours, *theirs],
        "backends": ["llama.cpp", "onnxruntime"],
        "exclude": [{"backend": "llama.cpp", "model": ours}, {"backend": "onnxruntime", "model": theirs}],
        "context": [32, 48],
        "gen": [4],
        "threads": [2],
        "sessions": 1,
        "iterations": 2,
        "idle_s": 0.1,
        "profile_ops": True,
        "extra_time": {"share": 0.0},  # each session once, on a busy machine too
    }
    path = tmp_path / "two-engines.yaml"
    path.write_text(yaml.safe_dump(both))
    outcome = run(path, tmp_path / "r")
    assert outcome.complete, [r.manifest.error for r in outcome.made]
    runs = melt.load(tmp_path / "r").runs
    measured = runs[runs["backend"] == "onnxruntime"]
    assert sorted(measured["family"].unique()) == ["ssm", "transformer"]
    assert len(measured) == 4
    for column in ("ttft_s", "tpot_s", "load_s", "peak_rss_bytes", "explained_memory_bytes", "predicted_memory_bytes"):
        assert (measured[column] > 0).all(), column
    assert (measured["effective_accelerator"] == "cpu").all()
    made = next(r for r in outcome.made if r.manifest.cell.backend == "onnxruntime")
    assert [type(e) for e in made.events() if isinstance(e, Ops)] == [Ops, Ops]
    page = write_report(melt.load(tmp_path / "r"), tmp_path / "page").read_text()
    assert "local · llama.cpp · cpu" in page
    assert "local · onnxruntime · cpu" in page
    again = run(path, tmp_path / "r")
    assert (len(again.made), again.already_there) == (0, 8)


def test_the_plan_of_two_engines_names_what_goes_together() -> None:
    cells = load_plan(Path(__file__).parents[2] / "plans" / "engines.yaml").cells()
    read_names(cells)
    found = {(c.backend, c.model.rpartition("@")[2]) for c in cells}
    assert found == {("llama.cpp", "Q4_0"), ("onnxruntime", "onnx-int4")}
    assert len(cells) == 8


def test_the_plan_with_an_npu_asks_it_for_the_models_that_it_takes() -> None:
    cells = load_plan(Path(__file__).parents[2] / "plans" / "engines-npu.yaml").cells()
    read_names(cells)
    quants: dict[tuple[str, str], set[str]] = {(c.backend, c.accelerator): set() for c in cells}
    for c in cells:
        quants[c.backend, c.accelerator].add(c.model.rpartition("@")[2])
    assert quants == {
        ("llama.cpp", "cpu"): {"Q4_0"},
        ("onnxruntime", "cpu"): {"onnx-int4", "onnx-w8a16"},
        ("onnxruntime", "npu"): {"onnx-w8a16"},
    }


def test_what_is_emulated_stands_in_the_tables_and_in_no_comparison(tmp_path: Path) -> None:
    shapes = [scaled_down(find_shape(n)) for n in ("smollm2-135m", "mamba2-130m")]
    folders = [synthesise_onnx(s, "w8a16", tmp_path / s.name, lengths=Lengths(16, 64)) for s in shapes]
    few: dict[str, object] = {
        "devices": ("local",),
        "models": tuple(map(str, folders)),
        "backends": ("onnxruntime",),
        "gen": (4,),
    }
    few |= {"accelerators": ("npu", "cpu"), "context": (20, 40), "sessions": 1, "iterations": 1, "idle_s": 0.1}
    few |= {"extra_time": {"share": 0.0}}  # each session once, on a busy machine too
    outcome = run(Plan.model_validate({**few, "threads": (2,)}), tmp_path / "r")
    assert outcome.complete, [r.manifest.error for r in outcome.made]
    results = melt.load(tmp_path / "r")
    runs = results.runs
    on_npu = runs["accelerator"] == "npu"
    assert runs["flags"].str.contains("emulated").equals(on_npu)
    assert (runs.loc[on_npu, "compile_s"].notna() == (runs.loc[on_npu, "compiled"] == "cold")).all()
    assert sorted(runs.loc[on_npu, "compiled"]) == ["cached", "cached", "cold", "cold"]
    assert runs.loc[~on_npu, ["compile_s", "compiled"]].isna().all(axis=None)
    assert set(runs["type_k"]) == {"u16"}
    assert set(runs["ubatch"]) == {16}
    found = curves(runs, results.cells)
    assert {c.matched[MATCHED.index("accelerator")] for c in found} == {"cpu"}
    assert len(found) == 2
    page = write_report(results, tmp_path / "page").read_text()
    assert "Emulated: local · onnxruntime · npu" in page
    assert "in no figure or comparison" in page
    facts = {fact.name: fact.value for fact in protocol(results)}
    assert (facts["Key cache"], facts["Value cache"]) == ("u16", "u16")
    assert "Compile time" in page


def test_a_report_of_emulated_runs_alone_has_its_tables(tmp_path: Path) -> None:
    flag = Flag(name="emulated", evidence="libraries compute what an NPU would")
    write_store(tmp_path / "r", models=(SMOLLM, MAMBA), contexts=(128,), recipe=Recipe(flags=(flag,)))
    page = write_report(melt.load(tmp_path / "r"), tmp_path / "page").read_text()
    assert "Emulated: " in page
    assert "<svg" not in page
    assert "No run gave a measurement that may be compared" in page
    assert "smollm2" in page.partition("<table")[2].lower()


def test_a_model_that_no_npu_takes_is_refused_before_a_device_is_touched(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    plan = {**_few(folders["ssm"]), "backends": ("onnxruntime",), "accelerators": ("npu",)}
    with pytest.raises(ModelError) as caught:
        run(Plan.model_validate(plan), tmp_path / "r")
    assert "input 'input_ids' is int64[batch_size, sequence_length]" in caught.value.message
    assert "GatherBlockQuantized '/model/embed_tokens/GatherBlockQuantized'" in caught.value.message
    assert "uint8[512, 128]" in caught.value.message
    assert not (tmp_path / "r").exists()
    OnnxRuntime().check_cell(next(iter(Plan.model_validate({**plan, "cpu_fallback": True}).cells())))


def test_a_cell_that_a_fixed_cache_has_no_room_for_is_refused_beforehand() -> None:
    cell = Cell(device="x", model="synth:smollm2-135m@onnx-w8a16", backend="onnxruntime", prompt_tokens=1000)
    with pytest.raises(RunnerError, match=r"1064 tokens.* room for 1024"):
        OnnxRuntime().check_cell(cell)
    OnnxRuntime().check_cell(cell.model_copy(update={"model": "synth:mamba2-130m@onnx-w8a16"}))


def test_a_device_without_a_provider_for_npus_is_told_what_to_install() -> None:
    cell = Cell(device="x", model="synth:smollm2-135m@onnx-w8a16", backend="onnxruntime", accelerator="npu")
    with pytest.raises(RunnerError, match="no execution provider for an NPU") as caught:
        OnnxRuntime().decide(cell, HERE)
    assert "onnxruntime-qnn" in caught.value.hint


def test_a_cell_keeps_its_id_where_it_allows_no_fallback() -> None:
    cell = Cell(device="x", model="m", accelerator="npu")
    assert cell.id != cell.model_copy(update={"cpu_fallback": True}).id
    assert "cpu_fallback" not in Job(job_id="j", engine="e", model="m", threads=1, workload=WORKLOAD).model_dump()


WORKLOAD = Workload(prompt_tokens=1, gen_tokens=2)


def test_a_model_that_changed_is_measured_again(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(folders["transformer"], folder)
    plan = Plan.model_validate({**_few(folder), "backends": ("onnxruntime",)})
    first = run(plan, tmp_path / "r")
    assert first.complete
    data = folder / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-4] + b"\0\0\x80\x3f")
    (folder / "README.md").write_text("what nobody measures")
    assert len(run(plan, tmp_path / "r").made) == 0
    data.write_bytes(data.read_bytes()[:-4] + b"\0\0\0\x3f")
    assert len(run(plan, tmp_path / "r").made) == 1
    runs, _ = Store(tmp_path / "r").runs()
    programs = {r.manifest.passport["runner_sha256"] for r in runs}
    assert len(programs) == 1  # the model's files are no part of the program


def _few(model: Path | str) -> dict[str, object]:
    few = {"devices": ("local",), "context": (32,), "gen": (4,), "sessions": 1, "iterations": 1, "idle_s": 0.1}
    return {**few, "models": (str(model),), "threads": (2,)}


def test_a_board_gets_the_folder_file_by_file(
    board_with_python: Sshd, folders: dict[str, Path], tmp_path: Path
) -> None:
    enrol_all(ssh_profile_of(board_with_python))
    path = tmp_path / "board.yaml"
    address = {"host": "127.0.0.1", "port": board_with_python.port}
    work = board_with_python.folder / "work"
    path.write_text(yaml.safe_dump({"name": "board", "driver": "ssh", "address": address, "work_folder": str(work)}))
    made = last(run(a_plan(str(path), folders["ssm"], backends=("onnxruntime",)), tmp_path / "results"))
    assert made.manifest.status == "ok", made.manifest.error
    loaded = next(e for e in made.events() if isinstance(e, ModelLoaded))
    assert loaded.effective_device == "CPU"
    pushed = [p for p in work.rglob("*") if p.is_file() and "model" in p.name]
    assert {p.name.rpartition("-")[2] for p in pushed} >= {"model.onnx", "model.onnx.data"}
    assert not list(work.rglob("melt-model.*"))  # what was brought together is gone


def test_every_part_of_the_model_is_in_the_bundle(folders: dict[str, Path], tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    shutil.copytree(folders["transformer"], odd)
    # A file with the name of a key of the bundle's.
    (odd / "model.onnx.data").rename(odd / "runner")
    model = onnx.load(odd / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "runner" if entry.key == "location" else entry.value
    (odd / "model.onnx").write_bytes(model.SerializeToString())
    outcome = run(Plan.model_validate({**_few(odd), "backends": ("onnxruntime",)}), tmp_path / "r")
    assert outcome.complete, [r.manifest.error for r in outcome.made]
    info = resolve(str(odd))
    bundle = OnnxRuntime().bundle(Cell(device="local", model=str(odd)), info, HERE, "j")
    assert set(bundle.files) == {"runner", "model", "model/model.onnx", "model/runner"}
    assert bundle.runner_sha256 == bundle.files["runner"].sha256


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "m.gguf"}, "reads ONNX folders"),
        ({"model": "synth:smollm2-135m@Q4_0"}, "reads ONNX folders"),
        ({"runner": "native"}, "native"),
    ],
)
def test_what_no_device_could_run_is_refused_before_one_is_touched(changes: dict[str, str], said: str) -> None:
    cell = Cell.model_validate(
        {"device": "x", "model": "synth:smollm2-135m@onnx-int4", "backend": "onnxruntime", **changes}
    )
    with pytest.raises(RunnerError, match=said) as caught:
        OnnxRuntime().check_cell(cell)
    assert caught.value.hint


@pytest.mark.parametrize("name", [name for name, axis in AXES.items() if axis.of_some_engines])
def test_a_setting_that_the_engine_does_not_have_is_refused_by_name(name: str) -> None:
    other = next(value for value in AXES[name].choices if value != AXES[name].default)
    fields = {"device": "local", "model": "synth:smollm2-135m@onnx-int4", "backend": "onnxruntime", name: other}
    with pytest.raises(RunnerError, match=f"{AXES[name].key} {other} cannot be set"):
        read_names([Cell.model_validate(fields)])


@pytest.mark.parametrize("backend", ["llama.cpp", "llamabench"])
def test_other_engines_refuse_a_folder_before_a_device_is_touched(
    backend: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    plan = Plan.model_validate({**_few(folders["ssm"]), "backends": (backend,)})
    with pytest.raises(RunnerError, match="reads GGUF files"):
        run(plan, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_damaged_folder_is_refused_before_anything_is_made(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(folders["transformer"], folder)
    (folder / "model.onnx.data").unlink()
    with pytest.raises(ModelError, match=r"model\.onnx\.data"):
        run(Plan.model_validate({**_few(folder), "backends": ("onnxruntime",)}), tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("facts", [HERE.model_copy(update={"python": None}), HERE.model_copy(update={"engines": {}})])
def test_a_device_without_it_is_told_what_to_install(facts: DeviceFacts) -> None:
    with pytest.raises(RunnerError, match="no Python with ONNX Runtime") as caught:
        OnnxRuntime().check(facts)
    assert "pip install" in caught.value.hint


@pytest.mark.parametrize("accelerator", ["cpu", "npu"])
def test_what_to_install_is_told_of_the_device_that_is_meant(accelerator: str) -> None:
    """A board gets nothing of melt's own, and nobody is told what another machine would need."""
    cell = Cell(device="x", model="m.onnx", accelerator=accelerator, backend="onnxruntime")
    engines = {"onnxruntime": "1"} if accelerator == "npu" else {}
    hints = {}
    for is_host in (True, False):
        facts = HERE.model_copy(update={"is_host": is_host, "engines": engines})
        with pytest.raises(RunnerError) as caught:
            OnnxRuntime().decide(cell, facts)
        hints[is_host] = caught.value.hint
    assert ("melt-bench[" in hints[True], "there" in hints[True].lower()) == (True, False)
    assert ("melt-bench[" in hints[False], "there" in hints[False].lower()) == (False, True)


def test_a_provider_that_is_not_there_fails_the_run_and_says_what_is(folders: dict[str, Path], tmp_path: Path) -> None:
    plan = Plan.model_validate({**_few(folders["ssm"]), "backends": ("onnxruntime",), "accelerators": ("gpu",)})
    made = run(plan, tmp_path / "r").made[0]
    assert made.manifest.error is not None
    assert made.manifest.error.kind == "accelerator"
    assert "CUDA" in made.manifest.error.message
    assert json.loads((made.folder / "manifest.json").read_text())["status"] == "failed"
