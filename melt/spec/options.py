"""Options of a backend's own: what one is, and a cell's values by name, each a text, a number, or yes or no."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, TypeAdapter

_NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,39}$"
Name = Annotated[str, Field(pattern=_NAME)]
Value = bool | int | Annotated[float, Field(allow_inf_nan=False)] | Annotated[str, Field(max_length=200)]

# A few short lists multiply beyond all memory; nobody has the time to measure so much.
MAX_CELLS = 100_000


def _pairs(given: Any) -> Any:
    return tuple(given.items()) if isinstance(given, Mapping) else given


def _in_order(pairs: tuple[tuple[str, Value], ...]) -> tuple[tuple[str, Value], ...]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("an option is given twice")
    return tuple(sorted(pairs, key=lambda pair: pair[0]))


# Pairs sorted by name, so that what holds them can be a key; written as a mapping.
Options = Annotated[
    tuple[tuple[Name, Value], ...],
    BeforeValidator(_pairs, json_schema_input_type=dict[Name, Value]),
    AfterValidator(_in_order),
    PlainSerializer(dict, return_type=dict[str, Value]),
]


def every_combination(given: Any) -> Any:
    """Of options with a value or a list of values each, all combinations; of a list of such, those of each."""
    if isinstance(given, Mapping):
        lists = [value if isinstance(value, list | tuple) else [value] for value in given.values()]
        if math.prod(map(len, lists)) > MAX_CELLS:
            raise ValueError(f"more than {MAX_CELLS:,} combinations")
        return tuple(dict(zip(given, values, strict=True)) for values in itertools.product(*lists))
    if isinstance(given, list | tuple) and all(isinstance(part, Mapping) for part in given):
        return tuple(one for part in given for one in every_combination(part))
    return given


@dataclass(frozen=True)
class Option:
    """One setting that a backend alone has; a plan's ``options`` give it values.

    ``type`` is a value's type with its range, as pydantic reads it: ``Annotated[int, Field(ge=4, le=65536)]``.
    """

    name: str
    type: Any
    default: Value
    meaning: str

    @property
    def values(self) -> str:
        """The values that it takes, in words."""
        schema = TypeAdapter(self.type).json_schema()
        if "enum" in schema:
            return ", ".join(map(str, schema["enum"]))
        least, most = schema.get("minimum"), schema.get("maximum")
        if least is not None and most is not None:
            return f"{least} to {most}"
        kinds = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text"}
        kind = kinds.get(schema.get("type", ""), "a value")
        return f"{kind} from {least}" if least is not None else f"{kind} up to {most}" if most is not None else kind

    @property
    def described(self) -> str:
        """Its name, values, default and meaning, for people."""
        return f"{self.name} ({self.values}; default {self.default}): {self.meaning}"

    def takes(self, value: Value) -> bool:
        """Whether it is one of its values."""
        try:
            self.typed(value)
        except KeyboardInterrupt:
            raise
        except BaseException:  # a third party's type may raise anything, also what would end melt
            return False
        return True

    def typed(self, value: Value) -> Value:
        """One of its values in its own type: of any number 1 is 1.0, so that both are one cell."""
        of_type: Value = TypeAdapter(self.type).validate_python(value, strict=True)
        return of_type


def option_values(declared: Sequence[Option], given: Sequence[tuple[str, Value]]) -> dict[str, Value]:
    """Every option that is declared, with the value that a cell gives it, or its default."""
    return {option.name: option.default for option in declared} | dict(given)


def check_options(declared: Sequence[Option]) -> None:
    """Raises an error where a backend declares an option that nobody could set."""
    if not all(isinstance(option, Option) for option in declared):
        raise TypeError("its options are no melt.spec.options.Option")
    names = [option.name for option in declared]
    if unnamed := [name for name in names if not re.match(_NAME, name)]:
        raise ValueError(f"no plan could name its option {unnamed[0]!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"it declares an option twice: {', '.join(names)}")
    for option in declared:
        if not option.takes(option.default):
            raise ValueError(f"its option {option.name} does not take its own default, {option.default!r}")
        option.described  # noqa: B018 - raises where its type has no words
