"""The typed events of protocol 1, and the parser of what a device says.

The device's output is untrusted: ``parse_event`` never raises. A line that is no known event comes
back as ``UnknownLine`` with the reason, is kept raw in the store and reported.
All ``t_*_ns`` are on the device's own monotonic clock that counts through sleep.
"""

from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from melt.util.text import plural

MAX_LINE_CHARS = 16 * 1024 * 1024

BufferKind = Literal["weights", "kv", "state", "compute", "output"]
BUFFER_KINDS: tuple[str, ...] = get_args(BufferKind)
# Numbers fit the store's int64 columns; sizes and times are never negative.
Count = Annotated[int, Field(ge=0, le=2**62, strict=True)]
Text = Annotated[str, Field(max_length=100_000)]
# In the order in which a pass has them.
Phase = Literal["prefill", "decode"]
PHASES: tuple[str, ...] = get_args(Phase)


class _Event(BaseModel):
    """Unknown keys are ignored: a newer runner may say more within one protocol."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Accelerator(_Event):
    """A compute device that the engine sees."""

    name: Text
    kind: Literal["cpu", "gpu", "npu"]
    description: Text = ""
    memory_bytes: Count | None = None


class ClockPair(_Event):
    """One reading of the device's monotonic clock beside its wall clock."""

    name: Text
    t_ns: Count
    realtime_ns: Count


class Hello(_Event):
    """The runner's first words: who it is and what it can see."""

    event: Literal["hello"] = "hello"
    protocol: Annotated[int, Field(strict=True)]
    runner: Text
    runner_version: Text
    engine: Text
    engine_version: Text
    engine_build: dict[str, str] = {}
    system_info: Text = ""
    accelerators: tuple[Accelerator, ...] = ()
    clock: ClockPair | None = None  # melt's own runners tell it, and their pid; a stock program may not
    pid: Count | None = None


class ProcessMemory(_Event):
    """The runner process's memory as it read it itself, outside the timed region."""

    rss_bytes: Count | None = None
    peak_rss_bytes: Count | None = None
    pss_bytes: Count | None = None


class KernelCounts(_Event):
    """What the kernel counted in a phase or a pass, of the runner's process unless said otherwise; None: not told."""

    run_delay_ns: Count | None = None  # waited for a processor, summed over the threads that lived throughout
    threads: Count | None = None  # how many those are: an engine may have others for as long as one graph
    involuntary_switches: Count | None = None  # of all threads; so are the next two
    major_faults: Count | None = None
    cpu_ns: Count | None = None
    suspended_ns: Count | None = None
    # Of a whole pass alone.
    swapped_bytes: Count | None = None  # swapped out at its end
    busy_ns: Count | None = None  # of all processors and processes, in ticks of the kernel
    stolen_ns: Count | None = None  # by the host of a virtual machine, from all processors


class PassCounts(_Event):
    """What the kernel counted in each phase of a pass and in the whole of it."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    prefill: KernelCounts = KernelCounts()
    decode: KernelCounts = KernelCounts()
    whole: KernelCounts = Field(default=KernelCounts(), alias="pass")


class Buffer(_Event):
    """One of the engine's own allocations."""

    device: Text
    kind: BufferKind
    bytes: Count


class ModelLoaded(_Event):
    """The model is loaded and its memory allocated."""

    event: Literal["model"] = "model"
    t_start_ns: Count
    t_end_ns: Count
    architecture: Text = ""
    # The engine's own word on what it carries from token to token; None where it does not say.
    recurrent: Annotated[bool, Field(strict=True)] | None = None  # recurrent layers alone
    hybrid: Annotated[bool, Field(strict=True)] | None = None  # recurrent layers beside attention
    n_params: Count | None = None
    file_bytes: Count | None = None
    n_layers: Count | None = None
    d_model: Count | None = None
    n_heads: Count | None = None
    n_kv_heads: Count | None = None
    context_trained: Count | None = None
    n_ctx: Count | None = None
    n_vocab: Count | None = None
    threads: Count | None = None
    effective_accelerator: Literal["cpu", "gpu", "npu"] | None = None
    effective_device: Text | None = None
    buffers: tuple[Buffer, ...] = ()
    base_rss_bytes: Count | None = None  # the runner's own resident set just before loading
    # What the engine took while loading beyond its buffers: the vocabulary's tables and the like.
    tables_bytes: Count | None = None
    memory: ProcessMemory | None = None  # just after loading
    cache_type: Text | None = None  # of what is carried from token to token, where the model has fixed it
    ubatch: Count | None = None  # tokens computed at once, where the model has fixed them
    emulated: Text | None = None  # what computes in place of the accelerator that was asked for

    @property
    def family(self) -> Literal["transformer", "ssm", "hybrid"] | None:
        """The model's family by the engine's own word; None where the engine does not say."""
        if self.recurrent is None or self.hybrid is None:
            return None
        return "hybrid" if self.hybrid else "ssm" if self.recurrent else "transformer"


class Compiled(_Event):
    """A graph of the model is compiled for its accelerator: just now, or by an earlier run, whose work was kept."""

    event: Literal["compiled"] = "compiled"
    graph: Text
    cached: bool
    t_start_ns: Count | None = None  # before loading, and no part of it; none where it was cached
    t_end_ns: Count | None = None


class Prefill(_Event):
    """The window in which the whole prompt was processed."""

    tokens: Count
    t_start_ns: Count
    t_end_ns: Count


class Iteration(_Event):
    """One timed pass of the workload: a prefill and its generated tokens' stamps."""

    event: Literal["iteration"] = "iteration"
    index: Count
    warmup: bool
    prefill: Prefill
    token_t_ns: tuple[Count, ...]
    memory: ProcessMemory = ProcessMemory()
    tokens: tuple[int, ...] = ()
    kernel: PassCounts | None = None  # a stock program, and an older runner, does not tell

    def problem(self, gen_tokens: int) -> str:
        """Why these stamps cannot be of a pass with ``gen_tokens`` tokens; empty where they can."""
        if not self.warmup and len(self.token_t_ns) != gen_tokens:
            return f"{plural(len(self.token_t_ns), 'token stamp')} for {plural(gen_tokens, 'token')}"
        stamps = (self.prefill.t_start_ns, self.prefill.t_end_ns, *self.token_t_ns)
        if any(b <= a for a, b in pairwise(stamps)):
            return "stamps do not increase"
        return ""


class Repetitions(_Event):
    """Timed repetitions of one phase by a program that tells how long each took, but not when: a stock llama-bench."""

    event: Literal["repetitions"] = "repetitions"
    phase: Phase
    tokens: Annotated[int, Field(ge=1, le=2**31, strict=True)]  # read or written by each
    depth: Count  # tokens in the context before each
    took_ns: tuple[Annotated[int, Field(ge=1, le=2**62, strict=True)], ...]


class OpRow(_Event):
    """Time of one operator on one device, summed over a pass."""

    op: Text
    category: Text
    device: Text
    count: Count
    total_ns: Count


class Ops(_Event):
    """Operator breakdown from a separate pass, never from a timed iteration."""

    event: Literal["ops"] = "ops"
    phase: Phase
    context: Count
    tokens: Count | None = None  # processed in the pass
    wall_ns: Count | None = None  # of the whole pass; what no row has is the engine's own work between nodes
    rows: tuple[OpRow, ...]


class Warned(_Event):
    """Something the reader of the numbers should know."""

    event: Literal["warning"] = "warning"
    kind: Text
    message: Text


class Failed(_Event):
    """The runner's own account of why it cannot go on."""

    event: Literal["error"] = "error"
    kind: Text
    message: Text


class Done(_Event):
    """The last event; a stream without it is a failed run."""

    event: Literal["done"] = "done"
    status: Literal["ok", "error"]


class UnknownLine(_Event):
    """A line that is no event of protocol 1, kept as it came."""

    event: Literal["unknown"] = "unknown"
    raw: str
    reason: str


Event = Hello | Compiled | ModelLoaded | Iteration | Repetitions | Ops | Warned | Failed | Done
_EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def parse_event(line: str) -> Event | UnknownLine:
    """One line of a runner's stdout as an event; never raises, whatever the line holds."""
    if len(line) > MAX_LINE_CHARS:
        return UnknownLine(raw=line[:200], reason=f"longer than {MAX_LINE_CHARS} characters")
    try:
        return _EVENTS.validate_json(line)
    except ValidationError as e:
        return UnknownLine(raw=line, reason=_first_problem(e))
    except (ValueError, RecursionError) as e:
        return UnknownLine(raw=line, reason=str(e))


def _first_problem(error: ValidationError) -> str:
    first: Any = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
