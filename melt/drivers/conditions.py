"""Conditions of a Linux machine: saved before they are set, put back afterwards, also after a crash.

What is saved names the process that saved it, so that a second melt, which only looks at the device, does not
undo what the first is measuring under.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from melt.telemetry.source import Absent
from melt.util.files import write_whole
from melt.util.process import is_alive

# Condition -> the files that hold it, below the root.
FILES = {"governor": "sys/devices/system/cpu/cpufreq/policy*/scaling_governor"}


class SavedConditions:
    """What was found is on disk before anything is changed, so that the next connection can restore it."""

    def __init__(self, saved: Path, root: Path) -> None:
        self._saved = saved
        self._root = root

    def set(self, wanted: Mapping[str, str]) -> tuple[Absent, ...]:
        """Sets each condition; what is unknown, missing or refused comes back with its reason."""
        refused, found, plan = [], {}, []
        for name, value in wanted.items():
            files = sorted(self._root.glob(FILES[name])) if name in FILES else []
            if not files:
                reason = "this machine has no such setting" if name in FILES else "not known on Linux"
                refused.append(Absent(name=name, reason=reason, hint=f"Known: {', '.join(FILES)}."))
            for file in files:
                with contextlib.suppress(OSError):
                    now = file.read_text().strip()
                    if now != value:
                        found[str(file)] = now
                        plan.append((name, file, value))
        if plan:
            first = self._found() or {}  # what this process found the first time is what it puts back
            write_whole(self._saved, json.dumps({"pid": os.getpid(), "found": {**found, **first}}).encode())
        for name, file, value in plan:
            try:
                file.write_text(value)
            except OSError as e:
                refused.append(Absent(name=name, reason=f"{file}: {e.strerror}", hint="Setting it needs root."))
        return tuple(refused)

    def restore(self) -> None:
        """Puts back what this process found, or one that is gone, and forgets it."""
        found = self._found()
        if found is None:
            return
        allowed = {str(p) for pattern in FILES.values() for p in self._root.glob(pattern)}
        for file, value in found.items():
            if file in allowed:
                with contextlib.suppress(OSError):
                    Path(file).write_text(str(value))
        self._saved.unlink(missing_ok=True)

    def _found(self) -> dict[str, str] | None:
        """What is saved, unless by another process that is alive; None where nothing is."""
        try:
            saved = json.loads(self._saved.read_text())
            pid, found = int(saved["pid"]), dict(saved["found"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if pid == os.getpid() or not is_alive(pid) else None
