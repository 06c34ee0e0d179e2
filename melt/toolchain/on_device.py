"""A build on the device itself, over its shell, for a GPU whose compiler is only there: CUDA on a Jetson.

The sources travel as one archive, skipped where it is already there; the program comes back to the host and is kept
for every device of the same kind and system.
"""

import contextlib
import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from melt.drivers.base import DeviceFile, Process, Progress, ShellDriver
from melt.errors import RunnerError
from melt.runner import native_sources
from melt.spec.facts import DeviceFacts
from melt.toolchain.build import sources_digest
from melt.toolchain.build_log import BuildLog, build_log
from melt.toolchain.device_script import build_script
from melt.toolchain.device_tools import DeviceTools, look
from melt.toolchain.source import PROVENANCE, SHA256, cannot_write, llama_source
from melt.toolchain.targets import NO_AMX, ON_DEVICE
from melt.util.files import cache_folder, write_whole

Gpu = Literal["auto", "none", "cuda", "vulkan"]
WITH_GPU: tuple[Gpu, ...] = ("cuda", "vulkan")
GPUS: tuple[Gpu, ...] = ("auto", "none", *WITH_GPU)
# Compute capabilities of the boards' GPUs (developer.nvidia.com/cuda-gpus), because a board's CMake is often too old
# to ask the GPU itself, and llama.cpp's own list takes hours to compile.
_TEGRA_ARCHITECTURES = {"tegra210": 53, "tegra186": 62, "tegra194": 72, "tegra234": 87, "tegra264": 110}
_GPU_JOB_BYTES = 2 * 10**9  # what one compiler of GPU code may need, so that a board with little memory lives
_SILENCE_S = 3600.0  # one CUDA file may keep a small board busy for many minutes
_END_S = 20.0  # for make to clear away what it was making


def built_on_device(facts: DeviceFacts, gpus: Iterable[Gpu]) -> Path | None:
    """The program last asked for that such a device built from the sources of now for one of these GPUs."""
    found = [path for gpu in gpus for path in _folder().glob(f"{_stem(facts, gpu)}-*")]
    return max(found, key=lambda p: p.stat().st_mtime_ns) if found else None


def build_on_device(driver: ShellDriver, gpu: Gpu = "auto", progress: Progress | None = None) -> Path:
    """The runner built with the device's own compilers, made where it is not there yet; minutes, or an hour for CUDA.

    Args:
        driver: the device, which nothing else uses for that time.
        gpu: "auto" is CUDA where the device has its GPU and compiler, else none.
        progress: told of steps done and steps in all.

    Raises:
        RunnerError: the device lacks a tool, or the build fails; the first error is in the message.
        DeviceError: the device refuses or is gone.
    """
    facts, tools = driver.facts(), look(driver)
    chosen: Gpu = gpu if gpu != "auto" else "cuda" if tools.nvcc and tools.nvidia else "none"
    flags = _flags(tools, chosen)
    identity = hashlib.sha256(repr((tools.needed(flags), flags)).encode()).hexdigest()[:8]
    binary = _folder() / f"{_stem(facts, chosen)}-{identity}"
    try:
        if binary.exists():
            os.utime(binary)  # the one last asked for is the one taken
        else:
            tools.require(flags)
            _build(driver, f"{ON_DEVICE}-{SHA256[:12]}-{identity}", flags, _jobs(tools, flags), binary, progress)
    except OSError as e:
        raise cannot_write(_folder(), e) from e
    return binary


def _build(
    driver: ShellDriver, name: str, flags: tuple[str, ...], jobs: int, binary: Path, progress: Progress | None
) -> None:
    show = progress or (lambda done, total: None)
    show(0, 100)
    archive, place = source_archive(), f"{driver.work_folder}/{name}"
    with build_log(ON_DEVICE, show, name) as log:
        script = build_script(place, driver.push(archive).device_path, archive.sha256, flags, jobs)
        log.begin(script)
        _run(driver.shell(script), log)
    arrived = binary.with_name(f".{binary.name}-{os.getpid()}")
    try:
        driver.pull(f"{place}/build/melt-runner", arrived)
        arrived.chmod(0o755)
        arrived.replace(binary)
    finally:
        arrived.unlink(missing_ok=True)


def _run(process: Process, log: BuildLog) -> None:
    try:
        while (line := process.next_line(_SILENCE_S)) is not None:
            log.take(line)
        status = process.wait(_SILENCE_S)
    except TimeoutError as e:
        raise RunnerError(f"{ON_DEVICE}: the build is stuck: {e}", "Look at the device; then build it again.") from e
    finally:
        process.end_of_input()  # which the script takes as the end of its host
        with contextlib.suppress(TimeoutError):
            process.wait(_END_S)
        process.kill()
    if not status.ok:
        raise log.failure(f"{status} {process.stderr()}".strip())


def source_archive() -> DeviceFile:
    """The runner's sources with llama.cpp's, as a .tar.gz that is the same bytes for the same sources."""
    path = cache_folder() / "toolchain" / f"source-{sources_digest().hex()[:12]}-{SHA256[:12]}.tar.gz"
    if not path.exists():
        out = io.BytesIO()
        with gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
            for source in native_sources():
                _add(tar, f"native/{source.name}", source)
            llama = llama_source()
            for source in sorted(p for p in llama.rglob("*") if p.is_file()):
                _add(tar, f"llama.cpp/{source.relative_to(llama).as_posix()}", source)
        write_whole(path, out.getvalue())
    content = path.read_bytes()
    return DeviceFile(path.name, path, hashlib.sha256(content).hexdigest(), len(content))


def _add(tar: tarfile.TarFile, name: str, source: Path) -> None:
    entry = tarfile.TarInfo(name)
    content = source.read_bytes()
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _folder() -> Path:
    return cache_folder() / "runners"


def _stem(facts: DeviceFacts, gpu: Gpu) -> str:
    """Names the GPU, the kind of device and the sources: a program is good for any device of one kind and system."""
    kind = (facts.machine, facts.soc, facts.product, facts.os_build, facts.cpu_features)
    board = hashlib.sha256(repr(kind).encode()).hexdigest()[:12]
    sources = hashlib.sha256(sources_digest() + SHA256.encode()).hexdigest()[:12]
    return f"melt-runner-{ON_DEVICE}-{gpu}-{board}-{sources}"


def _flags(tools: DeviceTools, gpu: Gpu) -> tuple[str, ...]:
    target = ON_DEVICE if gpu == "none" else f"{ON_DEVICE} {gpu}"
    flags = ["-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", f"-DMELT_TARGET={target}", *PROVENANCE]
    if tools.amx:
        flags += NO_AMX
    if gpu == "cuda":
        flags += ["-DGGML_CUDA=ON", f"-DCMAKE_CUDA_COMPILER={tools.nvcc or 'nvcc'}"]
        if tools.tegra in _TEGRA_ARCHITECTURES:
            flags.append(f"-DCMAKE_CUDA_ARCHITECTURES={_TEGRA_ARCHITECTURES[tools.tegra]}")
    if gpu == "vulkan":
        flags.append("-DGGML_VULKAN=ON")
    return tuple(flags)


def _jobs(tools: DeviceTools, flags: tuple[str, ...]) -> int:
    jobs = max(1, tools.cores)
    if "-DGGML_CUDA=ON" in flags and tools.ram_bytes:
        jobs = max(1, min(jobs, tools.ram_bytes // _GPU_JOB_BYTES))
    return jobs
