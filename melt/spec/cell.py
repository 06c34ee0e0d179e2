"""A cell: one configuration to measure, with an id that stands for its content."""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

AcceleratorName = Literal["cpu", "gpu", "npu"]
# The on-device program's flavour; auto is Python where the device has it and the engine, else native.
# auto, python, native, or what `melt runner add` has named.
RunnerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]
KvType = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl"]
Cores = Annotated[
    str,
    BeforeValidator(lambda v: f"{v:#x}" if isinstance(v, int) and not isinstance(v, bool) else v),  # YAML's 0xf0
    Field(pattern=r"^(all|little|mid|big|0x0*[1-9a-f][0-9a-f]{0,15})$"),
]
PowerMode = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,39}$")]
Tokens = Annotated[int, Field(ge=1, le=10_000_000, strict=True)]
Seconds = Annotated[float, Field(ge=0, le=7 * 24 * 3600)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cell(_Frozen):
    """One configuration to measure. Its id is a hash of its content."""

    device: str
    model: str  # the reference; it names the quantisation where the file does not
    backend: str = "llama.cpp"
    accelerator: AcceleratorName = "cpu"
    runner: RunnerName = "auto"
    prompt_tokens: Tokens = 512
    gen_tokens: Annotated[int, Field(ge=2, le=1_000_000, strict=True)] = 64
    threads: Annotated[int, Field(ge=1, le=1024, strict=True)] | None = None  # None: the device's physical cores
    # Which processors: all, a cluster (little, mid, big), or a mask (0xf0).
    cores: Cores = "all"
    # By the device's own name for it; None leaves the device as it is.
    power_mode: PowerMode | None = None
    batch: Annotated[int, Field(ge=1, le=65536, strict=True)] = 2048
    ubatch: Annotated[int, Field(ge=1, le=65536, strict=True)] = 512
    flash_attn: Literal["auto", "on", "off"] = "auto"
    type_k: KvType = "f16"
    type_v: KvType = "f16"
    workload: Literal["fixed", "sustained"] = "fixed"
    sustained_s: Seconds = 0.0
    warmups: Annotated[int, Field(ge=0, le=100, strict=True)] = 1
    iterations: Annotated[int, Field(ge=1, le=10_000, strict=True)] = 3  # timed passes inside a session
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, strict=True)] = 0
    # What an NPU does not take, the CPU may compute.
    cpu_fallback: Annotated[bool, Field(strict=True)] = False

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that stand for this content and nothing else."""
        content = self.model_dump()
        if self.runner in ("auto", "python"):
            del content["runner"]  # the field came when every runner was Python: those results keep their ids
        if self.cores == "all":
            del content["cores"]  # likewise
        if self.power_mode is None:
            del content["power_mode"]
        if not self.cpu_fallback:
            del content["cpu_fallback"]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def label(self) -> str:
        """The cell in a few words for a progress line."""
        runner = "" if self.runner in ("auto", "python") else f"/{self.runner}"
        engine = f"{self.backend}/{self.accelerator}{runner}"
        mode = f" · {self.power_mode}" if self.power_mode else ""
        return f"{self.device}{mode} · {self.model} · {engine} · {self.prompt_tokens} tokens"
