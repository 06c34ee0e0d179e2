"""A cell's device conditions: what is set before it is measured, and what it is measured under.

The profile names conditions for every cell of its device, and a cell may name some for itself.
"""

from collections.abc import Mapping
from typing import Any

from melt.errors import PlanError
from melt.spec.cell import AXES, Cell
from melt.spec.facts import MOVED_BY_CONDITIONS, DeviceFacts
from melt.spec.profile import DeviceProfile

# Conditions that a cell may name for itself.
OF_CELLS = frozenset(axis.condition for axis in AXES.values() if axis.condition)


def conditions_of(cell: Cell, profile: DeviceProfile) -> dict[str, str]:
    """What is to be set for the cell: the profile's conditions, and the cell's own over them."""
    return {**profile.conditions, **cell.conditions}


def check_conditions(cell: Cell, facts: DeviceFacts) -> None:
    """Raises PlanError where the cell names what its device does not have."""
    for name, value in cell.conditions.items():
        has = getattr(facts, f"{name}s")  # the fact that lists what the device has
        if value not in has:
            raise PlanError(
                f"{cell.device}: has no {words_of(name)} {value!r}",
                f"It has {', '.join(has)}." if has else "It reports none: leave the option out.",
            )


def facts_as_found(cell: Cell, facts: DeviceFacts) -> DeviceFacts:
    """The device as it is, but under the conditions that the cell names."""
    return facts.model_copy(update=cell.conditions)


def facts_as_asked(cell: Cell, profile: DeviceProfile, facts: DeviceFacts) -> DeviceFacts:
    """The device as the cell will have it, if nothing is refused."""
    asked = {name: value for name, value in profile.conditions.items() if name in MOVED_BY_CONDITIONS}
    return facts.model_copy(update=_processors(facts, {**asked, **cell.conditions}) | asked | cell.conditions)


def _processors(facts: DeviceFacts, asked: Mapping[str, str]) -> dict[str, Any]:
    """Those that are on in the power mode asked for, where it is another than that which holds."""
    mode = asked.get("power_mode", facts.power_mode)
    on = facts.mode_cpus.get(mode or "", ())
    if mode == facts.power_mode or not on:
        return {}
    a_thread_each = facts.physical_cores == facts.logical_cores
    clusters = (tuple(cpu for cpu in cluster if cpu in on) for cluster in facts.clusters)
    return {
        "online_cpus": on,
        "logical_cores": len(on),
        "physical_cores": len(on) if a_thread_each else min(facts.physical_cores or len(on), len(on)),
        # Of a cluster that is off its top clock is not known, nor where it stands among the others.
        "clusters": tuple(filter(None, clusters)) if set(on) <= {c for cs in facts.clusters for c in cs} else (),
    }


def words_of(name: str) -> str:
    """What people call a condition."""
    return name.replace("_", " ")


def not_held(cell: Cell, facts: DeviceFacts) -> str:
    """Which condition of the cell the device says it is not under; empty where all hold."""
    wrong = [(name, value) for name, value in cell.conditions.items() if getattr(facts, name) != value]
    return "; ".join(f"{words_of(n)} {v}: the device is in {getattr(facts, n)}" for n, v in wrong)


def moved(before: DeviceFacts, now: Mapping[str, str]) -> dict[str, str]:
    """The conditions that changed while a run went on, each with what it was and is."""
    return {k: f"{k} was {getattr(before, k)} and is {v}" for k, v in now.items() if v != getattr(before, k)}
