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
    "tensor(uint16)": np.uint16,
    "tensor(uint8)": np.uint8,
}


@dataclass
class State:
    """A cache or a recurrent state. What the graph leaves in place is one buffer; else there are two that take turns.

    In rounded numbers without a sign, the middle stands for zero.
    """

    part: str
    past: str
    present: str
    values: tuple[Any, Any]
    shape: tuple[int, ...]
    type: Any
    in_place: bool

    @property
    def is_cache(self) -> bool:
        """Whether it grows with the context."""
        return self.part in CACHES

    @property
    def size_bytes(self) -> int:
        """Of all its buffers."""
        return math.prod(self.shape) * int(np.dtype(self.type).itemsize) * (1 if self.in_place else 2)

    def clear(self) -> None:
        """Forgets everything. What a cache in place had before is never read."""
        if not self.in_place:
            self.values[0].update_inplace(self._zeros())

    def _zeros(self) -> Any:
        whole = np.issubdtype(self.type, np.unsignedinteger)
        return np.full(self.shape, np.iinfo(self.type).max // 2 + 1 if whole else 0, self.type)

    def touch(self) -> None:
        """Has the system give the memory now, and not in a timed pass."""
        for value in self.values:
            value.update_inplace(self._zeros())


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
        if part in CACHES and not decoder.shares_buffer and not _is_fixed(given):
            raise JobError(
                "model_load", "the graph copies its cache for every token (past_present_share_buffer is not true)"
            )
        found.append(_state(part, given, present, n_ctx, memory))
    if decoder.tokens not in {i.name for i in session.get_inputs()}:
        raise JobError("model_load", f"the graph has no input {decoder.tokens!r}")
    if decoder.logits not in outputs:
        raise JobError("model_load", f"the graph has no output {decoder.logits!r}")
    return found


def _is_fixed(given: Any) -> bool:
    """Whether it has one length, so that what is new pushes out what is old."""
    return all(isinstance(d, int) for d in given.shape)


def type_of(value: Any, kinds: str | tuple[str, ...]) -> Any:
    """NumPy's type of an input or output, whose name has to begin as ``kinds`` say ("float", "int", "uint").

    Raises:
        JobError: it is another.
    """
    found = TYPES.get(value.type)
    if found is None or not np.dtype(found).name.startswith(kinds):
        wanted = kinds if isinstance(kinds, str) else " or ".join(kinds)
        raise JobError("model_load", f"{value.name!r} is a {value.type}, and not of {wanted}s")
    return found


def _state(part: str, given: Any, present: str, n_ctx: int, memory: str) -> State:
    type_ = type_of(given, ("float", "uint"))
    dims = [1, *given.shape[1:]]
    in_place = part in CACHES and not _is_fixed(given)
    if in_place and len(dims) == 4:
        dims[2] = n_ctx
    if not all(isinstance(d, int) and d > 0 for d in dims):
        raise JobError("model_load", f"input {given.name!r} has the shape {given.shape}: not fixed but for the batch")
    shape = tuple(dims)
    first = ort.OrtValue.ortvalue_from_shape_and_type(shape, type_, memory, 0)
    second = first if in_place else ort.OrtValue.ortvalue_from_shape_and_type(shape, type_, memory, 0)
    state = State(part, given.name, present, (first, second), shape, type_, in_place)
    state.touch()
    return state


class Masks:
    """Which tokens count, for every call: rows of one memory that are made before time is taken.

    A graph whose mask grows is given ones alone; one with a mask of fixed length counts the last of its tokens.
    False where the graphs have no mask.
    """

    def __init__(self, sessions: Iterable[Any], name: str, n_ctx: int) -> None:
        given = {id(s): i for s in sessions for i in s.get_inputs() if name and i.name == name}
        self._lengths = {key: i.shape[1] for key, i in given.items() if isinstance(i.shape[1], int)}
        self._zeros = max(self._lengths.values(), default=0)
        row = np.concatenate([np.zeros(self._zeros), np.ones(max(self._zeros, n_ctx))])[None]
        self._row = next((np.ascontiguousarray(row.astype(type_of(i, "int"))) for i in given.values()), None)

    def __bool__(self) -> bool:
        return self._row is not None

    def until(self, end: int, session: Any) -> Any:
        """The mask of a call of the session whose last token is the ``end``-th, over the same memory."""
        length = self._lengths.get(id(session), end)
        last = self._zeros + min(end, length)
        assert self._row is not None
        return ort.OrtValue.ortvalue_from_numpy(self._row[:, last - length : last])


def short_type(type_: Any) -> str:
    """A type as llama.cpp would write it: f32, f16, u16."""
    found = np.dtype(type_)
    return f"{found.kind}{8 * found.itemsize}"


def bind_states(binding: Any, states: Iterable[State], turn: int) -> None:
    """Past in, present out; ``turn`` says which of two buffers is the past."""
    for state in states:
        binding.bind_ortvalue_input(state.past, state.values[turn % 2])
        binding.bind_ortvalue_output(state.present, state.values[(turn + 1) % 2])


class Logits:
    """The place of the logits; a graph that gives them for every position needs a row for each."""

    def __init__(self, session: Any, decoder: Decoder, chunk: int) -> None:
        output = next(o for o in session.get_outputs() if o.name == decoder.logits)
        if len(output.shape) != 3:
            raise JobError(
                "model_load", f"output {output.name!r} has the shape {output.shape}, and not three dimensions"
            )
        self._of_last = output.shape[1] == 1
        shape = (1, 1 if self._of_last else chunk, decoder.n_vocab)
        self._array = np.zeros(shape, type_of(output, "float"))
        self._array.fill(0)
        self.size_bytes = self._array.nbytes
        self._rows = [self._array[0, i] for i in range(self._array.shape[1])]
        self.rows = 1

    def value(self, count: int) -> Any:
        """Where a call with so many tokens writes."""
        return ort.OrtValue.ortvalue_from_numpy(self._array[:, : 1 if self._of_last else count])

    def last(self) -> Any:
        """The row of the last token."""
        return self._rows[0 if self._of_last else self.rows - 1]
