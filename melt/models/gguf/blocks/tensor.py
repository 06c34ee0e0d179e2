"""A tensor to be made."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class TensorSpec:
    """One tensor to make: its name, its dimensions (fastest first) and what to fill it with.

    ``fill`` is "random", "decay" (the negative ramp of a state matrix) or a number.
    """

    name: str
    dims: tuple[int, ...]
    fill: str | float = "random"


Plan = Iterator[TensorSpec]


def norm(name: str, width: int) -> TensorSpec:
    """The weights of an RMS norm."""
    return TensorSpec(f"{name}.weight", (width,), 1.0)


def layer_norm(name: str, width: int) -> Plan:
    """Weights and bias of a layer norm."""
    yield TensorSpec(f"{name}.weight", (width,), 1.0)
    yield TensorSpec(f"{name}.bias", (width,), 0.0)
