"""What the native runner can be built for, and which of it a device takes."""

from dataclasses import dataclass
from typing import Literal

from melt.errors import RunnerError
from melt.spec.facts import DeviceFacts
from melt.util.yaml import did_you_mean

ON_DEVICE = "on-device"  # built elsewhere than here, so no target of the table below
STATIC = ("-DBUILD_SHARED_LIBS=OFF", "-DGGML_NATIVE=OFF", "-DGGML_OPENMP=OFF")
# For a build by a processor's own features: on virtual machines with AMX, llama.cpp dies of it.
_NO_AMX_WORDS = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
NO_AMX = (f"-DCMAKE_C_FLAGS={_NO_AMX_WORDS}", f"-DCMAKE_CXX_FLAGS={_NO_AMX_WORDS}")


@dataclass(frozen=True)
class Target:
    """One kind of device. ``triple`` and ``cpu`` are zig's words; ``needs`` are CPU features as Linux names them."""

    name: str
    what: str
    compiler: Literal["host", "zig", "ndk"]
    triple: str = ""
    cpu: str = ""
    cmake: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


def _musl(name: str, what: str, triple: str, cpu: str, needs: tuple[str, ...] = ()) -> Target:
    system = (
        "-DCMAKE_SYSTEM_NAME=Linux",
        f"-DCMAKE_SYSTEM_PROCESSOR={triple.partition('-')[0]}",
    )
    return Target(name, what, "zig", triple, cpu, (*STATIC, *system), needs)


def _android(suffix: str, what: str, *options: str) -> Target:
    android = ("-DANDROID_ABI=arm64-v8a", "-DANDROID_PLATFORM=android-28", "-DANDROID_STL=c++_static")
    arch = "-DGGML_CPU_ARM_ARCH=armv8.2-a+dotprod+fp16"
    return Target(f"android-arm64{suffix}", what, "ndk", cmake=(*STATIC, *android, arch, *options))


_ARM = "aarch64-linux-musl"
_V8_2 = ("asimddp", "asimdhp")  # dot products and half precision: Cortex-A55, A75 and newer
_TARGETS = (
    Target("host", "this machine: links llama-cpp-python's libraries where they are installed", "host"),
    _musl(
        "linux-x86_64-musl",
        "any x86-64 Linux with AVX2, static",
        "x86_64-linux-musl",
        "x86_64_v3",
        ("avx2", "fma", "f16c", "bmi2"),
    ),
    _musl(
        "linux-aarch64-musl-i8mm",
        "Android phones and boards since about 2021 (Armv8.6), static",
        _ARM,
        "generic+v8_2a+dotprod+fullfp16+i8mm",
        (*_V8_2, "i8mm"),
    ),
    _musl(
        "linux-aarch64-musl",
        "Android phones and boards with dot products (Armv8.2: Jetson Orin, Raspberry Pi 5), static",
        _ARM,
        "generic+v8_2a+dotprod+fullfp16",
        _V8_2,
    ),
    _musl("linux-aarch64-musl-v8", "any 64-bit Arm Linux (Raspberry Pi 4), static", _ARM, "generic"),
    _android("", "Android by the NDK: CPU"),
    _android("-vulkan", "Android by the NDK: CPU and Vulkan", "-DGGML_VULKAN=ON"),
    _android("-opencl", "Android by the NDK: CPU and OpenCL", "-DGGML_OPENCL=ON"),
    _android("-hexagon", "Android by the NDK: CPU and Hexagon NPU", "-DGGML_HEXAGON=ON"),
)
TARGETS = {t.name: t for t in _TARGETS}


def find_target(name: str) -> Target:
    """The target of this name.

    Raises:
        RunnerError: there is none.
    """
    if name not in TARGETS:
        raise RunnerError(
            f"no target {name!r}{did_you_mean(name, (*TARGETS, ON_DEVICE))}",
            "`melt runner list` shows what can be built.",
        )
    return TARGETS[name]


def target_for(facts: DeviceFacts) -> Target:
    """The best CPU build for a device: this machine's own, or the static one whose features it has.

    Raises:
        RunnerError: no target is for such a machine.
    """
    if facts.is_host:
        return TARGETS["host"]
    has = frozenset(facts.cpu_features)
    for target in TARGETS.values():
        if target.compiler == "zig" and target.triple.startswith(f"{facts.machine}-") and has.issuperset(target.needs):
            return target
    raise RunnerError(
        f"no native runner for {facts.machine} with the CPU features that this device tells",
        f"It may build its own: melt runner build {ON_DEVICE} --device NAME",
    )


def phone_gpu_target(facts: DeviceFacts) -> Target:
    """The NDK build for a phone's GPU: OpenCL where llama.cpp has kernels for it, which is on Adreno, else Vulkan."""
    libraries = facts.extra.get("accelerator_libraries", "")
    adreno = "libOpenCL.so" in libraries and "vulkan.adreno.so" in libraries
    return TARGETS["android-arm64-opencl" if adreno else "android-arm64-vulkan"]


def has_target(facts: DeviceFacts) -> bool:
    """Whether melt can build for such a device."""
    try:
        target_for(facts)
    except RunnerError:
        return False
    return True
