"""Backends: from a cell, a model and a device to what runs there."""

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from melt.errors import PlanError
from melt.util.yaml import did_you_mean

if TYPE_CHECKING:
    from melt.backends.base import Backend

GROUP = "melt.backends"


def backend_names() -> tuple[str, ...]:
    """Every installed backend, built-in and third-party alike."""
    return tuple(sorted({e.name for e in entry_points(group=GROUP)}))


def load_backend(name: str) -> "Backend":
    """A backend by name.

    Raises:
        PlanError: no such backend is installed; the nearest name is suggested.
    """
    found = {e.name: e for e in entry_points(group=GROUP)}
    if name not in found:
        raise PlanError(
            f"unknown backend {name!r}{did_you_mean(name, found)}", f"Installed: {', '.join(sorted(found))}."
        )
    backend: Backend = found[name].load()()
    return backend
