"""Whole sessions with the real runner on very small real models."""

import json
import os
import signal
import sys
from contextlib import closing
from pathlib import Path

import pytest

import melt
from melt.drivers import connect
from melt.drivers.lease import lease
from melt.errors import DeviceError, ModelError, PlanError, ProfileError, StoreError, TransientDeviceError
from melt.execution.plan import Outcome, run
from melt.execution.progress import Watcher
from melt.models.formats import inspect
from melt.spec.cell import Cell
from melt.spec.events import Event, Hello, Iteration, ModelLoaded, UnknownLine
from melt.spec.plan import Plan
from melt.store.store import EVENTS, TELEMETRY, Run, Store
from tests.support.plans import a_plan
from tests.support.profiles import write_profile


class Recorder(Watcher):
    """Notes the order of steps, and may do something at each event."""

    def __init__(self, on_event: object = None) -> None:
        self.steps: list[str] = []
        self.said: list[str] = []
        self.on_event = on_event

    def begin(self, cell: Cell, session: int) -> None:
        self.steps.append(f"begin {cell.prompt_tokens}")

    def phase(self, name: str) -> None:
        self.steps.append(name)

    def event(self, event: Event | UnknownLine) -> None:
        self.steps.append(event.event)
        if callable(self.on_event):
            self.on_event(event)

    def end(self, run: Run) -> None:
        self.steps.append(f"end {run.manifest.status}")

    def say(self, text: str) -> None:
        self.said.append(text)


def only(outcome: Outcome) -> Run:
    assert len(outcome.made) == 1
    return outcome.made[0]


@pytest.mark.parametrize(("asked", "expected"), [(None, 1), (2, 2)])
def test_the_profiles_threads_hold_where_the_plan_says_none(
    asked: int | None, expected: int, tiny_model: Path, tmp_path: Path
) -> None:
    small = write_profile(tmp_path / "small.yaml", "local", threads=1)
    made = only(run(a_plan(small, tiny_model, threads=(asked,)), tmp_path / "r"))
    assert (made.manifest.job["threads"], made.manifest.cell.threads) == (expected, expected)


def test_what_a_runner_said_is_kept_where_its_device_goes_away_at_the_end(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise TransientDeviceError("gone")

    monkeypatch.setattr("melt.execution.unit.explain_end", gone)
    manifest = only(run(a_plan("local", tiny_model, retries=0), tmp_path / "r")).manifest
    assert manifest.error is not None
    assert (manifest.status, manifest.error.kind, manifest.error.message) == ("failed", "transient", "gone")
    assert manifest.passport["engine"] == "llama.cpp"


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


@pytest.mark.parametrize(("signal_number", "kind"), [(signal.SIGKILL, "killed"), (signal.SIGABRT, "SIGABRT")])
def test_a_runner_that_dies_is_a_failed_run_and_the_plan_goes_on(
    tiny_model: Path, tmp_path: Path, signal_number: signal.Signals, kind: str
) -> None:
    killed: list[int] = []

    def kill_the_first(event: Event | UnknownLine) -> None:
        if isinstance(event, Hello) and event.pid and not killed:
            killed.append(event.pid)
            os.kill(event.pid, signal_number)

    outcome = run(a_plan("local", tiny_model, context=(32, 64), gen=(200,)), tmp_path / "r", Recorder(kill_the_first))
    failed, fine = outcome.made
    assert failed.manifest.status == "failed"
    assert failed.manifest.error is not None
    assert failed.manifest.error.kind == kind
    assert fine.manifest.status == "ok"
    assert outcome.failed == (failed,)
    assert (failed.folder / TELEMETRY).exists(), "the trace of a run that died is kept"
    frame = melt.load(tmp_path / "r").runs.set_index("status")
    assert frame.loc["failed", "error_kind"] == kind
    assert frame.loc["failed", ["ttft_s", "decode_tok_per_s"]].isna().all()


def test_a_crash_is_tried_again_without_extra_buffers_and_flagged(tiny_model: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def crash_once(event: Event | UnknownLine) -> None:
        if isinstance(event, Hello) and event.pid and not killed:
            killed.append(event.pid)
            os.kill(event.pid, signal.SIGSEGV)

    outcome = run(a_plan("local", tiny_model, context=(32, 64), gen=(200,)), tmp_path / "r", Recorder(crash_once))
    crashed, retried, next_cell = (r.manifest for r in outcome.made)
    assert crashed.error is not None
    assert crashed.error.kind == "SIGSEGV"
    assert (retried.status, retried.attempt, retried.job["extra_buffers"]) == ("ok", 1, False)
    assert [f.name for f in retried.flags] == ["extra_buffers_off"]
    assert next_cell.job["extra_buffers"] is False, "what was learned of the device holds for the next cell"
    assert outcome.complete


def test_a_runner_that_hangs_is_ended(tiny_model: Path, tmp_path: Path) -> None:
    pids: list[int] = []

    def stop(event: Event | UnknownLine) -> None:
        if isinstance(event, ModelLoaded):
            os.kill(pids[0], signal.SIGSTOP)
        if isinstance(event, Hello) and event.pid:
            pids.append(event.pid)

    timeouts = {"load_s": 60, "iteration_s": 0.5}
    # No machine has done all before it is stopped.
    slow = a_plan("local", tiny_model, timeouts=timeouts, iterations=100)
    manifest = only(run(slow, tmp_path / "r", Recorder(stop))).manifest
    assert manifest.error is not None
    assert manifest.error.kind == "timeout"
    assert not Path(f"/proc/{pids[0]}").exists()


def test_what_cannot_fit_is_skipped_with_the_reason(tiny_model: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    for _ in range(2):
        outcome = run(a_plan("local", tiny_model, memory_fraction=1e-9, sessions=3), tmp_path / "r", recorder)
        assert not outcome.made
        assert not outcome.complete
        assert "MiB" in next(iter(outcome.skipped.values()))
        assert "skipped" in recorder.said[-1]
    [stored] = Store(tmp_path / "r").runs()[0]
    assert stored.manifest.error is not None
    assert stored.manifest.error.kind == "predicted_out_of_memory"
    assert melt.load(tmp_path / "r").runs["status"].tolist() == ["skipped"], (
        "once a cell, however often it is asked for"
    )


def test_what_does_not_fit_by_prediction_can_be_run_all_the_same(tiny_model: Path, tmp_path: Path) -> None:
    outcome = run(a_plan("local", tiny_model, memory_fraction=1e-9, memory_check=False), tmp_path / "r")
    assert outcome.complete
    assert not outcome.skipped


def test_a_context_beyond_training_is_flagged(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    trained = inspect(tiny_models["transformer"]).context_trained
    recorder = Recorder()
    beyond = a_plan("local", tiny_models["transformer"], context=(trained + 1,), iterations=1)
    outcome = run(beyond, tmp_path / "r", recorder)
    assert str(trained) in recorder.said[0]
    assert [f.name for f in only(outcome).manifest.flags] == ["context_beyond_training"]


def test_an_accelerator_that_is_not_there_fails_the_run_and_says_what_is(tiny_model: Path, tmp_path: Path) -> None:
    manifest = only(run(a_plan("local", tiny_model, accelerators=("npu",)), tmp_path / "r")).manifest
    assert manifest.error is not None
    assert manifest.error.kind == "accelerator"
    assert "CPU" in manifest.error.message


def test_a_device_is_measured_by_one_at_a_time(tiny_model: Path, tmp_path: Path) -> None:
    driver = connect(melt.load_profile("local"))
    serial_hash = driver.facts().serial_hash
    driver.close()
    with (
        lease(f"local-{serial_hash or 'local'}"),
        pytest.raises(DeviceError, match=f"local: is being measured by process {os.getpid()}"),
    ):
        run(a_plan("local", tiny_model), tmp_path / "r")
    assert run(a_plan("local", tiny_model), tmp_path / "r").complete


def test_every_wrong_name_is_reported_at_once(tmp_path: Path) -> None:
    bad = a_plan("lcoal", "synth:mamba-131m", "no.gguf").model_copy(update={"backends": ("lama.cpp",)})
    with pytest.raises(PlanError) as e:
        run(bad, tmp_path / "r")
    for said in ("lama.cpp", "lcoal", "mamba-131m", "no.gguf"):
        assert said in e.value.message


def test_two_names_of_one_model_are_one_cell(tmp_path: Path) -> None:
    names = ("synth:mamba-130m", "synth:mamba-130m@Q4_0")
    outcome = run(a_plan("local", *names, memory_fraction=1e-9), tmp_path / "r")
    assert [c.model for c in outcome.cells] == ["synth:mamba-130m@Q4_0"]


def test_a_plan_may_be_a_file(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        f"device: local\nmodel: {tiny_model}\ncontext: 32\ngen: 4\nsessions: 1\niterations: 1\nthreads: 2\nidle_s: 0\n"
    )
    assert run(str(tmp_path / "p.yaml"), tmp_path / "r").complete


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


def test_a_full_disk_ends_the_plan_with_one_message(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Store.begin

    def begin_on_full_disk(self: Store, run_id: str) -> Path:
        partial = begin(self, run_id)
        (partial / EVENTS).symlink_to("/dev/full")
        return partial

    monkeypatch.setattr(Store, "begin", begin_on_full_disk)
    with pytest.raises(StoreError, match="No space left"):
        run(a_plan("local", tiny_model), tmp_path / "r")
    assert not list((tmp_path / "r").iterdir())


def profile_with_root(tmp_path: Path, **conditions: str) -> None:
    content = {"sensors": {"root": str(tmp_path / "tree")}, "conditions": conditions}
    write_profile(tmp_path / "profiles" / "local.yaml", "local", **content)


def governor_tree(tmp_path: Path) -> Path:
    file = tmp_path / "tree" / "sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
    file.parent.mkdir(parents=True)
    file.write_text("schedutil\n")
    return file


def test_conditions_are_set_for_the_run_and_put_back(tiny_model: Path, tmp_path: Path) -> None:
    governor = governor_tree(tmp_path)
    conditions = {"governor": "performance", "screen": "dim"}
    write_profile(
        tmp_path / "profiles" / "local.yaml", "local", sensors={"root": str(tmp_path / "tree")}, conditions=conditions
    )
    during: list[str] = []
    run(a_plan("local", tiny_model), tmp_path / "r", Recorder(lambda _e: during.append(governor.read_text().strip())))
    assert set(during) == {"performance"}
    assert governor.read_text().strip() == "schedutil"
    assert any("screen" in w for w in Store(tmp_path / "r").runs()[0][0].manifest.warnings)


def test_conditions_left_by_a_host_that_crashed_are_put_back(tmp_path: Path) -> None:
    governor = governor_tree(tmp_path)
    profile_with_root(tmp_path)
    crash = (
        "import os, melt; from melt.drivers import connect;"
        "connect(melt.load_profile('local')).condition({'governor': 'performance'}); os._exit(9)"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", crash]) == 9
    assert governor.read_text().strip() == "performance"
    with closing(connect(melt.load_profile("local"))) as measuring_again:
        measuring_again.condition({})
    assert governor.read_text().strip() == "schedutil"


def test_looking_at_a_device_does_not_undo_what_another_measures_under(tmp_path: Path) -> None:
    governor = governor_tree(tmp_path)
    profile_with_root(tmp_path)
    measuring = connect(melt.load_profile("local"))
    measuring.condition({"governor": "performance"})
    look = "import melt; from melt.drivers import connect; connect(melt.load_profile('local')).close()"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", look]) == 0
    assert governor.read_text().strip() == "performance"
    measuring.close()
    assert governor.read_text().strip() == "schedutil"


def test_a_hot_device_is_waited_for_and_flagged(tiny_model: Path, tmp_path: Path) -> None:
    zone = tmp_path / "tree" / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("x86_pkg_temp\n")
    (zone / "temp").write_text("81500\n")
    profile_with_root(tmp_path)
    cooldown = {"start_below_c": 50, "limit_s": 0.3}
    manifest = only(run(a_plan("local", tiny_model, cooldown=cooldown), tmp_path / "r")).manifest
    assert [f.name for f in manifest.flags] == ["start_temperature_out_of_band"]
    assert manifest.start_temp_c == 81.5
    assert manifest.cooldown_s is not None
    assert manifest.cooldown_s >= 0.3


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
