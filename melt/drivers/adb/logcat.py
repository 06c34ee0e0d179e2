"""What Android's log says of a process that died."""

import contextlib
import re
from collections.abc import Sequence

from melt.drivers.remote.base import Remote, quoted
from melt.drivers.remote.process import run_command
from melt.errors import MeltError

_WORDS = ("lowmemorykiller", "lmkd", "killinfo", "am_kill", "am_proc_died", "out of memory", "fatal signal")
_SHOWN = 3


def death_notes(remote: Remote, pid: int | None) -> str:
    """Its last lines about the process; empty where there are none or the log cannot be read."""
    script = f"logcat -d -b main,system,events,crash -v brief -t 2000 2>/dev/null | grep -F {quoted(str(pid))}"
    with contextlib.suppress(MeltError):
        return "\n".join(death_lines(run_command(remote, script).text.splitlines(), pid)[-_SHOWN:])
    return ""


def death_lines(lines: Sequence[str], pid: int | None) -> list[str]:
    """Those lines that tell of this process's end."""
    number = re.compile(rf"(?<![0-9]){pid}(?![0-9])")
    return [line for line in lines if number.search(line) and any(word in line.lower() for word in _WORDS)]
