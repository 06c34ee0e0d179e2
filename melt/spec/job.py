"""The job that the host gives a runner: protocol 1's other half."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from melt.spec.events import PROTOCOL


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Workload(_Frozen):
    """What to compute. Prompt tokens are seeded random ids; the end of sequence is ignored."""

    kind: Literal["fixed", "sustained"] = "fixed"
    prompt_tokens: int
    gen_tokens: int
    seed: int = 0
    seconds: float | None = None  # sustained: repeat back to back for this long


class Job(_Frozen):
    """One fresh-process execution of a cell, as the runner is told of it."""

    protocol: int = PROTOCOL
    job_id: str
    engine: str
    model: str  # path on the device
    accelerator: Literal["cpu", "gpu", "npu"] = "cpu"
    device: str | None = None  # the engine's own name of a device
    threads: int
    cpu_mask: int | None = None
    batch: int = 2048
    ubatch: int = 512
    flash_attn: Literal["auto", "on", "off"] = "auto"
    type_k: str = "f16"
    type_v: str = "f16"
    mmap: bool = True
    extra_buffers: bool = True
    workload: Workload
    warmups: int = 1
    iterations: int = 3
    profile_ops: bool = False
    cpu_fallback: bool = False

    @model_serializer(mode="wrap")
    def _as_older_runners_know_it(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A runner refuses what it does not know, so a field that came later is told only where it is set."""
        told: dict[str, Any] = whole(self)
        return told if self.cpu_fallback else {k: v for k, v in told.items() if k != "cpu_fallback"}
