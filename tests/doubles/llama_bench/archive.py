"""A release archive of llama.cpp, as its makers pack them: a stock llama-bench and its shared libraries.

Made from the source inside the pinned llama-cpp-python and the libraries of the installed wheel.
"""

import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Literal

from melt.toolchain.compilers import installed_libraries, program
from melt.toolchain.source import SHA256, llama_source
from tests.conftest import KEPT_BUILDS

HERE = Path(__file__).parent
FOLDER = "llama-b1"
LOADERS = {"glibc": b"/lib64/ld-linux-x86-64.so.2", "android": b"/system/bin/linker64"}


def llama_bench() -> Path:
    """The program, compiled the first time in some two minutes."""
    libraries = installed_libraries()
    known = [(HERE / "CMakeLists.txt").read_text(), SHA256, *(f"{p} {p.stat().st_mtime_ns}" for p in libraries)]
    folder = KEPT_BUILDS / "llama-bench" / hashlib.sha256("\n".join(known).encode()).hexdigest()[:12]
    built = folder / "llama-bench"
    if not built.exists():
        where = [f"-DLLAMA_CPP_DIR={llama_source()}", f"-DLLAMA_LIB_DIR={libraries[0].parent}"]
        tools = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={program('ninja')}", "-DCMAKE_BUILD_TYPE=Release"]
        configure = [program("cmake"), "--fresh", "-S", str(HERE), "-B", str(folder), *tools, *where]
        for command in (configure, [program("ninja"), "-C", str(folder), "llama-bench"]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return built


def release_archive(path: Path, system: Literal["glibc", "android"] = "glibc", program: Path | None = None) -> Path:
    """The archive, for this machine or for a phone in a box; the two differ in the program's loader.

    ``program`` stands in for llama-bench where a test only handles the archive and compiles nothing for it.
    """
    content = (program or llama_bench()).read_bytes()
    wanted = LOADERS[system].ljust(len(LOADERS["glibc"]), b"\0")
    assert content.count(LOADERS["glibc"] + b"\0") == 1
    content = content.replace(LOADERS["glibc"] + b"\0", wanted + b"\0")
    libraries = {p.name: p for p in installed_libraries()[0].parent.glob("lib*.so*") if "mtmd" not in p.name}
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        _add(tar, "llama-bench", content, 0o755)
        _add(tar, "LICENSE", b"MIT\n")
        for name, library in libraries.items():
            longest = max((n for n in libraries if n.startswith(f"{name}.")), key=len, default=None)
            if longest is None:
                _add(tar, name, library.read_bytes(), 0o755)
            else:
                link = tarfile.TarInfo(f"{FOLDER}/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, longest
                tar.addfile(link)
    return path


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(f"{FOLDER}/{name}")
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))


if __name__ == "__main__":
    os.environ["MELT_CACHE"] = str(KEPT_BUILDS)
    print(llama_bench())
