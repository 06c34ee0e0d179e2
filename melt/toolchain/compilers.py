"""The compilers of the targets: this machine's own, zig's, and an Android NDK."""

import os
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from melt.errors import RunnerError
from melt.toolchain.source import PROVENANCE, SHA256, llama_source
from melt.toolchain.targets import NO_AMX, Target
from melt.util.files import write_whole

INSTALL = "Install melt's build tools: pip install 'melt-bench[build]'"
_SOURCE = f"llama.cpp {SHA256} {PROVENANCE}"
_NDK_TOOLCHAIN = "build/cmake/android.toolchain.cmake"
_NDK_VARIABLES = ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT", "ANDROID_NDK")
# Passes everything on but ggml's own choice of instruction set, which zig spells in another way. Always optimising and
# stripping lets zig make its C++ library once: for CMake's trial programs it would else make another, in minutes.
_WRAPPER = """#!/bin/sh
for word; do
  shift
  case "$word" in -march=*|-mcpu=*) ;; *) set -- "$@" "$word" ;; esac
done
exec {zig} {tool} -target {triple} -mcpu={cpu} -O3 -s "$@"
"""
_PLAIN = """#!/bin/sh
exec {zig} {tool} "$@"
"""


def program(name: str) -> str:
    """A build tool: the environment's own, or the system's.

    Raises:
        RunnerError: it is not installed.
    """
    own = Path(sys.executable).parent
    found = shutil.which(name, path=os.pathsep.join([str(own), os.environ.get("PATH", "")]))
    if found is None:
        raise RunnerError(f"{name} is not installed", INSTALL)
    return found


def identity(target: Target) -> str:
    """What decides whether a build is still good; found without fetching or making anything.

    Raises:
        RunnerError: the compiler is not there.
    """
    if target.compiler == "zig":
        return f"zig {_zig_version()} {_WRAPPER} {_SOURCE}"
    if target.compiler == "ndk":
        ndk = _ndk()
        return f"ndk {ndk} {(ndk / 'source.properties').read_text(errors='replace')} {_SOURCE}"
    libraries = installed_libraries()
    llama = " ".join(f"{p} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in libraries) or _SOURCE
    return f"{_cxx_version()} {llama}"


def definitions(target: Target, folder: Path) -> tuple[str, ...]:
    """CMake's definitions of the target's compiler and of where llama.cpp is: its source, or libraries that are there.

    Wrapper scripts that the compiler needs are written to ``folder``; the source is fetched where it is not here yet.

    Raises:
        RunnerError: the compiler or llama.cpp's source is not there.
    """
    if target.compiler == "zig":
        return *_zig(target, folder), *_from_source()
    if target.compiler == "ndk":
        return f"-DCMAKE_TOOLCHAIN_FILE={_ndk() / _NDK_TOOLCHAIN}", *_from_source()
    libraries = installed_libraries()
    if not libraries:
        cpuinfo = Path("/proc/cpuinfo")
        amx = cpuinfo.exists() and "amx_tile" in cpuinfo.read_text(errors="replace")
        return *_from_source(), "-DBUILD_SHARED_LIBS=OFF", *(NO_AMX if amx else ())
    lib = libraries[0].parent
    return f"-DLLAMA_LIB_DIR={lib}", f"-DLLAMA_INCLUDE_DIR={lib.parent.parent / 'include'}"


def _from_source() -> tuple[str, ...]:
    return f"-DLLAMA_CPP_DIR={llama_source()}", *PROVENANCE


def installed_libraries() -> list[Path]:
    """llama-cpp-python's shared libraries in this environment; none where it is not installed."""
    spec = find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return []
    lib = Path(spec.origin).parent / "lib"
    found = [lib / f"lib{name}.so" for name in ("llama", "ggml", "ggml-base", "ggml-cpu")]
    headers = lib.parent.parent / "include" / "llama.h"
    return found if headers.exists() and all(p.exists() for p in found) else []


def _cxx_version() -> str:
    try:
        cxx = shlex.split(os.environ.get("CXX") or "c++")
    except ValueError as e:
        raise RunnerError(f"CXX={os.environ.get('CXX')}: {e}", "Set CXX to a C++ compiler, or to nothing.") from e
    try:
        done = subprocess.run([*cxx, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError) as e:
        raise RunnerError(
            f"no C++ compiler: {cxx[0]} cannot be started", "On Debian: apt-get install g++. Or set CXX."
        ) from e
    return done.stdout.splitlines()[0] if done.stdout else cxx[0]


def _zig_version() -> str:
    try:
        return version("ziglang")
    except PackageNotFoundError as e:
        raise RunnerError("zig, the cross compiler, is not installed", INSTALL) from e


def _zig(target: Target, folder: Path) -> tuple[str, ...]:
    spec = find_spec("ziglang")
    if spec is None or spec.origin is None:
        raise RunnerError("zig, the cross compiler, is not installed", INSTALL)
    zig = shlex.quote(str(Path(spec.origin).with_name("zig")))
    scripts = {
        "cc": _WRAPPER.format(zig=zig, tool="cc", triple=target.triple, cpu=target.cpu),
        "c++": _WRAPPER.format(zig=zig, tool="c++", triple=target.triple, cpu=target.cpu),
        "ar": _PLAIN.format(zig=zig, tool="ar"),
        "ranlib": _PLAIN.format(zig=zig, tool="ranlib"),
    }
    for name, text in scripts.items():
        write_whole(folder / name, text.encode())
        (folder / name).chmod(0o755)
    roles = {"C_COMPILER": "cc", "CXX_COMPILER": "c++", "ASM_COMPILER": "cc", "AR": "ar", "RANLIB": "ranlib"}
    return tuple(f"-DCMAKE_{role}={folder / script}" for role, script in roles.items())


def _ndk() -> Path:
    given = {name: os.environ[name] for name in _NDK_VARIABLES if os.environ.get(name)}
    for name, text in given.items():
        folder = Path(text)
        if not all((folder / f).is_file() for f in (_NDK_TOOLCHAIN, "source.properties")):
            raise RunnerError(f"{name}={text}: no Android NDK is there", "Name the folder that holds build/cmake.")
        return folder
    raise RunnerError(
        "no Android NDK: ANDROID_NDK_HOME is not set",
        "Set it to the NDK's folder, or bring a llama.cpp of your own: melt runner add ARCHIVE. "
        "For the CPU alone no NDK is needed: melt runner build linux-aarch64-musl",
    )
