"""What a written store is to hold: models whose cost is known, the device, and what happened to the runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from melt.spec.facts import DeviceFacts
from melt.store.manifest import Flag, RunFailure
from melt.telemetry.source import Site

MIB = 2**20


@dataclass(frozen=True)
class FakeModel:
    """A model whose cost is known: prefill_s = a S + b S^2, tpot_s = c + d S."""

    name: str
    family: Literal["transformer", "ssm", "hybrid", "unknown"]
    arch: str
    n_params: int
    prefill_s_per_token: float
    prefill_s_per_token2: float
    tpot_s: float
    tpot_s_per_token: float
    kv_bytes_per_token: int
    state_bytes: int
    quant: str = "Q4_0"
    synthetic: bool = True

    @property
    def ref(self) -> str:
        return f"synth:{self.name.lower()}@{self.quant}"

    def ttft_s(self, prompt_tokens: int) -> float:
        return self.prefill_s_per_token * prompt_tokens + self.prefill_s_per_token2 * prompt_tokens**2

    def decode_s(self, prompt_tokens: int) -> float:
        return self.tpot_s + self.tpot_s_per_token * prompt_tokens


SMOLLM = FakeModel(
    "SmolLM2-135M", "transformer", "llama", 134_515_008, 3.0e-3, 1.6e-6, 0.0120, 1.4e-5, 23_040, 0, synthetic=False
)
MAMBA = FakeModel("Mamba-130M", "ssm", "mamba", 129_135_360, 3.9e-3, 0.0, 0.0128, 0.0, 0, 19 * MIB)
MAMBA2 = FakeModel("Mamba2-130M", "ssm", "mamba2", 128_989_632, 3.4e-3, 0.0, 0.0116, 0.0, 0, 38 * MIB)
FALCON_H1 = FakeModel(
    "Falcon-H1-0.5B", "hybrid", "falcon-h1", 521_411_104, 9e-3, 0.7e-6, 0.035, 0.4e-5, 9_216, 30 * MIB
)
CONTEXTS = (128, 512, 1024, 2048, 4096)
FACTS = DeviceFacts(
    platform="linux",
    machine="x86_64",
    soc="Test CPU @ 2.10GHz",
    os_build="Debian GNU/Linux 12 (bookworm)",
    kernel="6.1.0",
    logical_cores=4,
    physical_cores=2,
    ram_bytes=16 * 2**30,
    available_bytes=12 * 2**30,
    virtual_machine="kvm",
    serial_hash="5f2c9a11",
)


@dataclass(frozen=True)
class Recipe:
    """How a run is to look."""

    device: str = "local"
    iterations: int = 3
    warmups: int = 1
    gen_tokens: int = 32
    noise: float = 0.02
    session_noise: float = 0.03
    token_noise: float = 0.05
    status: Literal["ok", "failed", "skipped"] = "ok"
    error: RunFailure | None = None
    flags: tuple[Flag, ...] = ()
    passport: Mapping[str, str] = field(default_factory=dict)
    telemetry: bool = True
    power_site: Site = "cpu_package"
    power_w: tuple[float, float, float] | None = None  # idle, prefill, decode: replayed by a RAPL-like counter
    telemetry_period_ms: int = 100
    idle_s: float = 2.0
    ops: bool = False
    facts: DeviceFacts = FACTS
    cell: Mapping[str, Any] = field(default_factory=dict)  # more fields of the cell
    tables_bytes: int | None = None
    repacked_bytes: int = 0
    others_cores: float = 0.0  # of other processes, once the model is loaded
    adaptive: bool = False
    engine_family: str | None = None  # what the engine calls the model, where it says


PLAIN = Recipe()


def with_(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with some fields changed."""
    return replace(recipe, **changes)
