"""The job file as the runner reads it: checked field by field against job.json, refused with a clear error."""

import json
from pathlib import PurePath
from typing import Any

from channel import JobError
from schema import SchemaError, Values, check

Job = Values  # the properties of job.json as attributes
MAX_JOB_BYTES = 1024 * 1024


def _schema() -> dict[str, Any]:
    """job.json, which lies beside this module in the runner's archive."""
    text: bytes = __spec__.loader.get_data(str(PurePath(__file__).with_name("job.json")))  # type: ignore[union-attr, attr-defined, unused-ignore]
    schema: dict[str, Any] = json.loads(text)
    return schema


SCHEMA = _schema()
PROTOCOL: int = SCHEMA["properties"]["protocol"]["const"]


def read_job(path: str) -> Job:
    """The job in a file.

    Raises:
        JobError: unreadable, of another protocol, or with a field that cannot be.
    """
    try:
        with open(path, "rb") as f:  # noqa: PTH123 - the device program keeps its imports few
            raw = f.read(MAX_JOB_BYTES + 1)
    except OSError as e:
        raise JobError("bad_job", f"job file cannot be read: {e.strerror}") from e
    if len(raw) > MAX_JOB_BYTES:
        raise JobError("bad_job", f"job file is larger than {MAX_JOB_BYTES} bytes")
    return decode_job(raw)


def decode_job(raw: bytes) -> Job:
    """A job from the bytes of its file.

    Raises:
        JobError: as ``parse_job``, or it is not JSON.
    """
    try:
        data = json.loads(raw.decode(), object_pairs_hook=_object, parse_constant=_no_number)
    except (ValueError, RecursionError) as e:
        raise JobError("bad_job", f"job file is not JSON: {e}") from e
    return parse_job(data)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """As the native runner takes it: each name once, and all text such that it could be sent."""
    for name, value in pairs:
        for text in (name, value):
            if isinstance(text, str) and any("\ud800" <= c <= "\udfff" for c in text):
                raise ValueError("half a surrogate pair")
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _no_number(word: str) -> Any:
    """Python alone would take NaN and Infinity."""
    raise ValueError(f"{word} is no JSON value")


def parse_job(data: Any) -> Job:
    """A job from decoded JSON. What the schema does not know is refused: it would silently change nothing.

    Raises:
        JobError: of another protocol, or naming the field that is wrong.
    """
    if not isinstance(data, dict):
        raise JobError("bad_job", "a job is a JSON object")
    protocol = data.get("protocol")
    if type(protocol) is not int or protocol != PROTOCOL:
        raise JobError("protocol", f"job has protocol {protocol!r}; this runner speaks {PROTOCOL}")
    try:
        job: Job = check(SCHEMA, data)
    except SchemaError as e:
        raise JobError("bad_job", str(e)) from e
    return job


def verdicts(path: str) -> list[dict[str, str]]:
    """Of a file with a job in each line: whether it would be taken, and why not."""
    out = []
    with open(path, "rb") as f:  # noqa: PTH123
        for line in f:
            try:
                decode_job(line)
            except JobError as e:
                out.append({"kind": e.kind, "message": e.message})
            else:
                out.append({"kind": "", "message": ""})
    return out
