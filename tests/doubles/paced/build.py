"""The paced runner: melt's own native runner with an engine that waits, compiled by zig and kept by content."""

import hashlib
import os
import shutil
import subprocess
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from melt.runner import native_sources
from melt.toolchain.targets import TARGETS, Target
from melt.util.files import write_whole
from tests.conftest import KEPT_BUILDS

HERE = Path(__file__).parent
SCHEMA = Path(__file__).parents[3] / "runners/ios/job-schema.sh"  # makes the header that CMake else makes
INSTEAD = ("engine.cpp", "engine.hpp", "log.cpp", "ops.cpp", "peak.cpp")  # of the real runner's sources
# With the processor and the flags of melt's own build zig has its libraries compiled already.
TARGETS_OF = {"x86_64": "linux-x86_64-musl", "aarch64": "linux-aarch64-musl-i8mm"}
FLAGS = ("-std=c++17", "-O3", "-s")


def paced_runner(machine: str = "") -> Path:
    """The program for Linux on a machine, this one by default: static, so that any box takes it."""
    target = TARGETS[TARGETS_OF[machine or os.uname().machine]]
    native = [p for p in native_sources() if p.suffix != ".txt" and p.name not in INSTEAD]
    sources = [*native, *sorted((HERE / "engine").iterdir())]
    known = hashlib.sha256(f"{target.triple} {target.cpu} {FLAGS} zig {version('ziglang')}".encode())
    for source in sources:
        known.update(source.name.encode() + b"\0" + source.read_bytes())
    program = KEPT_BUILDS / "paced" / f"melt-runner-paced-{target.triple}-{known.hexdigest()[:16]}"
    program.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(program.parent / "lock"):
        if not program.exists():
            _compile(sources, target, program)
    return program


def _compile(sources: list[Path], target: Target, program: Path) -> None:
    spec = find_spec("ziglang")
    assert spec is not None
    assert spec.origin is not None
    folder = program.parent / target.triple  # the same again, so that zig knows what it has compiled
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for source in sources:  # into one folder: an #include finds what lies beside its file first
        shutil.copy(source, folder)
    header = subprocess.run([SCHEMA], capture_output=True, check=True).stdout
    (folder / "job_schema.hpp").write_bytes(header)
    names = {"MELT_TARGET": target.triple, "MELT_RUNNER_VERSION": "0.1.0", "MELT_COMPILER": "zig"}
    defined = [f'-D{name}="{value}"' for name, value in names.items()]
    zig = str(KEPT_BUILDS / "toolchain" / "zig")  # where melt's own builds for the tests have it
    caches = {"ZIG_GLOBAL_CACHE_DIR": zig, "ZIG_LOCAL_CACHE_DIR": zig}
    words = [
        "c++",
        "-target",
        target.triple,
        f"-mcpu={target.cpu}",
        *FLAGS,
        *defined,
        "-o",
        "melt-runner",
        *sorted(p.name for p in folder.glob("*.cpp")),
    ]
    done = subprocess.run(
        [Path(spec.origin).with_name("zig"), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | caches,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    write_whole(program, (folder / "melt-runner").read_bytes(), 0o755)


if __name__ == "__main__":
    print(paced_runner())
