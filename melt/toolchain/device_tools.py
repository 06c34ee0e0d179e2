"""What a device has to build with, found over its shell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from melt.drivers.base import ShellDriver
from melt.errors import RunnerError

_LOOK_TIMEOUT_S = 30.0
# CUDA's folder is not on the path of a shell that is no login shell, as one over SSH is not.
_SCRIPT = r"""
say() { printf '%s=%s\n' "$1" "$2"; }
first_line() { command -v "$1" > /dev/null 2>&1 && "$@" 2> /dev/null | head -n 1; }
say cmake "$(first_line cmake --version)"
say c++ "$(first_line c++ --version)"
say make "$(first_line make --version)"
say glslc "$(first_line glslc --version)"
for nvcc in "$(command -v nvcc)" /usr/local/cuda/bin/nvcc /opt/cuda/bin/nvcc; do
  [ -x "$nvcc" ] && say nvcc_path "$nvcc" && say nvcc "$("$nvcc" --version | sed -n 's/.*release //p')" && break
done
say cores "$(nproc 2> /dev/null)"
say ram_kb "$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)"
say amx "$(grep -m1 -o amx_tile /proc/cpuinfo)"
say tegra "$(tr '\0' '\n' 2> /dev/null < /proc/device-tree/compatible | grep -o 'tegra[0-9]*' | head -n 1)"
"""
# On a Jetson; elsewhere CUDA's compiler is Debian's nvidia-cuda-toolkit, or NVIDIA's own.
_PACKAGES = {"cmake": "cmake", "c++": "g++", "make": "make", "glslc": "glslc", "nvcc": "nvidia-jetpack"}
_ALWAYS = ("cmake", "c++", "make")
_NEEDED_FOR = {"-DGGML_VULKAN=ON": "glslc", "-DGGML_CUDA=ON": "nvcc"}


@dataclass(frozen=True)
class DeviceTools:
    """Versions by tool, those that are there; the CUDA compiler's path; what limits a build."""

    versions: Mapping[str, str]
    nvcc: str | None
    cores: int
    ram_bytes: int | None
    tegra: str | None
    amx: bool

    def needed(self, flags: Sequence[str]) -> dict[str, str | None]:
        """The version of every tool that a build with these flags uses; None where it is missing."""
        names = (*_ALWAYS, *(tool for flag, tool in _NEEDED_FOR.items() if flag in flags))
        return {name: self.versions.get(name) for name in names}

    def require(self, flags: Sequence[str]) -> None:
        """Raises RunnerError where a tool is missing, with the packages that hold it."""
        missing = [tool for tool, version in self.needed(flags).items() if version is None]
        if missing:
            raise RunnerError(
                f"the device lacks what a build needs: {', '.join(missing)}",
                f"On it: sudo apt-get install {' '.join(_PACKAGES[tool] for tool in missing)}",
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
                said[name] = value.strip()
    except TimeoutError as e:
        raise RunnerError("the device's shell does not answer", "Try `melt doctor --device NAME`.") from e
    finally:
        process.kill()
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
        amx="amx" in said,
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 16
