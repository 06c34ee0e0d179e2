"""llama.cpp's log lines about its buffers, as data.

The public C API tells no buffer sizes, the log does, to 0.01 MiB: for example
``llama_kv_cache:        CPU KV buffer size =    16.88 MiB``.
"""

import re
from collections.abc import Iterable
from typing import Any

_BUFFER = re.compile(
    r"^\s*\S+:\s+(?P<device>\S+)\s+(?P<what>model|KV|RS|compute|output)\s+buffer size =\s+(?P<mib>[\d.]+) MiB"
)
_KINDS = {"model": "weights", "KV": "kv", "RS": "state", "compute": "compute", "output": "output"}
# A mapped or host-side buffer belongs to the CPU, whatever its allocator is called.
_CPU_ALLOCATORS = ("CPU", "CPU_Mapped", "CPU_REPACK", "CPU_AARCH64", "AMX")


def buffers(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Buffers by device and kind, in the order logged; a compute buffer logged again replaces the earlier."""
    found: dict[tuple[str, str, int], int] = {}
    count = 0
    for line in lines:
        match = _BUFFER.match(line)
        if match is None:
            continue
        kind = _KINDS[match["what"]]
        count += 1
        # Reserving a graph again logs its buffer again, at the same place; other kinds may really be several.
        key = (match["device"], kind, 0 if kind == "compute" else count)
        found[key] = round(float(match["mib"]) * 1024 * 1024)
    return [{"device": device, "kind": kind, "bytes": size} for (device, kind, _), size in found.items()]


def is_cpu(device: str) -> bool:
    """Whether a buffer's device name means the host processor's memory."""
    return device in _CPU_ALLOCATORS or device.endswith(("_Host", "_Mapped"))


def last_error(lines: Iterable[tuple[int, str]]) -> str:
    """The engine's own last words at error level (4), or at warning level (3) where there are none."""
    for wanted in (4, 3):
        texts = [text.strip() for level, text in lines if level == wanted and text.strip()]
        if texts:
            return "; ".join(texts[-2:])[:500]
    return ""
