"""A finding of ``melt doctor``: what is right or wrong, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]
LOW_DISK_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Check:
    """One finding; ``fix`` says what to do where it is not ok."""

    name: str
    state: State
    found: str
    fix: str = ""
