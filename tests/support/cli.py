"""melt as a person or a job calls it: a process with words, output and an exit code."""

import io
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from melt.cli import main

# Not the installed script: a worktree's own melt is meant, installed or not.
MELT = (sys.executable, "-m", "melt")


def without_second_tries(words: Sequence[str | Path]) -> list[str]:
    """A command's words; `melt run` measures every session once, though the tests' machine is busy."""
    said = [str(word) for word in words]
    measures = said[:1] == ["run"] and len(said) > 1 and not any("extra_time" in word for word in said)
    return [*said, "--set", "extra_time={share: 0}"] if measures else said


def melt_cli(*words: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Runs it to its end, with what it said."""
    command = [*MELT, *without_second_tries(words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd, check=False)


def melt_here(*words: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """The same within this process, without the second in which Python starts: for what is said and no more."""
    out, err = io.StringIO(), io.StringIO()
    command = ["melt", *without_second_tries(words)]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", command)
        if cwd:
            patch.chdir(cwd)
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return subprocess.CompletedProcess(command, int(ended.value.code or 0), out.getvalue(), err.getvalue())
