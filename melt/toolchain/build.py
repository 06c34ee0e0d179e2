"""One build: configured and compiled by CMake in a folder of its own, its result kept by content."""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock

from melt.drivers.base import Progress
from melt.errors import RunnerError
from melt.ondevice import native_sources
from melt.paths import cache_folder
from melt.toolchain.compilers import definitions, identity, program
from melt.toolchain.source import cannot_write
from melt.toolchain.targets import Target

MAX_BYTES = 20 * 10**6
# What CMake would take from the environment although no build's name tells of it.
_NOT_OURS = ("CC", "CFLAGS", "CPPFLAGS", "CXXFLAGS", "LDFLAGS", "CMAKE_TOOLCHAIN_FILE", "CMAKE_PREFIX_PATH")
_STEP = re.compile(r"^\[(\d+)/(\d+)\]")
_ERROR = re.compile(r"(fatal error|error)\s*:|^CMake Error|undefined (reference|symbol)|^ninja: error", re.IGNORECASE)


def built(target: Target) -> Path:
    """Where a target's runner is, or would be, with the sources, flags and compiler of now."""
    digest = hashlib.sha256(repr((target, identity(target))).encode())
    for source in native_sources():
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return cache_folder() / "runners" / f"melt-runner-{target.name}-{digest.hexdigest()[:16]}"


def build(target: Target, progress: Progress | None = None) -> Path:
    """The target's runner, made where it is not there yet; minutes where llama.cpp is compiled with it.

    Raises:
        RunnerError: a tool is missing, the source cannot be fetched, or the compiler fails; the first error is in the
            message and the whole log named in the hint.
    """
    binary = built(target)
    if binary.exists():
        return binary
    flags = hashlib.sha256(repr((target, identity(target))).encode()).hexdigest()[:12]
    folder = cache_folder() / "toolchain" / f"{target.name}-{flags}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not binary.exists():
                _compile(target, folder, progress or (lambda done, total: None))
                if built(target) != binary:
                    raise RunnerError(f"{target.name}: its sources changed while it was built", "Build it again.")
                _keep(folder / "build" / "melt-runner", binary, target)
    except OSError as e:
        raise cannot_write(folder, e) from e
    return binary


def log_path(target: Target) -> Path:
    """The log of the target's last build."""
    return cache_folder() / "toolchain" / f"{target.name}.log"


def _compile(target: Target, folder: Path, progress: Progress) -> None:
    build_folder, sources = folder / "build", native_sources()[0].parent
    # Fresh: what an earlier configuration found may be gone, and CMake refuses sources that have moved.
    configure = [program("cmake"), "--fresh", "-S", str(sources), "-B", str(build_folder), "-G", "Ninja"]
    configure += [f"-DCMAKE_MAKE_PROGRAM={program('ninja')}", f"-DMELT_TARGET={target.name}"]
    configure += ["-DCMAKE_BUILD_TYPE=Release", *target.cmake, *definitions(target, folder / "bin")]
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(folder / "zig"), "ZIG_LOCAL_CACHE_DIR": str(folder / "zig")}
    kept = {k: v for k, v in os.environ.items() if k not in _NOT_OURS}
    env = kept | caches | {"NINJA_STATUS": "[%f/%t] "}
    with log_path(target).open("w", encoding="utf-8") as out:
        _step(configure, env, out.write, progress, target)
        _step([program("ninja"), "-C", str(build_folder)], env, out.write, progress, target)


def _step(
    argv: list[str], env: dict[str, str], write: Callable[[str], object], progress: Progress, target: Target
) -> None:
    write(" ".join(argv) + "\n")
    lines: list[str] = []
    with subprocess.Popen(
        argv,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            for line in process.stdout or ():
                write(line)
                lines.append(line)
                if step := _STEP.match(line):
                    progress(int(step[1]), int(step[2]))
        except BaseException:
            # With every compiler it started, so that nothing goes on writing once the lock is let go.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        raise RunnerError(
            f"{target.name}: the build failed: {first_error(lines)}", f"The whole log: {log_path(target)}"
        )


def first_error(lines: Iterable[str]) -> str:
    """The compiler's first error, with what CMake says in the lines below its own."""
    found: list[str] = []
    for line in lines:
        goes_on = found and found[0].startswith("CMake Error") and len(found) < 4
        if line.strip() if goes_on else not found and _ERROR.search(line):
            found.append(line.strip())
    return " ".join(found) or "no error is in its log"


def _keep(made: Path, binary: Path, target: Target) -> None:
    """Takes the result to its place, whole."""
    size_bytes = made.stat().st_size
    if size_bytes > MAX_BYTES:
        raise RunnerError(
            f"{target.name}: the runner has {size_bytes / 1e6:.0f} MB, more than {MAX_BYTES / 1e6:.0f}",
            f"It should have been stripped. The log: {log_path(target)}",
        )
    binary.parent.mkdir(parents=True, exist_ok=True)
    temporary = binary.with_name(f".{binary.name}-{os.getpid()}")
    try:
        shutil.copy2(made, temporary)
        temporary.chmod(0o755)
        temporary.replace(binary)
    finally:
        temporary.unlink(missing_ok=True)
