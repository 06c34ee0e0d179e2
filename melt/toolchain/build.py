"""One build: configured and compiled by CMake in a folder of its own, its result kept by content."""

import contextlib
import hashlib
import os
import signal
import subprocess
from pathlib import Path

from melt.drivers.base import Progress
from melt.errors import RunnerError
from melt.runner import native_sources
from melt.toolchain.build_log import BuildLog, build_log, log_path
from melt.toolchain.compilers import definitions, identity, program
from melt.toolchain.source import cannot_write
from melt.toolchain.targets import Target
from melt.util.files import cache_folder, write_whole
from melt.util.locks import one_at_a_time

_END_S = 10.0
MAX_BYTES = 20 * 10**6
# What CMake would take from the environment although no build's name tells of it.
NOT_OURS = ("CC", "CFLAGS", "CPPFLAGS", "CXXFLAGS", "LDFLAGS", "CMAKE_TOOLCHAIN_FILE", "CMAKE_PREFIX_PATH")


def built(target: Target) -> Path:
    """Where a target's runner is, or would be, with the sources, flags and compiler of now."""
    digest = hashlib.sha256(repr((target, identity(target))).encode() + sources_digest()).hexdigest()
    return cache_folder() / "runners" / f"melt-runner-{target.name}-{digest[:16]}"


def sources_digest() -> bytes:
    """Names and contents of the native runner's own sources, as one hash."""
    digest = hashlib.sha256()
    for source in native_sources():
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.digest()


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
        with one_at_a_time(folder.with_suffix(".lock")):
            if not binary.exists():
                _compile(target, folder, progress or (lambda done, total: None))
                if built(target) != binary:
                    raise RunnerError(f"{target.name}: its sources changed while it was built", "Build it again.")
                _keep(folder / "build" / "melt-runner", binary, target)
    except OSError as e:
        raise cannot_write(folder, e) from e
    return binary


def _zig_caches() -> dict[str, str]:
    """Where zig keeps the libraries that it compiles for a processor, in minutes: one place for all builds."""
    zig = str(cache_folder() / "toolchain" / "zig")
    return {"ZIG_GLOBAL_CACHE_DIR": zig, "ZIG_LOCAL_CACHE_DIR": zig}


def _compile(target: Target, folder: Path, progress: Progress) -> None:
    build_folder, sources = folder / "build", native_sources()[0].parent
    # Fresh: what an earlier configuration found may be gone, and CMake refuses sources that have moved.
    configure = [program("cmake"), "--fresh", "-S", str(sources), "-B", str(build_folder), "-G", "Ninja"]
    configure += [f"-DCMAKE_MAKE_PROGRAM={program('ninja')}", f"-DMELT_TARGET={target.name}"]
    configure += ["-DCMAKE_BUILD_TYPE=Release", *target.cmake, *definitions(target, folder / "bin")]
    kept = {k: v for k, v in os.environ.items() if k not in NOT_OURS}
    env = kept | _zig_caches() | {"NINJA_STATUS": "[%f/%t] "}
    with build_log(target.name, progress) as log:
        _step(configure, env, log)
        _step([program("ninja"), "-C", str(build_folder)], env, log)


def _step(argv: list[str], env: dict[str, str], log: BuildLog) -> None:
    log.begin(" ".join(argv))
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
                log.take(line.rstrip("\n"))
        except BaseException:
            _end(process)
            raise
    if process.returncode != 0:
        raise log.failure(f"exit code {process.returncode}")


def _end(process: "subprocess.Popen[str]") -> None:
    """Ends ninja by a signal it hears, because its compilers are groups of their own that only it can end.

    So nothing goes on writing once the lock is let go.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _keep(made: Path, binary: Path, target: Target) -> None:
    """Takes the result to its place, whole."""
    size_bytes = made.stat().st_size
    if size_bytes > MAX_BYTES:
        raise RunnerError(
            f"{target.name}: the runner has {size_bytes / 1e6:.0f} MB, more than {MAX_BYTES / 1e6:.0f}",
            f"It should have been stripped. The log: {log_path(target.name)}",
        )
    write_whole(binary, made.read_bytes(), 0o755)
