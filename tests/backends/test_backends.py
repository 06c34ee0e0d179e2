"""Backends by entry point: one that is broken is told as melt's own errors are, and the others go on."""

from importlib.metadata import EntryPoint, entry_points

import pytest

import melt.backends
from melt.backends import backend_names, load_backend
from melt.backends.base import Backend
from melt.doctor.host import check_host
from melt.errors import RunnerError


class Unfinished(Backend):
    """It has no bundle, nor anything else."""


class NotABackend:
    """Of another kind."""


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no_such_module:X", "No module named 'no_such_module'"),
        (f"{__name__}:Unfinished", "abstract"),
        (f"{__name__}:NotABackend", "is no melt.backends.base.Backend"),
    ],
)
def test_a_broken_backend_is_told(value: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [*entry_points(group=melt.backends.GROUP), EntryPoint("theirs", value, melt.backends.GROUP)]
    monkeypatch.setattr(melt.backends, "entry_points", lambda group: points)
    with pytest.raises(RunnerError, match=f"backend 'theirs' cannot be loaded: .*{reason}") as raised:
        load_backend("theirs")
    assert "uninstall" in raised.value.hint
    checks = {c.name: c for c in check_host()}
    assert checks["backend theirs"].state == "problem"
    assert "llama-cpp-python" in checks  # what another backend finds of this host


def test_melts_own_are_whole() -> None:
    assert [load_backend(name).name for name in backend_names()] == list(backend_names())
