"""Options of a backend's own: by name, each with a text, a number, or yes or no."""

import itertools
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$")]
Value = bool | int | Annotated[float, Field(allow_inf_nan=False)] | Annotated[str, Field(max_length=200)]


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
        return tuple(dict(zip(given, values, strict=True)) for values in itertools.product(*lists))
    if isinstance(given, list | tuple) and all(isinstance(part, Mapping) for part in given):
        return tuple(one for part in given for one in every_combination(part))
    return given
