"""JSON checked against a schema: the part of JSON Schema that job.json uses, with its defaults filled in.

The native runner's schema.cpp does the same, in the same words.
"""

import json
from types import SimpleNamespace
from typing import Any

_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object", type(None): "null"}


class SchemaError(ValueError):
    """A value that the schema does not allow; the message names the field."""


class Values(SimpleNamespace):
    """An object that was checked: every property of its schema as an attribute."""


def check(schema: dict[str, Any], value: Any, field: str = "") -> Any:
    """The value as its schema allows it: objects as ``Values``, the rest as it came.

    Raises:
        SchemaError: naming the field that is wrong and what it must be.
    """
    if not _allows(schema, value):
        raise SchemaError(f"{field}: must be {_wanted(schema)}")
    return _object(schema, value, f"{field}." if field else "") if isinstance(value, dict) else value


def _object(schema: dict[str, Any], given: dict[str, Any], prefix: str) -> Values:
    known = schema["properties"]
    for name in given:
        if name not in known:
            raise SchemaError(f"{prefix}{name}: unknown key")
    for name in schema["required"]:
        if name not in given:
            raise SchemaError(f"{prefix}{name}: missing")
    whole = {n: check(s, given[n], prefix + n) if n in given else s.get("default") for n, s in known.items()}
    if "if" in schema and all(whole[n] == s["const"] for n, s in schema["if"]["properties"].items()):
        for name, then in schema["then"]["properties"].items():
            check(then, whole[name], prefix + name)
    return Values(**whole)


def _allows(schema: dict[str, Any], value: Any) -> bool:
    if "const" in schema:
        return type(value) is type(schema["const"]) and value == schema["const"]
    name, types = _NAMES.get(type(value), "array"), _types(schema)
    if name not in types and not (name == "integer" and "number" in types):
        return False
    if isinstance(value, str):
        return "\0" not in value and value in schema.get("enum", (value,))
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        return bool(low <= value <= high and value > schema.get("exclusiveMinimum", float("-inf")))
    return True


def _types(schema: dict[str, Any]) -> list[str]:
    types = schema["type"]
    return types if isinstance(types, list) else [types]


def _wanted(schema: dict[str, Any]) -> str:
    """What a value must be, in words."""
    if "const" in schema:
        return json.dumps(schema["const"])
    words = []
    for name in _types(schema):
        if "enum" in schema and name == "string":
            words.append(f"one of {', '.join(schema['enum'])}")
        elif name in ("integer", "number"):
            words.append(f"{'an integer' if name == 'integer' else 'a number'}{_range(schema)}")
        else:
            words.append({"boolean": "true or false", "object": "an object", "string": "a string"}.get(name, name))
    return " or ".join(words)


def _range(schema: dict[str, Any]) -> str:
    if "minimum" in schema:
        return f" from {schema['minimum']} to {schema['maximum']}"
    return f" above {schema['exclusiveMinimum']} and up to {schema['maximum']}" if "maximum" in schema else ""
