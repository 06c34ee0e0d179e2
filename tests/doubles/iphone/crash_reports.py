"""The reports that iOS writes when it ends a process for want of memory.

The layout is that of JetsamEvent files: a line of JSON on the report, and its body
(https://developer.apple.com/documentation/xcode/identifying-high-memory-use-with-jetsam-event-reports).
"""

import json
import time
from pathlib import Path

from tests.doubles.iphone.model import Model

_PAGE_BYTES = 16384


class CrashReports:
    """The folder that hosts copy them from."""

    def __init__(self, folder: Path, model: Model) -> None:
        self.folder, self._model = folder, model
        folder.mkdir(parents=True, exist_ok=True)

    def jetsam(self, name: str, pid: int, resident_bytes: int, reason: str = "per-process-limit") -> None:
        """A process was ended for want of memory."""
        now = time.strftime("%Y-%m-%d %H:%M:%S.00 +0000", time.gmtime())
        header = {
            "bug_type": "298",
            "timestamp": now,
            "os_version": f"iPhone OS {self._model.version} ({self._model.build})",
        }
        victim = {"name": name, "pid": pid, "rpages": resident_bytes // _PAGE_BYTES, "reason": reason}
        victim |= {"states": ["frontmost"], "fds": 25, "lifetimeMax": resident_bytes // _PAGE_BYTES}
        other = {"name": "SpringBoard", "pid": 61, "rpages": 9000, "states": ["active"], "fds": 50}
        body = {
            "date": now,
            "largestProcess": name,
            "memoryStatus": {"pageSize": _PAGE_BYTES, "memoryPages": {"free": 3000}},
            "processes": [other, victim],
        }
        stamp = time.strftime("%Y-%m-%d-%H%M%S", time.gmtime())
        text = json.dumps(header) + "\n" + json.dumps(body, indent=2)
        (self.folder / f"JetsamEvent-{stamp}-{pid}.ips").write_text(text)
