"""Backends by entry point: one that is broken is told as melt's own errors are, and the others go on."""

from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

import melt
import melt.backends
from melt.backends import backend_names, load_backend
from melt.backends.base import Backend, Bundle
from melt.backends.llamacpp import LlamaCpp
from melt.doctor.host import check_host
from melt.errors import RunnerError
from melt.models.info import ModelInfo
from melt.spec.cell import Cell
from melt.spec.check import Check
from melt.spec.facts import DeviceFacts
from melt.spec.options import Option
from melt.spec.plan import Plan


class Unfinished(Backend):
    """It has no bundle, nor anything else."""


class Idle(Backend):
    """It does nothing, and is whole."""

    name = "theirs"

    def check_cell(self, cell: Cell) -> None:
        """Any."""

    def check(self, facts: DeviceFacts) -> None:
        """Any."""

    def decide(self, cell: Cell, facts: DeviceFacts) -> Cell:
        """As it is."""
        return cell

    def bundle(self, cell: Cell, model: ModelInfo, facts: DeviceFacts, job_id: str) -> Bundle:
        """None."""
        raise NotImplementedError


class Numbers(Idle):
    """Its options are none."""

    options = (1, 2)  # type: ignore[assignment]


class Twice(Idle):
    """It has an option twice."""

    options = (Option("x", int, 0, ""), Option("x", str, "", ""))


class BadName(Idle):
    """No plan could name its option."""

    options = (Option("x y", int, 0, ""),)


class BadDefault(Idle):
    """Its option does not take what it is by default."""

    options = (Option("x", int, "none", ""),)


class Checkless(Idle):
    """Its checks fail."""

    def checks(self) -> Sequence[Check]:
        """None."""
        raise KeyError("no engine")


class Fails(Idle):
    """It has no program after all."""

    def bundle(self, cell: Cell, model: ModelInfo, facts: DeviceFacts, job_id: str) -> Bundle:
        """None."""
        raise KeyError("no program")


class NotABackend:
    """Of another kind."""


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no_such_module:X", "No module named 'no_such_module'"),
        (f"{__name__}:Unfinished", "abstract"),
        (f"{__name__}:NotABackend", "is no melt.backends.base.Backend"),
        (f"{__name__}:Numbers", "its options are no melt.spec.options.Option"),
        (f"{__name__}:Twice", "it declares an option twice: x, x"),
        (f"{__name__}:BadName", "no plan could name its option 'x y'"),
        (f"{__name__}:BadDefault", "its option x does not take its own default, 'none'"),
    ],
)
def test_a_broken_backend_is_told(value: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [*entry_points(group=melt.backends.GROUP), EntryPoint("theirs", value, melt.backends.GROUP)]
    monkeypatch.setattr(melt.backends, "entry_points", lambda group: points)
    with pytest.raises(RunnerError, match=rf"backend 'theirs' \(.*\) cannot be loaded: .*{reason}") as raised:
        load_backend("theirs")
    assert "uninstall" in raised.value.hint
    checks = {c.name: c for c in check_host()}
    assert checks["backend theirs"].state == "problem"
    assert "llama-cpp-python" in checks  # what another backend finds of this host


def test_a_backend_whose_checks_fail_is_told_and_the_others_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("a-theirs", f"{__name__}:Checkless", melt.backends.GROUP)]
    points += entry_points(group=melt.backends.GROUP)
    monkeypatch.setattr(melt.backends, "entry_points", lambda group: points)
    checks = {c.name: c for c in check_host()}
    assert checks["backend a-theirs"].state == "problem"
    assert checks["backend a-theirs"].found.endswith("fails in checks: KeyError: 'no engine'")
    assert "llama-cpp-python" in checks


def test_melts_own_are_whole() -> None:
    assert [load_backend(name).name for name in backend_names()] == list(backend_names())


def _ends(*_given: object) -> None:
    raise SystemExit(0)


def _breaks(*_given: object) -> None:
    raise ZeroDivisionError("no bus\x1b[31m")


def _junk(*_given: object) -> object:
    return object()


@pytest.mark.parametrize("method", ["check_cell", "check", "decide", "to_build", "bundle"])
@pytest.mark.parametrize("fault", [_ends, _breaks, _junk])
def test_what_a_backend_raises_or_gives_wrong_is_an_error_that_names_it(
    method: str, fault: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [EntryPoint("theirs", f"{__name__}:Idle", melt.backends.GROUP)]
    monkeypatch.setattr(melt.backends, "entry_points", lambda group: points)
    monkeypatch.setattr(Idle, method, fault)
    backend, facts = load_backend("theirs"), DeviceFacts(platform="linux", machine="x")
    cell = Cell(device="local", model="synth:smollm2-135m@Q4_0", backend="theirs")
    given = {"check_cell": (cell,), "check": (facts,), "bundle": (cell, None, facts, "id")}.get(method, (cell, facts))
    said = {_ends: "SystemExit: 0", _breaks: r"ZeroDivisionError: no bus\[31m", _junk: "TypeError: it is a object"}
    with pytest.raises(RunnerError, match=rf"backend 'theirs' \(.*Idle\) fails in {method}: {said[fault]}") as raised:
        getattr(backend, method)(*given)
    assert "uninstall" in raised.value.hint


def test_a_run_by_a_backend_that_fails_is_no_traceback_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_model: Path
) -> None:
    monkeypatch.setattr(
        melt.backends, "entry_points", lambda group: [EntryPoint("theirs", f"{__name__}:Fails", melt.backends.GROUP)]
    )
    plan = Plan(
        devices="local", models=str(tiny_model), backends="theirs", context=8, sessions=1, cooldown={"limit_s": 0}
    )
    outcome = melt.run(plan, tmp_path)
    [error] = [run.manifest.error for run in outcome.failed]
    assert error is not None
    assert error.message.endswith("fails in bundle: KeyError: 'no program'")


@pytest.mark.parametrize(
    ("facts", "begins"),
    [
        (DeviceFacts(platform="linux", machine="x86_64", is_host=True), "pip install 'melt-bench[local]'"),
        (DeviceFacts(platform="linux", machine="aarch64"), "There, into its python3: pip install llama-cpp-python"),
        (DeviceFacts(platform="android", machine="aarch64"), "Take the native runner: --runner native"),
    ],
)
def test_what_a_device_without_llama_cpp_python_gets_is_told_of_that_device(facts: DeviceFacts, begins: str) -> None:
    with pytest.raises(RunnerError, match="is not installed on this device") as caught:
        LlamaCpp().decide(Cell(device="x", model="m.gguf", runner="python"), facts)
    assert caught.value.hint.startswith(begins)
