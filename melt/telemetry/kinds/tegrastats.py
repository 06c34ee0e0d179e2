"""NVIDIA's tegrastats, for what a Jetson's sysfs does not tell: the rails' power, the GPU's load and clock.

Its first figure of each pair or triple is the one of now; the others are an average and a maximum since it began.
Forms: tests/data/jetson-tegrastats, from JetPack 3 to 7.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import partial

from melt.spec.profile import Sensors
from melt.telemetry.kinds.base import LINUX, Findings, Precedence, SensorKind
from melt.telemetry.kinds.board_rails import board_total, miss_total, rail_site, with_holders
from melt.telemetry.source import Inventory, Probe, Source

NAME = "tegrastats"
# One line for the inventory; it goes on until its reader has gone.
COMMAND = """if command -v tegrastats >/dev/null; then
timeout -k 1 5 tegrastats --interval 100 2>/dev/null | head -c 4096 | head -n 1; fi"""
_SHORTEST_MS = 100
_LONGEST = 4096
_FIGURE = r"(-?[0-9]{1,7})(?:mW)?"
_RAIL = re.compile(rf"(?:^|\s)([A-Za-z][A-Za-z0-9_]{{1,40}}) {_FIGURE}/{_FIGURE}(?:/{_FIGURE})?(?=\s|$)")
_GPU = re.compile(r"\bGR3D_FREQ (?:([0-9]{1,3})%)?(?:@\[?([0-9]{1,5})[0-9,]*\]?)?(?=\s|$)")


def rails(line: str) -> dict[str, float]:
    """Milliwatts now by rail; the second rail of one label is ``LABEL#2``."""
    milliwatts: dict[str, float] = {}
    times: Counter[str] = Counter()
    for match in _RAIL.finditer(line[:_LONGEST]):
        label = match[1]
        times[label] += 1
        milliwatts[label if times[label] == 1 else f"{label}#{times[label]}"] = float(match[2])
    return milliwatts


def rail_mw(line: str, key: str) -> float | None:
    """One rail's milliwatts."""
    return rails(line).get(key)


def gpu_percent(line: str, _key: str) -> float | None:
    """How busy the GPU is; Thor's tegrastats does not tell."""
    match = _GPU.search(line)
    return float(match[1]) if match and match[1] else None


def gpu_mhz(line: str, _key: str) -> float | None:
    """The clock of the GPU's first cluster; told to root alone from JetPack 5 on."""
    match = _GPU.search(line)
    return float(match[2]) if match and match[2] else None


def total(sources: Sequence[Source]) -> list[str]:
    """The rails that together are the whole board."""
    return board_total([s for s in sources if s.quantity == "power_w"])


def find(inventory: Inventory, sensors: Sensors, earlier: Sequence[Source]) -> Findings:
    """What of it the kernel's files do not tell already."""
    findings, line = Findings(), inventory.text(NAME) or ""
    interval_ms = max(sensors.period_ms, _SHORTEST_MS)  # it reads some twenty files a line
    source = partial(Source, probe=NAME, sensor=NAME, native_period_s=interval_ms * 1e-3)
    if not any(_is_rail_monitor(s) for s in earlier):
        for key in rails(line):
            label = key.partition("#")[0]
            findings.sources.append(
                source(
                    name=f"{NAME}:{key}",
                    parser="tegrastats_rail_mw",
                    key=key,
                    quantity="power_w",
                    scale=1e-3,
                    site=rail_site(label),
                    rail=label,
                    sign="load_positive",
                )
            )
        findings.sources = with_holders(findings.sources)
        if not total(findings.sources):
            miss_total(findings, findings.sources)
    of_gpu = partial(source, site="gpu")
    known = {s.quantity for s in earlier if s.site == "gpu"}
    if "utilisation" not in known and gpu_percent(line, "") is not None:
        load = of_gpu(name=f"{NAME}:gpu:load", parser="tegrastats_gpu_percent", quantity="utilisation", scale=1e-2)
        findings.sources.append(load)
    if "frequency_hz" not in known and gpu_mhz(line, "") is not None:
        clock = of_gpu(name=f"{NAME}:gpu:frequency", parser="tegrastats_gpu_mhz", quantity="frequency_hz", scale=1e6)
        findings.sources.append(clock)
    if findings.sources:
        stream = (NAME, "--interval", str(interval_ms))
        findings.probes.append(Probe(name=NAME, stream=stream, period_ms=interval_ms))
    return findings


def _is_rail_monitor(source: Source) -> bool:
    """Whether it is one of TI's INA chips, which measure a board's rails; another chip's power is no rail."""
    return source.quantity == "power_w" and source.sensor.lower().startswith("ina")


KIND = SensorKind(
    find,
    Precedence.BOARD_PROGRAM,
    platforms=(LINUX,),
    commands={NAME: COMMAND},
    parsers={
        "tegrastats_rail_mw": rail_mw,
        "tegrastats_gpu_percent": gpu_percent,
        "tegrastats_gpu_mhz": gpu_mhz,
    },
    total=total,
)
