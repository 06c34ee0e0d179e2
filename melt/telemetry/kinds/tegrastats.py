"""NVIDIA's tegrastats, for what a Jetson's sysfs does not tell: the rails' power, the GPU's load and clock.

Its first figure of each pair or triple is the one of now; the others are an average and a maximum since it began.
Forms: tests/data/jetson-tegrastats, from JetPack 3 to 7.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence

from melt.telemetry.kinds.base import Found
from melt.telemetry.kinds.board_rails import INPUT_RAILS, board_total
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
    found: dict[str, float] = {}
    times: Counter[str] = Counter()
    for match in _RAIL.finditer(line[:_LONGEST]):
        label = match[1]
        times[label] += 1
        found[label if times[label] == 1 else f"{label}#{times[label]}"] = float(match[2])
    return found


def rail_mw(line: str, key: str) -> float | None:
    """One rail's milliwatts."""
    return rails(line).get(key)


def gpu_percent(line: str, _key: str) -> float | None:
    """How busy the GPU is; Thor's tegrastats does not tell."""
    found = _GPU.search(line)
    return float(found[1]) if found and found[1] else None


def gpu_mhz(line: str, _key: str) -> float | None:
    """The clock of the GPU's first cluster; told to root alone from JetPack 5 on."""
    found = _GPU.search(line)
    return float(found[2]) if found and found[2] else None


def total(sources: list[Source]) -> list[str]:
    """The rails that together are the whole board."""
    return board_total([s for s in sources if s.probe == NAME and s.quantity == "power_w"])


def find(inventory: Inventory, period_ms: int, told: Sequence[Source]) -> Found:
    """What of it the sources found before do not tell already."""
    found, line = Found(), inventory.text(NAME) or ""
    if not any(
        s.quantity == "power_w" and s.sensor.lower().startswith("ina") for s in told
    ):  # another chip's is no rail
        for key in rails(line):
            label = key.partition("#")[0]
            site = "input" if label in INPUT_RAILS else "soc_rail"
            found.sources.append(
                _source(f"{NAME}:{key}", rail_mw, "power_w", 1e-3, site, period_ms).model_copy(
                    update={"key": key, "rail": label, "sign": "load_positive"}
                )
            )
    of_gpu = {s.quantity for s in told if s.site == "gpu"}
    if "utilisation" not in of_gpu and gpu_percent(line, "") is not None:
        found.sources.append(_source(f"{NAME}:gpu:load", gpu_percent, "utilisation", 1e-2, "gpu", period_ms))
    if "frequency_hz" not in of_gpu and gpu_mhz(line, "") is not None:
        found.sources.append(_source(f"{NAME}:gpu:frequency", gpu_mhz, "frequency_hz", 1e6, "gpu", period_ms))
    if found.sources:
        interval = str(_interval_ms(period_ms))
        found.probes.append(Probe(name=NAME, stream=(NAME, "--interval", interval), period_ms=_interval_ms(period_ms)))
    return found


def _interval_ms(period_ms: int) -> int:
    """It reads some twenty files a line."""
    return max(period_ms, _SHORTEST_MS)


def _source(
    name: str, parser: Callable[[str, str], float | None], quantity: str, scale: float, site: str, period_ms: int
) -> Source:
    return Source.model_validate(
        {
            "name": name,
            "probe": NAME,
            "parser": f"{NAME}_{parser.__name__}",
            "quantity": quantity,
            "scale": scale,
            "sensor": NAME,
            "site": site,
            "native_period_s": _interval_ms(period_ms) * 1e-3,
        }
    )
