"""A build on the device itself, over its shell, for a GPU whose compiler is only there: CUDA on a Jetson.

The sources travel as one archive, skipped where it is already there; the program comes back to the host and is kept
for every device of the same kind and system.
"""

import gzip
import hashlib
import io
import shlex
import tarfile
from pathlib import Path
from typing import Literal

from melt.drivers.base import DeviceFile, Progress, ShellDriver
from melt.errors import RunnerError
from melt.facts import DeviceFacts
from melt.ondevice import native_sources
from melt.paths import cache_folder, write_whole
from melt.toolchain.build import sources_digest
from melt.toolchain.build_log import BuildLog, build_log
from melt.toolchain.device_tools import DeviceTools, look
from melt.toolchain.source import SHA256, cannot_write, llama_source
from melt.toolchain.targets import NO_AMX

NAME = "on-device"
Gpu = Literal["auto", "none", "cuda", "vulkan"]
GPUS: tuple[Gpu, ...] = ("auto", "none", "cuda", "vulkan")
SILENCE_S = 3600.0  # one CUDA file may keep a small board busy for many minutes
# Compute capabilities of the boards' GPUs (developer.nvidia.com/cuda-gpus), because a board's CMake is often too old
# to ask the GPU itself, and llama.cpp's own list takes hours to compile.
_TEGRA_ARCHITECTURES = {"tegra210": 53, "tegra186": 62, "tegra194": 72, "tegra234": 87, "tegra264": 110}
_GPU_JOB_BYTES = 2 * 10**9  # what one compiler of GPU code may need, so that a board with little memory lives


def built_on_device(facts: DeviceFacts) -> Path | None:
    """The newest program that was built on such a device from the sources of now; None where there is none."""
    found = list(_folder().glob(f"{_stem(facts)}-*"))
    return max(found, key=lambda p: p.stat().st_mtime_ns) if found else None


def build_on_device(driver: ShellDriver, gpu: Gpu = "auto", progress: Progress | None = None) -> Path:
    """The runner built with the device's own compilers, made where it is not there yet; minutes, or an hour for CUDA.

    Args:
        driver: the device, which nothing else uses for that time.
        gpu: "auto" is CUDA where its compiler is there, else none.
        progress: told of steps done and steps in all.

    Raises:
        RunnerError: the device lacks a tool, or the build fails; the first error is in the message.
        DeviceError: the device refuses or is gone.
    """
    facts, tools = driver.facts(), look(driver)
    flags = _flags(tools, gpu)
    identity = hashlib.sha256(repr((tools.needed(flags), flags)).encode()).hexdigest()[:8]
    place = f"{driver.work_folder}/{NAME}-{SHA256[:12]}-{identity}"
    binary = _folder() / f"{_stem(facts)}-{identity}"
    if not binary.exists():
        tools.require(flags)
        try:
            archive = source_archive()
            with build_log(NAME, progress or (lambda done, total: None)) as log:
                packed = driver.push(archive).device_path
                _run(driver, _script(place, packed, archive.sha256, flags, _jobs(tools, flags)), log)
            driver.pull(f"{place}/build/melt-runner", binary)
            binary.chmod(0o755)
        except OSError as e:
            raise cannot_write(_folder(), e) from e
    return binary


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


def _stem(facts: DeviceFacts) -> str:
    """Names the kind of device and the sources: a program is good for any device of one kind and system."""
    kind = (facts.machine, facts.soc, facts.product, facts.os_build, facts.cpu_features)
    board = hashlib.sha256(repr(kind).encode()).hexdigest()[:12]
    return f"melt-runner-{NAME}-{board}-{hashlib.sha256(sources_digest() + SHA256.encode()).hexdigest()[:12]}"


def _flags(tools: DeviceTools, gpu: Gpu) -> tuple[str, ...]:
    chosen = ("cuda" if tools.nvcc else "none") if gpu == "auto" else gpu
    target = NAME if chosen == "none" else f"{NAME} {chosen}"
    flags = ["-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", f"-DMELT_TARGET={target}"]
    if tools.amx:
        flags += NO_AMX
    if chosen == "cuda":
        flags += ["-DGGML_CUDA=ON", f"-DCMAKE_CUDA_COMPILER={tools.nvcc or 'nvcc'}"]
        if tools.tegra in _TEGRA_ARCHITECTURES:
            flags.append(f"-DCMAKE_CUDA_ARCHITECTURES={_TEGRA_ARCHITECTURES[tools.tegra]}")
    if chosen == "vulkan":
        flags.append("-DGGML_VULKAN=ON")
    return tuple(flags)


def _jobs(tools: DeviceTools, flags: tuple[str, ...]) -> int:
    jobs = max(1, tools.cores)
    if "-DGGML_CUDA=ON" in flags and tools.ram_bytes:
        jobs = max(1, min(jobs, tools.ram_bytes // _GPU_JOB_BYTES))
    return jobs


def _script(place: str, packed: str, sha256: str, flags: tuple[str, ...], jobs: int) -> str:
    """Unpacks what is new and builds; what an earlier build made of the same llama.cpp is used again."""
    configure = shlex.join(["cmake", "-S", "source/native", "-B", "build", "-DLLAMA_CPP_DIR=../llama.cpp", *flags])
    return f"""set -e
exec 2>&1
mkdir -p {shlex.quote(place)}
cd {shlex.quote(place)}
if [ "$(cat source/unpacked 2> /dev/null)" != {sha256} ]; then
  rm -rf new
  mkdir new
  tar -xzmf {shlex.quote(packed)} -C new
  if [ -e source/unpacked ]; then rm -rf source/native; mv new/native source/native
  else rm -rf source; mv new source; fi
  rm -rf new
  echo {sha256} > source/unpacked
fi
{configure}
cmake --build build --target melt-runner -j {jobs}
"""


def _run(driver: ShellDriver, script: str, log: BuildLog) -> None:
    log.begin(script)
    process = driver.shell(script)
    try:
        while (line := process.next_line(SILENCE_S)) is not None:
            log.take(line)
        status = process.wait(SILENCE_S)
    except TimeoutError as e:
        raise RunnerError(f"{NAME}: the build is stuck: {e}", "Look at the device; then build it again.") from e
    finally:
        process.kill()
    if not status.ok:
        raise log.failure()
