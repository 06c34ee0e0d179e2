"""What iOS writes down when it ends a process for want of memory: JetsamEvent reports.

A report is a line of JSON on itself and a JSON body
(https://developer.apple.com/documentation/xcode/identifying-high-memory-use-with-jetsam-event-reports).
"""

import json
from collections.abc import Iterable


def find_jetsam(reports: Iterable[bytes], pid: int) -> str:
    """What the newest report on this process says; empty where none names it. Never raises, whatever they hold."""
    notes = [note for report in reports if (note := _note(report, pid))]
    return notes[-1] if notes else ""


def _note(report: bytes, pid: int) -> str:
    try:
        body = json.loads(report.partition(b"\n")[2])
        page_bytes = int(body.get("memoryStatus", {}).get("pageSize", 16384))
        for process in body["processes"]:
            if process.get("pid") == pid and process.get("reason"):
                held = int(process.get("rpages", 0)) * page_bytes
                return f"jetsam: {str(process['reason'])[:80]}, at {held / 2**20:.0f} MiB"
    except (ArithmeticError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ""
    return ""
