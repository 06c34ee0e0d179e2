"""The programs that run on devices; they import nothing of melt."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_JOB = _HERE / "job.json"  # what a job is, for the host and both runners
_EPOCH = (2020, 1, 1, 0, 0, 0)


def job_schema() -> dict[str, Any]:
    """The JSON schema of a job: fields, types, ranges and defaults."""
    schema: dict[str, Any] = json.loads(_JOB.read_bytes())
    return schema


def python_runner() -> bytes:
    """The Python runner and sampler as a zipapp: the same bytes for the same sources.

    It starts with no shebang: the host knows which Python of the device to start it with.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for source in (*sorted((_HERE / "python").glob("*.py")), _JOB):
            entry = zipfile.ZipInfo(source.name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, source.read_bytes())
    return out.getvalue()


def engines_question() -> str:
    """The text of a program that tells a Python's version and engines as one line of JSON; for ``python3 -c``."""
    return (_HERE / "python" / "engines.py").read_text(encoding="utf-8")


def native_sources() -> list[Path]:
    """The native runner's files, CMakeLists.txt first."""
    files = (*(_HERE / "native").iterdir(), _JOB)
    return sorted(files, key=lambda p: (p.suffix != ".txt", p.name))
