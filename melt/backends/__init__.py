"""Backends: from a cell, a model and a device to what runs there."""

from importlib.metadata import entry_points

from melt.backends.base import Backend
from melt.errors import PlanError, RunnerError
from melt.spec.options import check_options
from melt.util.plugins import CANNOT_BE_LOADED, Plugin
from melt.util.yaml import did_you_mean

GROUP = "melt.backends"


def backend_names() -> tuple[str, ...]:
    """Every installed backend, built-in and third-party alike."""
    return tuple(sorted({e.name for e in entry_points(group=GROUP)}))


def load_backend(name: str) -> Backend:
    """A backend by name; whatever it raises is a ``RunnerError``.

    Raises:
        PlanError: no such backend is installed; the nearest name is suggested.
        RunnerError: it cannot be loaded.
    """
    installed = {e.name: e for e in entry_points(group=GROUP)}
    if name not in installed:
        raise PlanError(
            f"unknown backend {name!r}{did_you_mean(name, installed)}", f"Installed: {', '.join(sorted(installed))}."
        )
    package = Plugin("backend", installed[name], RunnerError)
    with package.calling(CANNOT_BE_LOADED):
        backend = installed[name].load()()
        if not isinstance(backend, Backend):
            raise TypeError("it is no melt.backends.base.Backend")
        check_options(backend.options)
        guarded: Backend = package.guard(backend, Backend)
        return guarded
