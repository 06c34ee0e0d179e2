"""What a plan leaves out: patterns of cells, each a value or a list of values for some of a cell's fields."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast, get_type_hints

from pydantic import BeforeValidator, ConfigDict
from typing_extensions import TypedDict

from melt.errors import PlanError
from melt.spec.cell import AXES, Cell
from melt.spec.options import Name, Value
from melt.util.yaml import did_you_mean

_OPTIONS = "options"
_OfOptions = dict[Name, Value | tuple[Value, ...]]


def _one_is_a_list_of_one(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


def _fields() -> dict[str, Any]:
    types, listed = get_type_hints(Cell, include_extras=True), cast(Any, tuple)
    lists = {name: Annotated[listed[types[name], ...], BeforeValidator(_one_is_a_list_of_one)] for name in AXES}
    return lists | {_OPTIONS: _OfOptions}


# Values are read as the same axis of a plan reads them. Unknown keys are told by `check_keys`, with all that there are.
if TYPE_CHECKING:
    Pattern = dict[str, Any]
else:
    Pattern = TypedDict("Pattern", _fields(), total=False)
    Pattern.__pydantic_config__ = ConfigDict(extra="allow")


def matches(cell: Cell, pattern: Mapping[str, Any]) -> bool:
    """Whether a pattern leaves the cell out; an empty one leaves out nothing."""
    return bool(pattern) and all(_is_one_of(getattr(cell, key), wanted) for key, wanted in pattern.items())


def _is_one_of(value: Any, wanted: Any) -> bool:
    """Whether a value is the one, or one of those, of a pattern; of options, whether each that it names is."""
    if isinstance(wanted, Mapping):
        has = dict(value) if isinstance(value, tuple) else None
        return has is not None and all(name in has and _is_one_of(has[name], one) for name, one in wanted.items())
    return value in wanted if isinstance(wanted, list | tuple) else value == wanted


def check_patterns(patterns: Sequence[Mapping[str, Any]], cells: Sequence[Cell], where: str) -> None:
    """Raises PlanError where a pattern names a value that no cell has, or leaves out none: it would be an oversight.

    Args:
        patterns: the plan's.
        cells: all that the plan makes, before any is left out.
        where: what a message begins with.
    """
    for i, pattern in enumerate(patterns):
        for key, wanted in pattern.items():
            have = dict.fromkeys(getattr(cell, key) for cell in cells)
            for one in wanted if isinstance(wanted, list | tuple) else (wanted,):
                if not any(_is_one_of(value, one) for value in have):
                    said = [AXES[key].text(value) for value in have]
                    raise PlanError(
                        f"{where}: exclude[{i}]: {key}: no cell of this plan has {one!r}{did_you_mean(str(one), said)}",
                        f"They have: {', '.join(said[:10])}{', ...' if len(said) > 10 else ''}.",
                    )
        if pattern and not any(matches(cell, pattern) for cell in cells):
            raise PlanError(f"{where}: exclude[{i}]: no cell of this plan is all of this at once", "Leave it out.")


def without_values(pattern: Mapping[str, Any], is_gone: Callable[[str, Any], bool]) -> dict[str, Any] | None:
    """A pattern without those values of which ``is_gone`` is true; None where nothing of one of its keys is left."""
    kept = {
        key: tuple(one for one in wanted if not is_gone(key, one)) if isinstance(wanted, list | tuple) else wanted
        for key, wanted in pattern.items()
    }
    return kept if all(wanted != () for wanted in kept.values()) else None
