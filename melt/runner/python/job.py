"""The job file as the runner reads it: checked field by field, refused with a clear error."""

import json
from dataclasses import dataclass, fields
from typing import Any

from channel import JobError

PROTOCOL = 1
ACCELERATORS = ("cpu", "gpu", "npu")
FLASH_ATTN = ("auto", "on", "off")
WORKLOADS = ("fixed", "sustained")
MAX_JOB_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Workload:
    """Seeded random prompt tokens, then greedy decoding with the end of sequence ignored."""

    prompt_tokens: int
    gen_tokens: int
    kind: str = "fixed"
    seed: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Job:
    """What to run. Unknown keys of the same protocol are refused: they would silently change nothing."""

    protocol: int
    job_id: str
    engine: str
    model: str
    threads: int
    workload: Workload
    accelerator: str = "cpu"
    device: str | None = None
    cpu_mask: int | None = None
    batch: int = 2048
    ubatch: int = 512
    flash_attn: str = "auto"
    type_k: str = "f16"
    type_v: str = "f16"
    mmap: bool = True
    extra_buffers: bool = True
    warmups: int = 1
    iterations: int = 3
    profile_ops: bool = False
    cpu_fallback: bool = False  # what an NPU does not take, the CPU may compute


def read_job(path: str) -> Job:
    """The job in a file.

    Raises:
        JobError: unreadable, of another protocol, or with a field that cannot be.
    """
    try:
        with open(path, "rb") as f:  # noqa: PTH123 - the device program keeps its imports few
            raw = f.read(MAX_JOB_BYTES + 1)
        if len(raw) > MAX_JOB_BYTES:
            raise JobError("bad_job", f"job file is larger than {MAX_JOB_BYTES} bytes")
        data = json.loads(raw)
    except OSError as e:
        raise JobError("bad_job", f"job file cannot be read: {e.strerror}") from e
    except (ValueError, RecursionError) as e:
        raise JobError("bad_job", f"job file is not JSON: {e}") from e
    return parse_job(data)


def parse_job(data: Any) -> Job:
    """A job from decoded JSON.

    Raises:
        JobError: naming the field that is wrong.
    """
    if not isinstance(data, dict):
        raise JobError("bad_job", "a job is a JSON object")
    if data.get("protocol") != PROTOCOL:
        raise JobError("protocol", f"job has protocol {data.get('protocol')!r}; this runner speaks {PROTOCOL}")
    workload = data.get("workload")
    if not isinstance(workload, dict):
        raise JobError("bad_job", "workload: missing or not an object")
    _only_known(workload, Workload, "workload.")
    _only_known(data, Job, "")
    try:
        job = Job(**{**data, "workload": Workload(**workload)})
    except TypeError as e:
        raise JobError("bad_job", str(e).replace("__init__() ", "")) from e
    _check(job)
    return job


def _only_known(data: dict[str, Any], kind: type, prefix: str) -> None:
    known = {f.name for f in fields(kind)}
    for key in data:
        if key not in known:
            raise JobError("bad_job", f"{prefix}{key}: unknown key")


def _check(job: Job) -> None:
    w = job.workload
    for name in ("job_id", "engine", "model", "type_k", "type_v"):
        _require(isinstance(getattr(job, name), str), name, "a string")
    for name in ("mmap", "extra_buffers", "profile_ops", "cpu_fallback"):
        _require(isinstance(getattr(job, name), bool), name, "true or false")
    _require(job.device is None or isinstance(job.device, str), "device", "a string or null")
    _require(job.cpu_mask is None or _is_int(job.cpu_mask, 1, 2**1024), "cpu_mask", "a positive integer or null")
    _require(job.accelerator in ACCELERATORS, "accelerator", f"one of {', '.join(ACCELERATORS)}")
    _require(job.flash_attn in FLASH_ATTN, "flash_attn", f"one of {', '.join(FLASH_ATTN)}")
    for name, low, high in (
        ("threads", 1, 1024),
        ("batch", 1, 2**20),
        ("ubatch", 1, 2**20),
        ("warmups", 0, 1000),
        ("iterations", 1, 100_000),
    ):
        _require(_is_int(getattr(job, name), low, high), name, f"an integer from {low} to {high}")
    _require(w.kind in WORKLOADS, "workload.kind", f"one of {', '.join(WORKLOADS)}")
    _require(_is_int(w.prompt_tokens, 1, 10**8), "workload.prompt_tokens", "a positive integer")
    _require(_is_int(w.gen_tokens, 1, 10**7), "workload.gen_tokens", "a positive integer")
    _require(_is_int(w.seed, 0, 2**64 - 1), "workload.seed", "an integer from 0 to 2^64 - 1")
    if w.kind == "sustained":
        seconds = w.seconds
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        _require(is_number and 0 < float(seconds or 0) <= 7 * 86400, "workload.seconds", "seconds up to a week")


def _is_int(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _require(holds: bool, field: str, wanted: str) -> None:
    if not holds:
        raise JobError("bad_job", f"{field}: must be {wanted}")
