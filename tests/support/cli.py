"""melt as a person or a job calls it: a process with words, output and an exit code."""

import subprocess
import sys
from pathlib import Path

# Not the installed script: a worktree's own melt is meant, installed or not.
MELT = (sys.executable, "-m", "melt")


def melt_cli(*words: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Runs it to its end, with what it said."""
    command = [*MELT, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd, check=False)
