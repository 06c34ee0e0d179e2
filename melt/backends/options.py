"""Which of a plan's options go to which backend's cells: names and values are checked before any device is touched."""

from collections.abc import Mapping, Sequence

from melt.backends import backend_names, load_backend
from melt.errors import PlanError
from melt.spec.cell import AXES, Cell
from melt.spec.options import Option
from melt.spec.plan import Plan
from melt.util.yaml import did_you_mean

_HINT = "`melt doctor` lists the options of every backend."


def admitted_cells(plan: Plan) -> tuple[Cell, ...]:
    """A plan's cells, each with the options of its own backend only, and those only where they are not the default.

    So one setting is one cell, however it is written and whether its default is, and an option goes to those cells
    alone whose backend has it. Backends that are not installed are left to whoever reads the names of a plan.

    Raises:
        PlanError: no backend of the plan has such an option, or its value is none that it takes.
    """
    every = plan.cells()
    used = sorted({cell.backend for cell in every} & set(backend_names()))
    declared = {name: {o.name: o for o in load_backend(name).options} for name in used}
    if any(cell.options for cell in every) and {c.backend for c in every} == set(used):
        _check_names(plan, every, declared)
    cells = plan.cells(options_of=lambda backend: declared.get(backend, {}))
    for cell in cells:
        _check_values(cell, declared.get(cell.backend, {}))
    return tuple(dict.fromkeys(_without_defaults(cell, declared.get(cell.backend, {})) for cell in cells))


def _check_names(plan: Plan, cells: Sequence[Cell], declared: Mapping[str, Mapping[str, Option]]) -> None:
    """Raises PlanError for a name that no backend of the plan has, or, in an include, that its own has not."""
    known = {name for options in declared.values() for name in options}
    for name in dict.fromkeys(name for cell in cells for name, _ in cell.options):
        if name not in known:
            raise PlanError(
                f"options: no backend of this plan ({', '.join(declared)}) has {name!r}{did_you_mean(name, known)}",
                _HINT,
            )
    for i, given in enumerate(plan.include):
        first = getattr(plan, AXES["backend"].key)[:1]
        backend = given.get("backend", *first)
        unknown = [name for name in dict(given.get("options", {})) if name not in declared[backend]]
        if unknown:
            nearest = did_you_mean(unknown[0], declared[backend])
            raise PlanError(f"include[{i}]: {backend} has no option {unknown[0]!r}{nearest}", _HINT)


def _check_values(cell: Cell, options: Mapping[str, Option]) -> None:
    for name, value in cell.options:
        if not options[name].takes(value):
            raise PlanError(
                f"options: {name}: {cell.backend} takes {options[name].values}, not {value!r}",
                f"{options[name].described}.",
            )


def _without_defaults(cell: Cell, options: Mapping[str, Option]) -> Cell:
    kept = tuple((name, options[name].typed(value)) for name, value in cell.options if value != options[name].default)
    return cell.model_copy(update={"options": kept})
