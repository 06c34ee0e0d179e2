"""What a device has to build with, found over its shell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from melt.drivers.base import ShellDriver
from melt.errors import RunnerError

_LOOK_TIMEOUT_S = 30.0
_MAX_CHARS = 300
_HINT = "Try `melt doctor --device NAME`."
# CUDA's folder is not on the path of a shell that is no login shell, as one over SSH is not.
_SCRIPT = r"""
say() { printf '%s=%s\n' "$1" "$2"; }
first_line() { command -v "$1" > /dev/null 2>&1 && "$@" 2> /dev/null | head -n 1; }
say cmake "$(first_line cmake --version)"
say c++ "$(first_line c++ --version)"
say make "$(first_line make --version)"
say tar "$(command -v tar)"
say glslc "$(first_line glslc --version)"
for nvcc in "$(command -v nvcc)" /usr/local/cuda/bin/nvcc /opt/cuda/bin/nvcc; do
  [ -x "$nvcc" ] && say nvcc_path "$nvcc" && say nvcc "$("$nvcc" --version | sed -n 's/.*release //p')" && break
done
say cores "$(nproc 2> /dev/null)"
say ram_kb "$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)"
say amx "$(grep -m1 -o amx_tile /proc/cpuinfo)"
for gpu in /dev/nvidia0 /dev/nvhost-gpu /dev/nvgpu; do [ -e "$gpu" ] && say nvidia "$gpu" && break; done
say CPATH "$CPATH"
say tegra "$(tr '\0' '\n' 2> /dev/null < /proc/device-tree/compatible | grep -o 'tegra[0-9]*' | head -n 1)"
say end 1
"""
# By tool, Debian's packages; what Vulkan's build needs beside the tool goes with it.
_PACKAGES = {
    "cmake": "cmake",
    "c++": "g++",
    "make": "make",
    "tar": "tar",
    "nvcc": "nvidia-cuda-toolkit",
    "glslc": "glslc spirv-headers libvulkan-dev",
}
_ALWAYS = ("cmake", "c++", "make", "tar")
CUDA_FLAGS = ("-DGGML_CUDA=ON",)
_NEEDED_FOR = {"-DGGML_VULKAN=ON": "glslc", "-DGGML_CUDA=ON": "nvcc"}


@dataclass(frozen=True)
class DeviceTools:
    """What a build uses and what limits it.

    Attributes:
        versions: by tool, those that are there.
        nvcc: the CUDA compiler's path.
        nvidia: whether there is a GPU of NVIDIA's.
        cpath: where else the compilers look for headers.
        tegra: the board's chip, where it is a Jetson.
        amx: whether the processor has AMX.
    """

    versions: Mapping[str, str]
    nvcc: str | None
    nvidia: bool
    cpath: str
    cores: int
    ram_bytes: int | None
    tegra: str | None
    amx: bool

    def needed(self, flags: Sequence[str]) -> dict[str, str | None]:
        """The version of every tool that a build with these flags uses; None where it is missing."""
        names = (*_ALWAYS, *(tool for flag, tool in _NEEDED_FOR.items() if flag in flags))
        return {name: self.versions.get(name) for name in names} | {"CPATH": self.cpath}

    def require(self, flags: Sequence[str]) -> None:
        """Raises RunnerError where a tool is missing, with the packages that hold it."""
        missing = [tool for tool, version in self.needed(flags).items() if version is None]
        if missing:
            packages = [_PACKAGES[tool] for tool in missing]
            if self.tegra:
                packages = [name.replace("nvidia-cuda-toolkit", "nvidia-jetpack") for name in packages]
            raise RunnerError(
                f"the device lacks what a build needs: {', '.join(missing)}",
                f"On it: sudo apt-get install {' '.join(packages)}",
            )


def look(driver: ShellDriver) -> DeviceTools:
    """Asks the device.

    Raises:
        RunnerError: its shell does not answer.
    """
    process = driver.shell(_SCRIPT)
    said: dict[str, str] = {}
    try:
        while (line := process.next_line(_LOOK_TIMEOUT_S)) is not None:
            name, _, value = line.partition("=")
            if value.strip():
                said[name] = value.strip()[:_MAX_CHARS]
    except TimeoutError as e:
        raise RunnerError("the device's shell does not answer", _HINT) from e
    finally:
        process.kill()
    if "end" not in said:
        last = (process.stderr().strip().splitlines() or ["it said nothing"])[-1][:_MAX_CHARS]
        raise RunnerError(f"the device's shell does not answer: {last}", _HINT)
    return parse(said)


def parse(said: Mapping[str, str]) -> DeviceTools:
    """From what the script said; whatever is odd counts as not said."""
    nvcc, ram_kb = said.get("nvcc_path", ""), said.get("ram_kb", "")
    return DeviceTools(
        versions={k: said[k] for k in _PACKAGES if k in said},
        nvcc=nvcc if nvcc.startswith("/") else None,
        cores=int(said["cores"]) if _is_number(said.get("cores", "")) else 1,
        ram_bytes=int(ram_kb) * 1024 if _is_number(ram_kb) else None,
        tegra=said.get("tegra"),
        nvidia="nvidia" in said or "tegra" in said,
        cpath=said.get("CPATH", ""),
        amx="amx" in said,
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 16
