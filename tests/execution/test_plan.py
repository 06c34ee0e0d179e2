"""Whole plans with the real runner on very small real models."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import melt
from melt.errors import ProfileError
from melt.execution.attempt import Moment
from melt.execution.plan import run
from melt.spec.cell import Cell
from melt.spec.events import Hello, Iteration
from melt.spec.plan import Plan
from melt.store.store import EVENTS
from tests.execution.recorder import Recorder, only
from tests.support.plans import a_plan, last
from tests.support.profiles import write_profile


@pytest.mark.parametrize(("asked", "expected"), [(None, 1), (2, 2)])
def test_the_profiles_threads_hold_where_the_plan_says_none(
    asked: int | None, expected: int, tiny_model: Path, tmp_path: Path
) -> None:
    small = write_profile(tmp_path / "small.yaml", "local", threads=1)
    made = only(run(a_plan(small, tiny_model, threads=(asked,)), tmp_path / "r"))
    assert (made.manifest.job["threads"], made.manifest.cell.threads) == (expected, expected)


def test_the_steps_of_a_run_come_in_order(tiny_model: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    run(a_plan("local", tiny_model), tmp_path / "r", recorder)
    assert recorder.steps == [
        "begin 32",
        "push",
        "cool",
        "idle",
        "load",
        "hello",
        "model",
        "iteration",
        "iteration",
        "iteration",
        "done",
        "collect",
        "end ok",
    ]


def test_every_kind_of_model_is_measured(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    outcome = run(a_plan("local", *tiny_models.values()), tmp_path / "r")
    assert outcome.complete
    runs = melt.load(tmp_path / "r").runs
    by_family = runs.set_index("family").to_dict("index")
    assert set(by_family) == {"transformer", "ssm", "hybrid"}
    for column in ("ttft_s", "tpot_s", "prefill_tok_per_s", "load_s", "peak_rss_bytes", "weights_bytes"):
        assert (runs[column] > 0).all(), column
    assert by_family["transformer"]["kv_bytes"] > 0
    assert by_family["ssm"]["state_bytes"] > 0
    assert by_family["hybrid"]["kv_bytes"] > 0
    assert by_family["hybrid"]["state_bytes"] > 0
    assert runs["energy_decode_j"].isna().all() or (runs["energy_decode_j"] > 0).all()


def test_either_runner_measures_and_gives_the_same_answer(
    tiny_models: dict[str, Path], tmp_path: Path, kept_builds: None
) -> None:
    wanted = a_plan("local", *tiny_models.values(), runners=("python", "native"), profile_ops=True)
    outcome = run(wanted, tmp_path / "r")
    assert outcome.complete
    said: dict[str, dict[str, object]] = {"python": {}, "native": {}}
    for made in outcome.made:
        timed = [e.tokens for e in made.events() if isinstance(e, Iteration) and not e.warmup]
        said[made.manifest.cell.runner][made.manifest.cell.model] = timed
        hello = next(e for e in made.events() if isinstance(e, Hello))
        assert hello.runner == f"melt-runner-{made.manifest.cell.runner}"
        assert made.manifest.passport["runner_sha256"]
    assert said["python"] == said["native"]
    results = melt.load(tmp_path / "r")
    profiled = results.runs.set_index("run_id").loc[results.ops["run_id"].unique()]
    assert len(profiled) == 3
    assert set(results.ops["phase"]) == {"prefill", "decode"}
    assert set(results.runs["runner"]) == {"python", "native"}
    assert results.cells.groupby("model")["runner"].nunique().tolist() == [2, 2, 2]
    assert (results.runs["runtime_baseline_bytes"] > 0).all()
    again = run(wanted, tmp_path / "r")
    assert (len(again.made), again.already_there) == (0, 6)


def test_the_runner_that_auto_chooses_is_no_other_cell(tiny_model: Path, tmp_path: Path) -> None:
    outcome = run(a_plan("local", tiny_model, runners=("auto", "python")), tmp_path / "r")
    assert [c.runner for c in outcome.cells] == ["python"]
    assert len(outcome.made) == 1
    again = run(a_plan("local", tiny_model), tmp_path / "r")
    assert (len(again.made), again.already_there) == (0, 1)


def test_sessions_made_without_the_operator_pass_are_told(tiny_model: Path, tmp_path: Path) -> None:
    run(a_plan("local", tiny_model), tmp_path / "r")
    recorder = Recorder()
    assert not run(a_plan("local", tiny_model, profile_ops=True), tmp_path / "r", recorder).made
    assert any("without the operator pass" in said for said in recorder.said)


def test_a_cell_of_the_default_runner_keeps_the_id_it_had() -> None:
    # Results of the time before runners could be chosen, when all were Python, stay results of the same cell.
    cell = Cell(device="local", model="m")
    assert cell.id == "c519dcec91bd"
    assert cell.model_copy(update={"runner": "python"}).id == cell.id
    assert cell.model_copy(update={"runner": "native"}).id != cell.id


def test_one_seed_gives_the_same_tokens_in_every_session(tiny_model: Path, tmp_path: Path) -> None:
    outcome = run(a_plan("local", tiny_model, sessions=2), tmp_path / "r")
    said = {e.tokens for r in outcome.made for e in r.events() if isinstance(e, Iteration) and not e.warmup}
    assert len(said) == 1
    assert len(next(iter(said))) == 4


def test_only_what_is_missing_is_measured(tiny_model: Path, tmp_path: Path) -> None:
    first = run(a_plan("local", tiny_model), tmp_path / "r")
    again = run(a_plan("local", tiny_model), tmp_path / "r")
    more = run(a_plan("local", tiny_model, sessions=2, context=(32, 64)), tmp_path / "r")
    assert (len(first.made), first.already_there) == (1, 0)
    assert (len(again.made), again.already_there) == (0, 1)
    assert (len(more.made), more.already_there) == (3, 1)


def test_a_changed_model_file_is_measured_again(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(tiny_models["transformer"].read_bytes())
    run(a_plan("local", path), tmp_path / "r")
    path.write_bytes(tiny_models["ssm"].read_bytes())
    assert len(run(a_plan("local", path), tmp_path / "r").made) == 1


@pytest.mark.parametrize("what", ["runner", "engine", "device"])
def test_a_run_by_another_runner_engine_or_device_does_not_count(tiny_model: Path, tmp_path: Path, what: str) -> None:
    made = only(run(a_plan("local", tiny_model), tmp_path / "r"))
    path = made.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    if what == "runner":
        manifest["passport"]["runner_sha256"] = "0" * 64
    elif what == "engine":
        manifest["device"]["engines"]["llama.cpp"] = "0.3.1"
    else:
        manifest["passport"]["kernel"] = "5.4.0"
    path.write_text(json.dumps(manifest))
    assert len(run(a_plan("local", tiny_model), tmp_path / "r").made) == 1


def test_another_number_of_iterations_is_another_cell(tiny_model: Path, tmp_path: Path) -> None:
    run(a_plan("local", tiny_model, iterations=1), tmp_path / "r")
    assert len(run(a_plan("local", tiny_model, iterations=3), tmp_path / "r").made) == 1


def test_two_names_of_one_model_are_one_cell(tmp_path: Path) -> None:
    names = ("synth:mamba-130m", "synth:mamba-130m@Q4_0")
    outcome = run(a_plan("local", *names, memory_fraction=1e-9), tmp_path / "r")
    assert [c.model for c in outcome.cells] == ["synth:mamba-130m@Q4_0"]


def test_a_plan_may_be_a_file(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        f"device: local\nmodel: {tiny_model}\ncontext: 32\ngen: 4\nsessions: 1\niterations: 1\nthreads: 2\nidle_s: 0\n"
    )
    assert run(str(tmp_path / "p.yaml"), tmp_path / "r").complete


def test_the_manifest_says_what_was_run(tiny_model: Path, tmp_path: Path) -> None:
    made = only(run(a_plan("local", tiny_model, threads=(2,)), tmp_path / "r"))
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["job"]["threads"] == 2
    assert manifest["versions"]["engine"].startswith("llama.cpp")
    assert manifest["passport"]["model_sha256"] == manifest["model"]["sha256"]
    assert manifest["idle_t_ns"][1] - manifest["idle_t_ns"][0] >= 0.1e9
    assert str(tmp_path) not in json.dumps(manifest["job"]) + json.dumps(manifest["device"])
    machine_id = Path("/etc/machine-id")
    assert not machine_id.exists() or machine_id.read_text().strip() not in json.dumps(manifest)


def test_a_profile_given_by_its_path_is_known_by_its_name(tmp_path: Path, tiny_model: Path) -> None:
    path = tmp_path / "bench-7.yaml"
    path.write_text("name: bench-7\ndriver: local\n")
    plan = Plan(devices=(str(path),), models=(str(tiny_model),), context=(32,), gen=(4,), sessions=1, iterations=1)
    made = run(plan, tmp_path / "results").made[0]
    assert made.manifest.cell.device == "bench-7"
    other = tmp_path / "elsewhere" / "bench-7.yaml"
    other.parent.mkdir()
    other.write_text("name: bench-7\ndriver: local\n")
    with pytest.raises(ProfileError, match="are both named 'bench-7'"):
        run(plan.model_copy(update={"devices": (str(path), str(other))}), tmp_path / "results")


def test_a_run_that_no_reader_believes_is_made_again(tiny_model: Path, tmp_path: Path) -> None:
    plan = a_plan("local", tiny_model, sessions=2)
    made = run(plan, tmp_path / "r").made
    (made[0].folder / EVENTS).write_bytes(b"")
    watcher = Recorder()
    again = run(plan, tmp_path / "r", watcher)
    assert [r.manifest.session for r in again.made] == [made[0].manifest.session]
    assert any(f"{made[0].manifest.run_id} is made again: The manifest says ok, but" in said for said in watcher.said)
    assert melt.load(tmp_path / "r").cells["n_sessions"].tolist() == [2]
    assert not run(plan, tmp_path / "r").made


def test_a_clock_that_is_set_back_changes_no_duration(tiny_model: Path, tmp_path: Path) -> None:
    made = last(run(a_plan("local", tiny_model), tmp_path / "r")).manifest
    started, ended = (datetime.fromisoformat(t) for t in (made.started_at, made.ended_at))
    assert started < ended
    moment = Moment(at=datetime.now(UTC) + timedelta(hours=1), monotonic_s=time.monotonic() - 5.0)  # set back since
    assert moment.elapsed_s() == pytest.approx(5.0, abs=0.5)
