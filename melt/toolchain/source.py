"""llama.cpp's source, out of the pinned llama-cpp-python: fetched from the package index, verified by hash, kept."""

import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from melt.errors import RunnerError
from melt.util.files import cache_folder
from melt.util.locks import one_at_a_time
from melt.util.pypi import FetchError, fetch

PACKAGE, VERSION = "llama-cpp-python", "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
_LIMIT_BYTES = 512 * 2**20  # it has 67 MiB
# Else CMake names as llama.cpp's commit that of whatever repository the build's folder happens to be in.
PROVENANCE = ("-DGIT_EXE=OFF", f"-DLLAMA_BUILD_COMMIT={PACKAGE}-{VERSION}", "-DLLAMA_BUILD_NUMBER=0")
_INSIDE = PurePosixPath(f"llama_cpp_python-{VERSION}/vendor/llama.cpp")
# What a build of the library and of llama-bench reads.
_PARTS = ("CMakeLists.txt", "LICENSE", "cmake", "common", "ggml", "include", "src", "tools", "vendor")


def llama_source() -> Path:
    """The folder of llama.cpp's source, fetched the first time.

    Raises:
        RunnerError: it cannot be fetched, or is not what it should be.
    """
    folder = cache_folder() / "toolchain" / f"llama.cpp-{SHA256[:12]}"
    if folder.is_dir():
        return folder
    try:
        return _fetch(folder)
    except OSError as e:
        raise cannot_write(folder, e) from e


def _fetch(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = one_at_a_time(folder.with_name(f"{folder.name}.lock"))
    with lock, tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as made:
        if not folder.is_dir():
            _unpack(_download(Path(made)), Path(made) / "source")
            (Path(made) / "source").rename(folder)
    return folder


def _download(folder: Path) -> Path:
    try:
        return fetch(PACKAGE, VERSION, folder, source=True, limit_bytes=_LIMIT_BYTES, sha256=SHA256)
    except FetchError as e:
        raise RunnerError(
            f"llama.cpp's source cannot be fetched ({PACKAGE}=={VERSION}): {e}",
            "Check the network (or pip's index setting). Once fetched it is kept, and builds need no network.",
        ) from e


def _unpack(archive: Path, folder: Path) -> None:
    """Only what a build reads, plain files all, and nothing outside the folder.

    By hand, because Python 3.11.2, which Debian 12 has, does not yet know the filters of ``tarfile``.
    """
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if not path.is_relative_to(_INSIDE) or path == _INSIDE:
                continue
            inside = path.relative_to(_INSIDE)
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None and inside.parts[0] in _PARTS and ".." not in inside.parts:
                (folder / inside).parent.mkdir(parents=True, exist_ok=True)
                with content, (folder / inside).open("wb") as out:
                    shutil.copyfileobj(content, out)
    if not (folder / "CMakeLists.txt").exists():
        shutil.rmtree(folder, ignore_errors=True)
        raise RunnerError(f"{archive.name} holds no llama.cpp", "This is a fault of melt's pinned version.")


def cannot_write(folder: Path, error: OSError) -> RunnerError:
    """What to tell where the cache cannot be written, or has no room."""
    return RunnerError(
        f"{error.filename or folder}: {error.strerror}",
        "Free some space, or set MELT_CACHE to a folder that can be written.",
    )
