"""The GPU path on a Vulkan device, a software one by default; what it needs is in docs/runner.md."""

import os
from pathlib import Path

import pytest

import melt
from melt.models.gguf.synth import synthesise
from melt.models.shapes.zoo import find_shape, scaled_down
from melt.spec.events import Failed, Hello, Iteration, ModelLoaded, Ops
from tests.runner.conftest import build_here
from tests.runner.running import Ran, job

pytestmark = [pytest.mark.vulkan, pytest.mark.timeout(3600)]


@pytest.fixture
def vulkan(kept_builds: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The program, with the first Vulkan device allowed even where it is made of software."""
    monkeypatch.setenv("GGML_VK_VISIBLE_DEVICES", os.environ.get("GGML_VK_VISIBLE_DEVICES", "0"))
    return [str(build_here("vulkan"))]


@pytest.mark.parametrize("kind", ["transformer", "ssm", "hybrid"])
def test_a_job_for_the_gpu_runs_on_the_gpu(
    vulkan: list[str], tmp_path: Path, tiny_models: dict[str, Path], kind: str
) -> None:
    ran = Ran(vulkan, tmp_path, {**job(tiny_models[kind]), "accelerator": "gpu", "profile_ops": True})
    assert ran.code == 0, ran.stderr
    assert "gpu" in [a.kind for a in ran.one(Hello).accelerators]
    loaded = ran.one(ModelLoaded)
    assert loaded.effective_accelerator == "gpu"
    assert "Vulkan" in (loaded.effective_device or "")
    rows = [r for e in ran.events if isinstance(e, Ops) for r in e.rows]
    on_gpu = sum(r.total_ns for r in rows if r.device.startswith("Vulkan"))
    assert on_gpu > sum(r.total_ns for r in rows) / 2
    assert "gemm" in {r.category for r in rows if r.device.startswith("Vulkan")}


def test_the_first_token_is_the_processors(vulkan: list[str], tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    first = []
    for accelerator in ("cpu", "gpu"):
        ran = Ran(vulkan, tmp_path, {**job(tiny_models["transformer"]), "accelerator": accelerator})
        first.append([e.tokens[0] for e in ran.events if isinstance(e, Iteration)])
    assert first[0] == first[1]


def test_a_job_for_the_processor_uses_no_gpu(vulkan: list[str], tmp_path: Path, tiny_model: Path) -> None:
    loaded = Ran(vulkan, tmp_path, job(tiny_model)).one(ModelLoaded)
    assert loaded.effective_accelerator == "cpu"
    assert not [b for b in loaded.buffers if b.device.startswith("Vulkan") and b.kind == "weights"]


def test_no_gpu_to_be_seen_is_an_error_that_tells_what_is(
    vulkan: list[str], tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGML_VK_VISIBLE_DEVICES", "")
    failed = Ran(vulkan, tmp_path, {**job(tiny_model), "accelerator": "gpu"}).one(Failed)
    assert failed.kind == "accelerator"
    assert "CPU" in failed.message


def test_a_gpu_that_cannot_hold_most_of_the_weights_is_flagged_with_the_evidence(
    vulkan: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesise(scaled_down(find_shape("smollm2-135m")), "Q4_0", tmp_path / "model.gguf")
    monkeypatch.setenv("GGML_VK_FORCE_MAX_BUFFER_SIZE", "600000")  # its largest matrices do not fit
    flags = melt.load(measured(tmp_path, tmp_path / "model.gguf")).flags
    (evidence,) = flags[flags["flag"] == "accelerator_fallback"]["evidence"]
    assert "asked for gpu, ran on cpu: weights" in evidence
    assert "on Vulkan0" in evidence


def test_melt_run_measures_the_gpu(vulkan: list[str], tmp_path: Path, tiny_model: Path) -> None:
    loaded = melt.load(measured(tmp_path, tiny_model))
    assert list(loaded.runs["effective_accelerator"]) == ["gpu"]
    assert "accelerator_fallback" not in loaded.runs.iloc[0]["flags"]
    assert loaded.ops["device"].str.startswith("Vulkan").any()


def measured(tmp_path: Path, model: Path) -> Path:
    """The results of a small run on the GPU."""
    plan = melt.Plan(
        devices=("local",),
        models=(str(model),),
        accelerators=("gpu",),
        context=(64,),
        gen=(4,),
        sessions=1,
        iterations=1,
        profile_ops=True,
    )
    outcome = melt.run(plan, tmp_path / "results")
    assert outcome.complete, outcome
    return tmp_path / "results"
