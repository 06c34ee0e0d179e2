"""Why runs fail: every kind that a run keeps, what it means, and what to do. docs/errors.md is made of it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """What a kind of failure means, and what to do about it."""

    meaning: str
    to_do: str


# The kinds that decide what is tried next.
TRANSIENT, GONE, DEVICE, RUNNER = "transient", "gone", "device", "runner"
BEYOND_LIMIT, LIMIT, NO_ACCELERATOR = "beyond_limit", "limit", "accelerator"
FAILURES: Mapping[str, Failure] = {
    TRANSIENT: Failure(
        "the device went away, or somebody changed it, while the run went on",
        "Check the cable, the power and the network; the same command measures it again.",
    ),
    GONE: Failure(
        "the device went away, was waited for, and did not come back; its other sessions are not tried",
        "Bring it back; the same command measures what is missing.",
    ),
    DEVICE: Failure("the device refused something", "The message says what; `melt doctor DEVICE` looks at all of it."),
    BEYOND_LIMIT: Failure(
        "no session was started: the device was beyond a limit of its profile, also after the plan's time of cooling",
        "Let it cool, or charge it; the same command measures what is missing. `limits` in the device's profile says "
        "where.",
    ),
    LIMIT: Failure(
        "the device came beyond a limit of its profile: its battery's heat, what is left in it, its thermal status",
        "Let it cool, or charge it; `limits` in the device's profile says where a run stops itself.",
    ),
    "timeout": Failure(
        "the model did not load, or an iteration did not end, in the plan's time",
        "Give `timeouts: {load_s: ..., iteration_s: ...}` more, or measure a shorter context.",
    ),
    "hung": Failure("the runner closed its output and did not end", "Look at stderr.txt in the run's folder."),
    "killed": Failure(
        "something ended the runner by SIGKILL, and the device's log does not say what",
        "See whether the system ends programs in the background, or somebody did.",
    ),
    "out_of_memory": Failure(
        "memory ran out: the system ended the runner, or it could not allocate",
        "Measure a smaller model or context, or a smaller type of the cache (`type_k`, `type_v`).",
    ),
    "predicted_out_of_memory": Failure(
        "not run, as by prediction it does not fit", "`--no-memory-check` runs it all the same."
    ),
    RUNNER: Failure(
        "the runner ended before its work was done", "The message has its last words, stderr.txt in its folder all."
    ),
    "signal": Failure(
        "the runner crashed: the kind is the signal, as SIGSEGV",
        "Try the other runner (`--runner`); where it crashes too, the engine is at fault.",
    ),
    "protocol": Failure(
        "the runner and this melt speak other protocols", "Build the runner again: `melt runner build`."
    ),
    "bad_job": Failure("the runner does not take this job", "The message names the field."),
    "bad_spec": Failure("the sampler does not take what it is to read", "Please report it: melt wrote that."),
    NO_ACCELERATOR: Failure(
        "what the cell asks for is not there, or this build cannot use it",
        "`melt doctor DEVICE` says what its engines can use; the cell is asked for once only.",
    ),
    "cpu_mask": Failure("the system did not let the runner choose its processors", "Leave `cores` out."),
    "model_load": Failure(
        "the engine cannot load the model", "`melt models show MODEL` reads its header; try another file or engine."
    ),
    "compile": Failure(
        "the accelerator's compiler could not make the model's graphs", "The message is its own; another model may go."
    ),
    "placement": Failure(
        "the accelerator does not take the whole graph",
        "`cpu_fallback: true` lets the CPU compute what it does not take.",
    ),
    "profile_ops": Failure("the pass that times every operator failed", "Measure without `--profile-ops`."),
    "context": Failure(
        "the engine made no context of this size", "Measure a shorter one, or a smaller type of the cache."
    ),
    "decode": Failure("the engine failed while it computed", "Look at stderr.txt; try another runner or accelerator."),
    "nan_logits": Failure(
        "the engine computed no numbers", "Its kernels are broken for this model and type: try another type or build."
    ),
    "engine": Failure("the engine is not there, or failed", "The message says how; `melt doctor DEVICE` looks for it."),
    "engine_abort": Failure("the engine gave up with a message of its own", "The message is its last."),
    "incomplete_events": Failure(
        "what the runner said has no ok end, or lacks iterations", "The same command measures it again."
    ),
    "invalid_events": Failure(
        "what the runner said cannot be: stamps that do not rise, other tokens than asked, more time than there was",
        "The same command measures it again; twice is a fault of the runner.",
    ),
    "another_model": Failure(
        "the runner had another model than the run's", "Nobody else may write to this device's work folder."
    ),
}


def what_to_do(kind: str) -> str:
    """The advice for a kind; signals have one."""
    known = FAILURES["signal"] if kind.startswith("SIG") else FAILURES.get(kind)
    return known.to_do if known else ""


def page_table() -> str:
    """The kinds as the table of ``docs/errors.md``."""
    rows = [f"| `{kind}` | {one.meaning} | {one.to_do} |" for kind, one in FAILURES.items()]
    return "\n".join(["| kind | what happened | what to do |", "| --- | --- | --- |", *rows])
