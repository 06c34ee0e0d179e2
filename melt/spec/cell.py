"""A cell: one configuration to measure, with an id that stands for its content.

The class is the table of all axes: each field has its type with its range, its default, and a row that says the rest.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Literal, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from melt.spec.axes import Axis
from melt.spec.options import Options, every_combination

# Choices and ranges stand in runner/job.json too, and are not made of each other: here a type checker reads them, there
# a program without melt; a job's may be wider, as those of older hosts are taken. A test holds a cell's within a job's.
KvType = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl"]
Cores = Annotated[
    str,
    BeforeValidator(lambda v: f"{v:#x}" if isinstance(v, int) and not isinstance(v, bool) else v),  # YAML's 0xf0
    Field(pattern=r"^(all|little|mid|big|0x0*[1-9a-f][0-9a-f]{0,15})$"),
]
# What a cell may call its runner beside the names of programs that `melt runner add` took.
OWN_RUNNERS = ("auto", "python", "native")
Seconds = Annotated[float, Field(ge=0, le=7 * 24 * 3600, strict=True)]


class Cell(BaseModel):
    """One configuration to measure. Its id is a hash of its content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Annotated[
        str,
        Axis(
            "device",
            "name of the device profile",
            key="devices",
            option="--device",
            default_list=(),
            page="devices.md",
            words="{}",
            always_said=True,
        ),
    ]
    model: Annotated[
        str,
        Axis(
            "model",
            "reference of the model (a path, hf:, pypi: or synth:); it names the quantisation where the file does not",
            key="models",
            option="--model",
            default_list=(),
            page="models.md",
            words="{}",
            always_said=True,
            separates="model",
        ),
    ]
    backend: Annotated[
        str,
        Axis(
            "backend",
            "the backend, which drives an engine",
            key="backends",
            option="--backend",
            words="{}",
            always_said=True,
        ),
    ] = "llama.cpp"
    accelerator: Annotated[
        Literal["cpu", "gpu", "npu"],
        Axis(
            "accelerator",
            "processor that is asked for",
            key="accelerators",
            option="--accelerator",
            words="{}",
            always_said=True,
            job="accelerator",
        ),
    ] = "cpu"
    runner: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"),
        Axis(
            "runner",
            "program on the device: python, native, one that `melt runner add` took, or auto: Python where the device "
            "has it and the engine, else native",
            key="runners",
            option="--runner",
            page="runner.md",
            as_run="its flavour by its own word",
            older_than_field=("auto", "python"),
        ),
    ] = "auto"
    prompt_tokens: Annotated[
        int,
        Field(ge=1, le=10_000_000, strict=True),
        Axis(
            "context length",
            "context length: tokens of the prompt, all in the cache when decoding starts",
            unit="tokens",
            key="context",
            option="--context",
            default_list=(128, 512, 2048),
            noun="token",
            always_said=True,
            separates="context",
            job="workload.prompt_tokens",
        ),
    ] = 512
    gen_tokens: Annotated[
        int,
        Field(ge=2, le=1_000_000, strict=True),
        Axis(
            "generated tokens",
            "tokens generated after the prompt",
            unit="tokens",
            key="gen",
            option="--gen",
            words="{} tokens generated",
            per="after each prompt",
            job="workload.gen_tokens",
        ),
    ] = 64
    threads: Annotated[
        Annotated[int, Field(ge=1, le=1024, strict=True)] | None,
        Axis(
            "threads",
            "threads of the engine; auto: as many as the device has physical cores, or `cores` names",
            unit="threads",
            option="--threads",
            as_run="as many as it used",
            noun="thread",
        ),
    ] = None
    cores: Annotated[
        Cores,
        Axis(
            "cores",
            "the processors it runs on: all, a cluster (little, mid, big), or a mask (0xf0)",
            option="--cores",
            older_than_field=("all",),
        ),
    ] = "all"
    power_mode: Annotated[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,39}$")] | None,
        Axis(
            "power mode",
            "the device's power mode by its own name, as MAXN or 15W: set, verified, put back",
            option="--power-mode",
            as_run="the one it was in, where it has any",
            unset="as it is",
            condition="power_mode",
            older_than_field=(None,),
        ),
    ] = None
    batch: Annotated[
        int,
        Field(ge=1, le=65536, strict=True),
        Axis("logical batch", "tokens submitted at once: the logical batch of the prefill", unit="tokens", job="batch"),
    ] = 2048
    ubatch: Annotated[
        int,
        Field(ge=1, le=65536, strict=True),
        Axis(
            "physical batch",
            "tokens computed at once: the physical batch of the prefill",
            unit="tokens",
            as_run="the model's own where it has fixed it",
            job="ubatch",
        ),
    ] = 512
    flash_attn: Annotated[
        Literal["auto", "on", "off"], Axis("flash attention", "fused attention", job="flash_attn", of_some_engines=True)
    ] = "auto"
    type_k: Annotated[
        KvType,
        Axis(
            "key cache",
            "element type of the key cache",
            as_run="in a model that has fixed it, of all that is carried on",
            job="type_k",
            of_some_engines=True,
        ),
    ] = "f16"
    type_v: Annotated[
        KvType,
        Axis(
            "value cache",
            "element type of the value cache",
            as_run="in a model that has fixed it, of all that is carried on",
            job="type_v",
            of_some_engines=True,
        ),
    ] = "f16"
    workload: Annotated[
        Literal["fixed", "sustained"],
        Axis(
            "workload",
            "what a session does (sustained: passes back to back for `sustained_s`)",
            job="workload.kind",
        ),
    ] = "fixed"
    sustained_s: Annotated[
        Seconds,
        Axis(
            "duration",
            "how long a sustained workload goes on",
            unit="s",
            words="for {} s",
            only_with=("workload", "sustained"),
            job="workload.seconds",
        ),
    ] = 0.0
    warmups: Annotated[
        int,
        Field(ge=0, le=100, strict=True),
        Axis(
            "warm-ups",
            "untimed passes of a session before the timed ones",
            option="--warmups",
            noun="warm-up",
            per="a session",
            separates="passes",
            job="warmups",
        ),
    ] = 1
    iterations: Annotated[
        int,
        Field(ge=1, le=10_000, strict=True),
        Axis(
            "iterations",
            "timed passes of a session",
            option="--iterations",
            noun="iteration",
            per="a session",
            separates="passes",
            job="iterations",
        ),
    ] = 3
    seed: Annotated[
        int,
        Field(ge=0, le=2**32 - 1, strict=True),
        Axis(
            "seed",
            "seed of the prompt's tokens; the first of a plan also of the order of its sessions",
            option="--seed",
            separates="passes",
            job="workload.seed",
        ),
    ] = 0
    cpu_fallback: Annotated[
        bool,
        Field(strict=True),
        Axis(
            "CPU fallback",
            "whether the CPU may compute what an NPU does not take",
            page="npu.md",
            job="cpu_fallback",
            older_than_field=(False,),
        ),
    ] = False
    load_mode: Annotated[
        Literal["mmap", "read"],
        Axis(
            "load mode",
            "how weights come into memory (mapped from their file, or read from it whole)",
            job="load_mode",
            of_some_engines=True,
            older_than_field=("mmap",),
        ),
    ] = "mmap"
    options: Annotated[
        Options,
        Axis(
            "options",
            "options of the backend's own, each with a value or a list of values: `{block_kib: [64, 256]}`",
            words="{}",
            older_than_field=((),),
            expand=every_combination,
        ),
    ] = ()

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that stand for this content and nothing else."""
        return self._hash(AXES)[:12]

    @property
    def settings_id(self) -> str:
        """Eight digits, equal for cells that differ in the model, the context length or the passes at most."""
        return self._hash({name: axis for name, axis in AXES.items() if axis.separates == "setting"})[:8]

    def _hash(self, axes: Mapping[str, Axis]) -> str:
        said = {name for name, axis in axes.items() if getattr(self, name) not in axis.older_than_field}
        text = json.dumps(self.model_dump(include=said), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def means(self, axis: Axis) -> bool:
        """Whether the axis means anything in this cell."""
        return axis.only_with is None or getattr(self, axis.only_with[0]) == axis.only_with[1]

    @property
    def phases(self) -> dict[str, tuple[int, int]]:
        """By phase, the tokens that it reads or writes, and how many are in the context before them."""
        return {"prefill": (self.prompt_tokens, 0), "decode": (self.gen_tokens, self.prompt_tokens)}

    @property
    def conditions(self) -> dict[str, str]:
        """The conditions that it asks of the device, by name."""
        asked = {axis.condition: getattr(self, name) for name, axis in AXES.items() if axis.condition}
        return {name: value for name, value in asked.items() if value is not None}

    def label(self) -> str:
        """The cell in a few words for a progress line: what it is, and each setting that is not the default."""
        values = {axis: getattr(self, name) for name, axis in AXES.items()}
        said = (
            axis.phrase(axis.text(value))
            for axis, value in values.items()
            if axis.always_said or (axis.separates == "setting" and value not in (axis.default, *axis.older_than_field))
        )
        return " · ".join(said)


def _axes() -> dict[str, Axis]:
    hints = get_type_hints(Cell, include_extras=True)
    schemas = Cell.model_json_schema()["properties"]
    found = {}
    for name, field in Cell.model_fields.items():
        [row] = (note for note in hints[name].__metadata__ if isinstance(note, Axis))
        default = None if field.is_required() else field.default
        lists = (default,) if row.default_list is None else row.default_list
        found[name] = replace(
            row, name=name, key=row.key or name, default=default, default_list=lists, schema=schemas[name]
        )
    return found


# Every axis by the name of its field, in their order.
AXES: Mapping[str, Axis] = MappingProxyType(_axes())
