"""Job and spec parsing of the native runner under sanitizers, on cut and changed inputs."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from melt.runner import native_sources
from tests.runner.running import job, job_schema_header

HARNESS = Path(__file__).with_name("fuzz") / "fuzz_parse.cpp"
PARSERS = ("files.cpp", "job.cpp", "json_reader.cpp", "json_writer.cpp", "sample_spec.cpp", "schema.cpp")


@pytest.mark.slow
def test_no_bytes_upset_the_parsers(tmp_path: Path) -> None:
    sources = [p for p in native_sources() if p.name in PARSERS]
    binary = tmp_path / "fuzz"
    flags = ["-std=c++17", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DFUZZ_MAIN"]
    include = (f"-I{sources[0].parent}", f"-I{tmp_path}")
    job_schema_header(tmp_path)
    subprocess.run(["c++", *flags, *include, *map(str, [HARNESS, *sources]), "-o", str(binary)], check=True)
    seeds: list[Any] = [
        job("m.gguf"),
        {**job("m\u20ac.gguf"), "device": None, "cpu_mask": 2**64 - 1, "workload": {"kind": "sustained"}},
        {"out": "o", "period_ms": 20, "root": "", "probes": [{"name": "p", "read": "/x", "lines": ["a", "b\t"]}]},
        {"out": "o", "probes": [{"name": 'p"\\', "exec": ["cat", "\ud83d\ude00"], "period_ms": 100}]},
        [[[{"a": [1, -2.5e10, True, None, "\u0000\n"]}]]],
    ]
    files = []
    for i, seed in enumerate(seeds):
        files.append(tmp_path / f"{i}.json")
        files[-1].write_text(json.dumps(seed))
    done = subprocess.run([binary, *files], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout.split()[0]) > 10_000
