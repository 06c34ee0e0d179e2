"""ONNX Runtime: a decoder graph whose caches and states stay in buffers that are bound once."""

import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import onnxruntime as ort
from channel import JobError
from clock import now_ns
from job import SCHEMA, Job
from memory import anonymous_bytes, mapped_bytes
from onnx_buffers import Logits, Masks, State, bind_states, short_type, states_of, type_of
from onnx_compiled import Compiled, compiled, compiles
from onnx_decoder import read_decoder
from onnx_ops import read_profile, rows_of, runs_in
from onnx_placement import Placed, effective_accelerator, fallback, placement
from onnx_plugins import emulated, versions
from onnx_session import MEMORY, choose_provider, open_session, provider_kinds, said
from workload import prompt_tokens

_PROFILED_TOKENS = 8


class Library:
    """ONNX Runtime as a whole."""

    def __init__(self) -> None:
        self.compiled: dict[str, Compiled] = {}  # by the graph's file

    def compile(self, job: Job) -> Iterator[dict[str, Any]]:
        """Has the graphs compiled where the accelerator wants that, or finds them so; what an event says of each."""
        provider = choose_provider(job)
        if not compiles(provider):
            return
        decoder = read_decoder(job.model)
        for graph in decoder.graphs:
            self.compiled[graph], told = compiled(graph, decoder, job, provider)
            yield told

    def hello(self, job: Job) -> dict[str, Any]:
        """What the ``hello`` event says of this engine."""
        info = ort.get_build_info()
        commit = re.search(r"git-commit-id=(\w+)", info)
        return {
            "engine": "onnxruntime",
            "engine_version": ort.__version__,
            "engine_build": {
                "commit": commit[1] if commit else "",
                "package": ort.package_name,
                **(versions() if job.accelerator == "npu" else {}),
            },
            "system_info": info,
            "accelerators": provider_kinds(),
        }


class OnnxRuntime:
    """A session, or one for the prompt and one for tokens, with its buffers. See ``workload.Engine``."""

    def __init__(self, library: Library, job: Job) -> None:
        _check(job)
        self.job = job
        self.decoder = read_decoder(job.model)
        self.n_vocab = self.decoder.n_vocab
        if self.n_vocab < 1:
            raise JobError("model_load", "the model has no vocabulary")
        self.n_ctx = job.workload.prompt_tokens + job.workload.gen_tokens
        self.provider = choose_provider(job)
        self._compiled = library.compiled
        before = anonymous_bytes()
        sessions = self._open()
        self.mapped_bytes, self.tables_bytes = self._weights_in_memory(_rise(before))
        of_each = [c.placed for c in self._compiled.values()] or [
            placement(s) for s in {id(s): s for s in sessions}.values()
        ]
        self._placed: Placed = {
            name: sum((p.get(name, Counter()) for p in of_each), Counter()) for p in of_each for name in p
        }
        self.use(*sessions)

    def _open(self, profile_prefix: str = "") -> tuple[Any, Any]:
        """The session that makes tokens, and the one that reads the prompt: the same for most models."""
        opened = []
        for i, graph in enumerate(self.decoder.graphs):
            path = self._compiled[graph].path if graph in self._compiled else graph
            opened.append(open_session(path, self.job, self.provider, profile_prefix and f"{profile_prefix}{i}"))
        return opened[0], opened[-1]

    def _weights_in_memory(self, rise: int | None) -> tuple[int, int | None]:
        """Bytes of the weights that are still read from their file, and what loading took beyond the others.

        ONNX Runtime packs most matrices anew and lets go of the file's, so that a matrix is in memory once.
        """
        whole = self.decoder.weights_bytes()
        mapped = min(whole, mapped_bytes(os.path.realpath(self.decoder.folder)) or 0)
        return mapped, None if rise is None else max(0, rise - (whole - mapped))

    def use(self, session: Any, prompt_session: Any) -> None:
        """Makes the buffers for the sessions, and the calls of every token that is to come."""
        decoder, w = self.decoder, self.job.workload
        self.session, self.prompt_session = session, prompt_session
        self._memory = MEMORY.get(self.provider, "cpu")
        self.states: list[State] = states_of(session, decoder, self.n_ctx, self._memory)
        if any(s.is_cache for s in self.states) and 0 < decoder.context_length < self.n_ctx:
            raise JobError("context", f"{self.n_ctx} tokens, and the graph has {decoder.context_length} positions")
        inputs = {i.name: i for i in session.get_inputs()}
        fixed = next(i.shape[1] for i in prompt_session.get_inputs() if i.name == decoder.tokens)
        self._is_fixed = isinstance(fixed, int)  # a shorter call is filled up in front, by tokens that do not count
        self._chunk = fixed if self._is_fixed else min(self.job.ubatch, self.job.batch, w.prompt_tokens)
        self._mask = Masks((session, prompt_session), decoder.mask, self.n_ctx)
        positions = np.concatenate([np.zeros(self._chunk), np.arange(self.n_ctx)])
        self._all_positions = _row(positions, inputs, decoder.positions)
        self._token = np.zeros((1, 1), type_of(inputs[decoder.tokens], "int"))
        self._logits = Logits(session, decoder, self._chunk)
        self._masks: dict[int, Any] = {}  # by where a call ends; made before time is taken
        self._run, self._run_chunk = session.run_with_iobinding, prompt_session.run_with_iobinding
        self._chunks: list[Any] = []
        self._prompt: Any = None
        self._steps = [self._binding(self._token, 1, 1, turn, whole=False) for turn in (0, 1)]
        self._turn = self._end = 0

    def _binding(self, tokens: Any, count: int, end: int, turn: int, *, whole: bool) -> Any:
        """A call with ``count`` tokens, the last of them at position ``end`` - 1."""
        session = self.prompt_session if whole else self.session
        binding = session.io_binding()
        bind_states(binding, self.states, turn)
        binding.bind_ortvalue_input(self.decoder.tokens, ort.OrtValue.ortvalue_from_numpy(tokens))
        if self._mask:
            binding.bind_ortvalue_input(self.decoder.mask, self._mask.until(end, session))
        if self._all_positions is not None:
            row = self._positions_of(end, count)
            binding.bind_ortvalue_input(self.decoder.positions, ort.OrtValue.ortvalue_from_numpy(row))
        binding.bind_ortvalue_output(self.decoder.logits, self._logits.value(count if whole else 1))
        return binding

    def _positions_of(self, end: int, count: int) -> Any:
        return self._all_positions[:, self._chunk + end - count : self._chunk + end]

    def reset(self) -> None:
        """Forgets every token."""
        for state in self.states:
            state.clear()
        self._turn = self._end = 0

    def prepare(self, tokens: list[int]) -> None:
        """Cuts the prompt into chunks over one array of ids, each with its call."""
        self.prepare_at(np.array([tokens], self._token.dtype), 0)

    def prepare_at(self, prompt: Any, start: int) -> None:
        """As ``prepare``, with so many tokens before it."""
        total = prompt.shape[1]
        filled = -total % self._chunk if self._is_fixed else 0
        # Kept: what is bound is its memory.
        self._prompt = np.concatenate([np.zeros((1, filled), prompt.dtype), prompt], axis=1) if filled else prompt
        chunks: list[Any] = []
        for turn, at in enumerate(range(0, total + filled, self._chunk)):
            part = self._prompt[:, at : at + self._chunk]
            end = start + at + part.shape[1] - filled
            chunks.append(self._binding(part, part.shape[1], end, turn, whole=True))
        self._logits.rows = total - (len(chunks) - 1) * self._chunk
        self._chunks, self._turn, self._end = chunks, len(chunks), start + total
        if self._mask:
            to_come = range(self._end + 1, min(self.n_ctx, self._end + self.job.workload.gen_tokens) + 1)
            self._masks = {end: self._mask.until(end, self.session) for end in to_come}

    def prefill(self) -> None:
        """Processes the prepared prompt; returns when the device is done."""
        try:
            for chunk in self._chunks:
                self._run_chunk(chunk)
        except Exception as e:
            raise JobError("decode", said(e)) from e

    def decode(self, token: int) -> None:
        """Processes one token."""
        self._token[0, 0] = token
        self._end += 1
        step = self._steps[self._turn & 1]
        if self._memory != "cpu":  # what was bound is a copy on the device
            step.bind_cpu_input(self.decoder.tokens, self._token)
        if self._mask:
            step.bind_ortvalue_input(self.decoder.mask, self._masks[self._end])
        if self._all_positions is not None:
            step.bind_cpu_input(self.decoder.positions, self._positions_of(self._end, 1))
        self._turn += 1
        self._logits.rows = 1
        try:
            self._run(step)
        except Exception as e:
            raise JobError("decode", said(e)) from e

    def greedy(self) -> int:
        """The most likely next token; -1 where the logits hold a NaN.

        ``argmax`` gives the first NaN where there is one, so one comparison checks the whole row.
        """
        row = self._logits.last()
        token = int(row.argmax())
        value = row[token]
        return token if value == value else -1

    def describe(self) -> dict[str, Any]:
        """What the ``model`` event says: shape, buffers, and where the nodes really are."""
        decoder, on_host = self.decoder, self._memory == "cpu"
        device = "CPU" if on_host else self.provider
        caches = sum(s.size_bytes for s in self.states if s.is_cache)
        recurrent = sum(s.size_bytes for s in self.states if not s.is_cache)
        weights = sum(c.size_bytes for c in self._compiled.values()) or decoder.weights_bytes()
        mapped = self.mapped_bytes if on_host and not self._compiled else 0
        found = [
            ("CPU_Mapped", "weights", mapped),
            (self.provider, "weights", weights - mapped),
            (device, "kv", caches),
            (device, "state", recurrent),
            # Not of an emulated accelerator: it has no buffers of its own, and a call may take a minute.
            (device, "compute", self._compute_bytes() if on_host and self.provider == "CPU" else None),
            ("CPU", "output", self._logits.size_bytes),
        ]
        return {
            "architecture": decoder.architecture,
            "file_bytes": decoder.weights_bytes(),
            "n_layers": decoder.n_layers,
            "d_model": decoder.d_model,
            "n_heads": decoder.n_heads,
            "n_kv_heads": decoder.n_kv_heads if caches else 0,
            "context_trained": decoder.context_length,
            "n_ctx": self.n_ctx,
            "n_vocab": self.n_vocab,
            "threads": self.job.threads,
            "effective_accelerator": effective_accelerator(self._placed, self.job, self.provider),
            "effective_device": ",".join(sorted(self._placed)) or self.provider,
            "buffers": [{"device": where, "kind": kind, "bytes": size} for where, kind, size in found if size],
            "tables_bytes": self.tables_bytes,
            "ubatch": self._chunk if self._is_fixed else None,
            "cache_type": next((short_type(s.type) for s in self.states), None),
            "emulated": emulated(self.provider) or None,
        }

    def warnings(self) -> list[tuple[str, str]]:
        """What the reader of the numbers should know."""
        told = fallback(self._placed, self.provider)
        return [("accelerator", told)] if told else []

    def profile(self) -> Iterator[dict[str, Any]]:
        """The operator pass: the prompt and a few tokens again, by a session of its own that ONNX Runtime profiles.

        The timed session and its buffers are gone by then, so that no memory is there twice.
        """
        w = self.job.workload
        decoded = min(w.gen_tokens, _PROFILED_TOKENS)
        del self.session, self.prompt_session, self._run, self._run_chunk, self._chunks, self._steps, self.states
        with tempfile.TemporaryDirectory(prefix="melt-ops.") as folder:
            self.use(*self._open(f"{folder}/ops"))
            self.prepare([0] * w.prompt_tokens)
            self.prefill()  # so that the arena has grown and the threads are awake
            self.reset()
            self.prepare(prompt_tokens(w.prompt_tokens, self.n_vocab, w.seed))
            stamps = [now_ns()]
            self.prefill()
            stamps.append(now_ns())
            for _ in range(decoded):
                self.decode(max(0, self.greedy()))
            stamps.append(now_ns())
            runs = runs_in(read_profile(self.session.end_profiling()))
            read = runs[:-decoded]
            if self.prompt_session is not self.session:
                read = runs_in(read_profile(self.prompt_session.end_profiling()))
        read = read[-len(self._chunks) :]
        passes = (("prefill", read, w.prompt_tokens), ("decode", runs[-decoded:], decoded))
        for (phase, made, tokens), (start, end) in zip(passes, pairwise(stamps), strict=True):
            told = {"phase": phase, "context": w.prompt_tokens, "tokens": tokens}
            yield {**told, "wall_ns": end - start, "rows": rows_of(made)}

    def _compute_bytes(self) -> int | None:
        """Memory that calls take beside what is bound: those of each length that is to come are made, at the end.

        ONNX Runtime watches the first call of a length, and from the second on keeps a block laid out for it.
        """
        before = anonymous_bytes()
        prompt = self.job.workload.prompt_tokens
        whole, rest = min(self._chunk, prompt), 0 if self._is_fixed else prompt % self._chunk
        for count in (*[whole] * 2, *[rest] * 2 * bool(rest)):
            self.prepare_at(np.zeros((1, count), self._token.dtype), prompt - count)
            self.prefill()
        for _ in range(min(2, self.job.workload.gen_tokens)):
            self.decode(0)
        return _rise(before)


def _check(job: Job) -> None:
    for name, field in SCHEMA["properties"].items():
        if field.get("ofSomeEngines") and getattr(job, name) != field["default"]:
            why = "a graph says itself how it attends and what its cache is, and ONNX Runtime how it is loaded"
            raise JobError("bad_job", f"{name}: must be {field['default']}: {why}")


def _row(values: Any, inputs: dict[str, Any], name: str) -> Any:
    """A row of integers for an input; None where the graph has no such input."""
    return np.ascontiguousarray(values[None].astype(type_of(inputs[name], "int"))) if name in inputs else None


def _rise(before: int | None) -> int | None:
    after = anonymous_bytes()
    return None if before is None or after is None else max(0, after - before)
