"""The raw streams of one run: events and telemetry, on one clock, every number from a seed."""

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from melt.spec.cell import Cell
from tests.support.store_discovery import PAGE_BYTES
from tests.support.store_recipe import MIB, FakeModel, Recipe

START_NS = 5_000_000_000_000  # an uptime of 83 minutes


def hash_of(text: str) -> int:
    """A stable hash: Python's own differs from process to process."""
    return zlib.crc32(text.encode())


class Streams:
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
        repacked, where = self.recipe.repacked_bytes, self.cell.accelerator.upper()
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
            "effective_accelerator": where.lower(),
            "effective_device": where,
            "buffers": [{"device": where, "kind": k, "bytes": b} for k, b in self.buffers().items() if b] + copy,
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
