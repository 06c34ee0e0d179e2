"""What makes two runs comparable.

A run's passport says under which conditions it was made. Runs of one cell are pooled only where the whole
passport is equal; runs of different models are compared only where all of it but the model is equal.
"""

import hashlib
import json
from collections.abc import Mapping

MODEL_PREFIX = "model"
UNKNOWN_SETTINGS = "unknown_settings"  # the axes that an imported run's program did not tell, joined by commas

# Flags that tell a condition of the whole run: with and without one is never pooled, nor compared.
CONDITIONS = ("charging", "extra_buffers_off")


def as_found(passport: Mapping[str, str], flags: str) -> dict[str, str]:
    """A run's passport with what its flags, joined by commas, tell of its conditions."""
    return {**passport, **{f: "yes" for f in CONDITIONS if f in flags.split(",")}}


def passport_id(passport: Mapping[str, str]) -> str:
    """Eight hexadecimal digits that stand for the whole passport."""
    return hashlib.sha256(json.dumps(dict(passport), sort_keys=True).encode()).hexdigest()[:8]


def conditions(passport: Mapping[str, str]) -> dict[str, str]:
    """The passport without the model's entries: those whose name starts with ``model``."""
    return {k: v for k, v in passport.items() if not k.startswith(MODEL_PREFIX)}


def differences(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """One line for each entry that differs, in words."""
    keys = sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k))
    return [f"{k}: {a.get(k, 'unknown')} against {b.get(k, 'unknown')}" for k in keys]
