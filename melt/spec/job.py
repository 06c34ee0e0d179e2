"""The job that the host gives a runner: protocol 1's other half. What a job is stands in runner/job.json."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
    model_validator,
)

from melt.runner import job_schema

_SCHEMA = job_schema()
_TYPES: Mapping[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool}
_LIMITS = {"minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt"}

PROTOCOL: int = _SCHEMA["properties"]["protocol"]["const"]


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _of_type(kind: type, value: object) -> object:
    """The value; pydantic alone would take 1 for true."""
    if type(value) is not kind:
        raise ValueError(f"must be of type {kind.__name__}")
    return value


def _type_of(schema: Mapping[str, Any]) -> Any:
    if "const" in schema:
        return Annotated[Literal[schema["const"]], BeforeValidator(partial(_of_type, type(schema["const"])))]
    if "enum" in schema:
        return Literal[tuple(schema["enum"])]
    limits: dict[str, Any] = {word: schema[name] for name, word in _LIMITS.items() if name in schema}
    if schema["type"] == "string":
        limits["pattern"] = r"^[^\x00]*$"  # as in every runner
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    strict: Any = Annotated[_TYPES[types[0]], Field(strict=True, **limits)]
    return strict | None if "null" in types else strict


def _fields(schema: Mapping[str, Any]) -> Any:
    """A class with those properties of a schema that are no objects, each with its type, range and default."""
    made: dict[str, Any] = {}
    for name, of_field in schema["properties"].items():
        if of_field.get("type") != "object":
            default = ... if name in schema["required"] else of_field["default"]
            made[name] = (_type_of(of_field), of_field.get("const", default))
    return create_model("_Fields", __base__=_Checked, **made)


_Workload: Any = _fields(_SCHEMA["properties"]["workload"])
_Job: Any = _fields(_SCHEMA)


class Workload(_Workload):  # type: ignore[misc]  # its fields are those of job.json
    """What to compute. Prompt tokens are seeded random ids; the end of sequence is ignored."""

    @model_validator(mode="after")
    def _kind_has_what_it_needs(self) -> Self:
        schema = _SCHEMA["properties"]["workload"]
        if all(getattr(self, name) == s["const"] for name, s in schema["if"]["properties"].items()):
            for name, then in schema["then"]["properties"].items():
                if getattr(self, name) is None:
                    raise ValueError(f"{name}: must be a {then['type']}")
        return self


class Job(_Job):  # type: ignore[misc]  # likewise
    """One fresh-process execution of a cell, as the runner is told of it."""

    workload: Workload

    @model_serializer(mode="wrap")
    def _as_older_runners_know_it(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A runner refuses what it does not know, so a field that came later is told only where it is set."""
        told: dict[str, Any] = whole(self)
        later = {n: s["default"] for n, s in _SCHEMA["properties"].items() if s.get("omitDefault")}
        return {name: value for name, value in told.items() if name not in later or value != later[name]}
