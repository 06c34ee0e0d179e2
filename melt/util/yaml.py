"""Reading YAML that people write, and saying what is wrong with it: file, line, key, nearest name."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from melt.errors import MeltError

MAX_YAML_BYTES = 1024 * 1024
MAX_DEPTH = 50
_OPENING = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)

Lines = Mapping[tuple[str | int, ...], int]


def load_yaml(path: Path, error: type[MeltError]) -> tuple[dict[str, Any], Lines]:
    """A YAML mapping and the line number of every key in it.

    Raises:
        MeltError (of the kind given): the file is missing, too large, no YAML, or no mapping.
    """
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise error(f"{path}: larger than {MAX_YAML_BYTES} bytes", "This does not look like one of melt's files.")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        reason = getattr(e, "strerror", None) or "not UTF-8 text"
        raise error(f"{path}: cannot be read: {reason}", "Check the path and its permissions.") from e
    try:
        depth = 0
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
            if depth > MAX_DEPTH:
                line = token.start_mark.line + 1
                raise error(f"{path}:{line}: nested more than {MAX_DEPTH} deep", "No file of melt's is.")
            if isinstance(token, yaml.AliasToken):
                raise error(f"{path}: uses YAML aliases", "Write the values out; a few lines can expand without end.")
            if isinstance(token, yaml.ScalarToken) and "\0" in token.value:
                line = token.start_mark.line + 1
                raise error(f"{path}:{line}: a text with a NUL character", "No name or path can hold one.")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as e:
        mark = getattr(e, "problem_mark", None)
        at = f":{mark.line + 1}" if mark else ""
        problem = getattr(e, "problem", None) or "not valid YAML"
        raise error(f"{path}{at}: {problem}", "Check the indentation and quoting around that line.") from e
    if not isinstance(data, dict) or not all(isinstance(k, str) for k in data):
        raise error(f"{path}: not a mapping of keys to values", "Write `key: value` lines at the top level.")
    again = _first_repeat(node)
    if again is not None:
        line = again.start_mark.line + 1
        raise error(f"{path}:{line}: key {again.value!r} is given twice", "Keep one of them: the other would be lost.")
    return data, _key_lines(node, ())


def _first_repeat(node: yaml.Node | None) -> yaml.ScalarNode | None:
    """The first key that stands twice in one mapping."""
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    return key
                seen.add(key.value)
            inner.append(value)
    elif isinstance(node, yaml.SequenceNode):
        inner = node.value
    return next((found for child in inner if (found := _first_repeat(child)) is not None), None)


def _key_lines(node: yaml.Node | None, at: tuple[str | int, ...]) -> dict[tuple[str | int, ...], int]:
    lines: dict[tuple[str | int, ...], int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, key.value)
            lines[here] = key.start_mark.line + 1
            lines |= _key_lines(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            lines[(*at, i)] = value.start_mark.line + 1
            lines |= _key_lines(value, (*at, i))
    return lines


def describe_problems(
    error: ValidationError,
    where: str,
    model: type[BaseModel],
    lines: Lines | None = None,
    elsewhere: Mapping[str, str] | None = None,
    at: tuple[str, ...] = (),
) -> str:
    """Every problem of a validation, one a line, each with file, line, key and the nearest known key.

    ``elsewhere`` says of top-level keys that were not given in the file where they were given. ``at`` is the key of the
    file below which the validated mapping stands, where it is not the whole.
    """
    out = []
    for problem in error.errors(include_url=False):
        inner = tuple(problem["loc"])
        loc = (*at, *inner)
        if lines and loc not in lines and loc[-1:] == (0,):
            loc = loc[:-1]  # one value that stands for a list of one
        place = (elsewhere or {}).get(str(loc[0])) if loc else None
        if place and isinstance(loc[-1], int):
            loc = loc[:-1]  # options have no list to count in
        key = ".".join(str(p) for p in loc)
        if place is None:
            place = where + (f":{lines[loc]}" if lines and loc in lines else "")
        if problem["type"] == "extra_forbidden":
            text = f"unknown key {key!r}{did_you_mean(str(loc[-1]), _keys_at(model, inner[:-1]))}"
        else:
            text = f"{key}: {problem['msg']} (got {_short(problem.get('input'))})"
        out.append(f"{place}: {text}")
    return "\n".join(out)


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the nearest known name, or nothing when none is near."""
    near = difflib.get_close_matches(given.lower(), list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _keys_at(model: type[BaseModel], at: tuple[str | int, ...]) -> list[str]:
    for part in at:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return list(model.model_fields)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
