"""Sizes as people write them: 20GB, 500MB, 1.5GiB."""

import re

from melt.errors import MeltError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def size_bytes(text: str) -> int:
    """The bytes of a ``--limit``; raises MeltError where it is no size."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?B?)\s*", text.upper())
    unit = match[2] if match else ""
    if unit and not unit.endswith("B"):
        unit += "B"
    if not match or unit not in _UNITS:
        raise MeltError(f"--limit {text!r} is no size", "Write for example 20GB or 500MB.")
    return int(float(match[1]) * _UNITS[unit])
