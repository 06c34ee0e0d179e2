"""One distribution of a Python package, fetched with pip and not installed."""

import subprocess
import sys
from pathlib import Path

_SHOWN_ERRORS = 3


class PipDownloadError(Exception):
    """pip's own words for why nothing came; a caller makes of it an error with advice."""


def download(requirement: str, folder: Path, *, source: bool, sha256: str | None = None) -> Path:
    """The package's file in ``folder``.

    Args:
        requirement: ``NAME==VERSION``.
        folder: takes the file; made by the caller.
        source: the source distribution, else the wheel.
        sha256: what the file must hash to, checked by pip; None where the caller checks what is inside.

    Raises:
        PipDownloadError: pip failed, is missing, or brought something else.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(requirement + (f" --hash=sha256:{sha256}\n" if sha256 else "\n"))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    # Of this package alone: what pip needs to read a source's metadata would else be compiled too, CMake for one.
    name = requirement.partition("==")[0]
    command += ["--no-binary" if source else "--only-binary", name, "--dest", str(folder), "-r", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = list(folder.glob("*.tar.gz" if source else "*.whl"))
    if done.returncode == 0 and len(found) == 1:
        return found[0]
    if "No module named pip" in done.stderr:
        raise PipDownloadError("this Python has no pip (`python -m ensurepip` installs it)")
    lines = done.stderr.strip().splitlines()
    errors = [line for line in lines if line.startswith("ERROR")][:_SHOWN_ERRORS] or lines[-1:] or ["nothing came"]
    raise PipDownloadError(" ".join(line.removeprefix("ERROR: ").strip() for line in errors))
