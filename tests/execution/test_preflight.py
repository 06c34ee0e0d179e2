"""What is known of a plan before it is measured is what the run then does."""

from pathlib import Path

import pytest

from melt.errors import DeviceError, PlanError
from melt.execution.agenda import agenda
from melt.execution.plan import run
from melt.execution.preflight import preflight
from melt.models import read_header
from melt.models.gguf.write import encode, lay_out
from melt.spec.facts import DeviceFacts
from melt.spec.plan import Plan
from melt.spec.profile import DeviceProfile
from melt.store.store import Store


def plan(*models: Path | str, **fields: object) -> Plan:
    defaults = {"context": (32,), "gen": (4,), "sessions": 1, "iterations": 1, "idle_s": 0.0, "threads": (2,)}
    return Plan.model_validate({"devices": ("local",), "models": tuple(map(str, models)), **defaults, **fields})


def profile(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / f"{name}.yaml"
    path.write_text(f"name: {name}\n{text}")
    return path


def test_a_run_makes_the_very_cells_that_the_preflight_shows(tiny_model: Path, tmp_path: Path) -> None:
    """By their ids: the device named by its path, threads by its profile, the runner by what is installed."""
    device = profile(tmp_path, "bench-7", "driver: local\nthreads: 1\n")
    wanted = plan(tiny_model, devices=(str(device),), runners=("auto", "python"), context=(32, 48), threads=(None,))
    admitted = preflight(wanted)
    left = agenda(admitted, Store(tmp_path / "r"))
    made = run(wanted, tmp_path / "r").made
    assert [(r.manifest.cell_id, r.manifest.session) for r in made] == [(c.id, s) for c, s in left.todo]
    assert {c.id for c in admitted.cells} == {r.manifest.cell_id for r in made}
    assert all((c.device, c.threads, c.runner) == ("bench-7", 1, "python") for c in admitted.cells)
    again = agenda(preflight(wanted), Store(tmp_path / "r"))
    assert (again.todo, again.already_there) == ((), 2)


def test_it_makes_nothing_and_touches_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is not here is neither written nor downloaded, and the device keeps what it is set to."""
    governor = tmp_path / "tree" / "sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
    governor.parent.mkdir(parents=True)
    governor.write_text("schedutil\n")
    root = f"sensors:\n  root: {tmp_path / 'tree'}\nconditions: {{governor: performance}}\n"
    device = profile(tmp_path, "bench-7", f"driver: local\n{root}")
    admitted = preflight(plan("synth:mamba-130m", "hf:a/b:c.gguf", devices=(str(device),)))
    assert governor.read_text() == "schedutil\n"
    written = [p.name for p in (tmp_path / "cache").rglob("*") if p.is_file() and not p.name.startswith("melt-runner-")]
    assert not [name for name in written if not name.endswith(".lock")]
    assert set(admitted.models) == {"synth:mamba-130m@Q4_0"}
    assert 80e6 < admitted.files("bench-7")["synth:mamba-130m@Q4_0"] < 90e6
    assert any(name.startswith("melt-runner") for name in admitted.files("bench-7"))


def test_a_device_that_is_not_there_leaves_its_cells_undecided(tmp_path: Path) -> None:
    admitted = preflight(plan("synth:mamba-130m", devices=("local", "pixel8"), threads=(None,)))
    assert {c.device for c in admitted.undecided} == {"pixel8"}
    assert next(c for c in admitted.cells if c.device == "local").runner == "python"
    with pytest.raises(DeviceError, match="pixel8: no phone"):
        admitted.require_ready()


def test_what_several_devices_lack_is_told_at_once(tmp_path: Path) -> None:
    def board(one: DeviceProfile) -> DeviceFacts:
        return DeviceFacts(platform="linux", machine="aarch64", power_modes=("15W",), python="python3")

    wanted = plan("synth:mamba-130m", devices=("jetson-orin-nano", "jetson-agx-orin"), power_mode=("25W",))
    admitted = preflight(wanted, board)
    with pytest.raises(PlanError) as caught:
        admitted.require_ready()
    for name in wanted.devices:
        assert f"{name}: has no power mode '25W'" in caught.value.message
    assert caught.value.hint == "It has 15W."


def test_processors_that_the_power_mode_turns_on_may_be_asked_for_again_and_again(tmp_path: Path) -> None:
    """A board that idles on two of four: a mask of the others is right in the mode that the profile sets."""

    def board(one: DeviceProfile) -> DeviceFacts:
        return DeviceFacts(
            platform="linux",
            machine="aarch64",
            python="python3",
            engines={"llama.cpp": "1"},
            power_modes=("10W", "MAXN"),
            power_mode="10W",
            mode_cpus={"10W": (0, 1), "MAXN": (0, 1, 2, 3)},
            online_cpus=(0, 1),
            logical_cores=2,
            physical_cores=2,
        )

    text = "driver: ssh\naddress: {host: h}\nconditions: {power_mode: MAXN}\n"
    path = str(profile(tmp_path, "nano", text))
    few = {"devices": (path,), "cores": ("0xc",), "runners": ("python",), "threads": (None,)}
    admitted = preflight(plan("synth:mamba-130m", **few), board)
    admitted.require_ready()
    [cell] = admitted.cells
    assert admitted.runner_sha256(cell)  # as a resume asks
    assert admitted.files("nano")  # and a dry run


def test_memory_is_judged_alike_before_and_in_the_run(tiny_model: Path, tmp_path: Path) -> None:
    wanted = plan(tiny_model, memory_fraction=1e-9)
    before = preflight(wanted).skipped
    outcome = run(wanted, tmp_path / "r")
    assert len(before) == 1
    assert list(before) == list(outcome.skipped)
    assert all("MiB by prediction" in reason for reason in before.values())


def test_a_model_of_unknown_architecture_is_run_unchecked_and_that_is_told(tiny_model: Path, tmp_path: Path) -> None:
    header = read_header(tiny_model)
    arch = str(header.metadata["general.architecture"])
    strange = {key.replace(f"{arch}.", "stranger."): value for key, value in header.metadata.items()}
    path = tmp_path / "stranger.gguf"
    head = encode(
        lay_out({**strange, "general.architecture": "stranger"}, [(t.name, t.dims, t.type) for t in header.tensors])
    )
    path.write_bytes(head.ljust(len(head) + tiny_model.stat().st_size, b"\0"))
    admitted = preflight(plan(path, memory_fraction=0.0001))
    assert admitted.skipped == {}
    (warning,) = admitted.warnings
    reason = "the memory of stranger cannot be predicted: melt does not know this architecture"
    assert warning == f"{path.name}: {reason}; it is run all the same"
    assert preflight(plan(path, memory_check=False)).warnings == []
