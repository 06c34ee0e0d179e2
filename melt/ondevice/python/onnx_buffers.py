"""Buffers that are allocated once and bound once, so that nothing is copied or allocated while time is taken."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from channel import JobError
from onnx_decoder import CACHES, Decoder

TYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


@dataclass
class State:
    """A cache or a recurrent state. A cache is one buffer that goes in and out; a state is two that take turns."""

    part: str
    past: str
    present: str
    values: tuple[Any, Any]
    shape: tuple[int, ...]
    type: Any

    @property
    def is_cache(self) -> bool:
        """Whether it grows with the context."""
        return self.part in CACHES

    @property
    def size_bytes(self) -> int:
        """Of all its buffers."""
        return math.prod(self.shape) * int(np.dtype(self.type).itemsize) * (1 if self.is_cache else 2)

    def clear(self) -> None:
        """Forgets everything. A cache's old rows are never read."""
        if not self.is_cache:
            self.values[0].update_inplace(np.zeros(self.shape, self.type))

    def touch(self) -> None:
        """Has the system give the memory now, and not in a timed pass."""
        for value in self.values:
            value.update_inplace(np.zeros(self.shape, self.type))


def states_of(session: Any, decoder: Decoder, n_ctx: int, memory: str) -> list[State]:
    """Buffers for everything that the graph carries from one call to the next.

    Raises:
        JobError: the graph takes something that nobody would give it, or keeps its state in another way.
    """
    outputs = {o.name for o in session.get_outputs()}
    others = {decoder.tokens, decoder.mask, decoder.positions}
    found = []
    for given in session.get_inputs():
        if given.name in others:
            continue
        named = decoder.present_of(given.name)
        if named is None:
            raise JobError(
                "model_load", f"input {given.name!r} of the graph is no cache or state that the configuration names"
            )
        part, present = named
        if present not in outputs:
            raise JobError("model_load", f"the graph takes {given.name!r} and does not give {present!r}")
        if part in CACHES and not decoder.shares_buffer:
            raise JobError(
                "model_load", "the graph copies its cache for every token (past_present_share_buffer is not true)"
            )
        found.append(_state(part, given, present, n_ctx, memory))
    if decoder.tokens not in {i.name for i in session.get_inputs()}:
        raise JobError("model_load", f"the graph has no input {decoder.tokens!r}")
    if decoder.logits not in outputs:
        raise JobError("model_load", f"the graph has no output {decoder.logits!r}")
    return found


def type_of(value: Any, kinds: str) -> Any:
    """NumPy's type of an input or output, which has to be among ``kinds`` ("float" or "int").

    Raises:
        JobError: it is another.
    """
    found = TYPES.get(value.type)
    if found is None or not np.dtype(found).name.startswith(kinds):
        raise JobError("model_load", f"{value.name!r} is a {value.type}, and not of {kinds}s")
    return found


def _state(part: str, given: Any, present: str, n_ctx: int, memory: str) -> State:
    type_ = type_of(given, "float")
    dims = [1, *given.shape[1:]]
    if part in CACHES and len(dims) == 4:
        dims[2] = n_ctx
    if not all(isinstance(d, int) and d > 0 for d in dims):
        raise JobError("model_load", f"input {given.name!r} has the shape {given.shape}: not fixed but for the batch")
    shape = tuple(dims)
    first = ort.OrtValue.ortvalue_from_shape_and_type(shape, type_, memory, 0)
    second = first if part in CACHES else ort.OrtValue.ortvalue_from_shape_and_type(shape, type_, memory, 0)
    state = State(part, given.name, present, (first, second), shape, type_)
    state.touch()
    return state


def start_of(row: Any, end: int) -> Any:
    """The first columns of a row, as a value of ONNX Runtime's over the same memory."""
    return ort.OrtValue.ortvalue_from_numpy(row[:, :end])


def bind_states(binding: Any, states: Iterable[State], turn: int) -> None:
    """Past in, present out; ``turn`` says which of two buffers is the past."""
    for state in states:
        binding.bind_ortvalue_input(state.past, state.values[turn % 2])
        binding.bind_ortvalue_output(state.present, state.values[(turn + 1) % 2])
